//! Asks a person before something that cannot be taken back.

use std::io::{IsTerminal, Write};

use super::{Exit, Failure};

/// Asks `question` and waits for an answer; anything but yes is no. `--yes` answers for scripts.
///
/// # Errors
/// Without a terminal to ask at and without `--yes`.
#[expect(clippy::print_stderr, reason = "the question must not end up in piped output")]
pub(super) fn confirm(question: &str, yes: bool) -> Result<bool, Failure> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(Exit::Usage, format_args!("{question}\nThere is no terminal to ask at; add --yes to do it")));
    }
    eprint!("{question} [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    Ok(read.is_ok() && is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        assert!(is_yes("y\n") && is_yes(" YES "));
        for no in ["", "\n", "n", "yep", "oui"] {
            assert!(!is_yes(no), "{no}");
        }
    }
}
