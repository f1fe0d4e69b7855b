//! What a check found, and how it is shown.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::cli::table::harmless;
use crate::config::Mistake;
use crate::exit::Exit;

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Finding {
    /// What was looked at.
    pub(super) what: String,
    /// How it is.
    pub(super) verdict: Verdict,
    /// What was seen.
    pub(super) detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) remedy: String,
    #[serde(skip)]
    exit: Exit,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// Allowed, but unwise or worth knowing.
    Note,
    /// Not as it should be.
    Wrong,
}

impl Finding {
    pub(super) fn fine(what: &str, detail: impl fmt::Display) -> Self {
        Self { what: what.into(), verdict: Verdict::Ok, detail: detail.to_string(), remedy: String::new(), exit: Exit::Ok }
    }

    pub(super) fn wrong(what: &str, detail: impl fmt::Display, remedy: &str, exit: Exit) -> Self {
        Self { what: what.into(), verdict: Verdict::Wrong, detail: detail.to_string(), remedy: remedy.into(), exit }
    }

    pub(super) fn mistake(what: &str, mistake: &Mistake) -> Self {
        Self::wrong(what, format_args!("{}: {}", mistake.place, mistake.what), &mistake.remedy, Exit::Config)
    }

    pub(super) fn note(what: &str, mistake: &Mistake) -> Self {
        Self { verdict: Verdict::Note, exit: Exit::Ok, ..Self::mistake(what, mistake) }
    }
}

/// Everything that was looked at.
#[derive(Debug, Default)]
pub(super) struct Report {
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// A wrong configuration goes before a service that cannot be reached, and that before the rest.
    pub(super) fn exit(&self) -> Exit {
        let found = |exit| self.findings.iter().any(|finding| finding.exit == exit);
        let worst = [Exit::Config, Exit::Unavailable].into_iter().find(|exit| found(*exit));
        worst.unwrap_or_else(|| if self.wrong() == 0 { Exit::Ok } else { Exit::Failed })
    }

    fn wrong(&self) -> usize {
        self.findings.iter().filter(|finding| finding.verdict == Verdict::Wrong).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.findings.iter().map(|finding| finding.what.chars().count()).max().unwrap_or_default();
        for Finding { what, verdict, detail, remedy, .. } in &self.findings {
            let mark = match verdict {
                Verdict::Ok => "ok   ",
                Verdict::Note => "note ",
                Verdict::Wrong => "WRONG",
            };
            let indent = " ".repeat(width + 9);
            let detail = harmless(detail).replace('\n', &format!("\n{indent}"));
            writeln!(f, "{mark}  {what:width$}  {detail}")?;
            if !remedy.is_empty() {
                writeln!(f, "{indent}{}", harmless(remedy))?;
            }
        }
        match self.wrong() {
            0 => f.write_str("\nAll well."),
            1 => f.write_str("\nOne thing is wrong."),
            n => write!(f, "\n{n} things are wrong."),
        }
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            ok: bool,
            exit_code: u8,
            findings: &'a [Finding],
        }
        Shown { ok: self.wrong() == 0, exit_code: self.exit() as u8, findings: &self.findings }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(exits: &[Exit]) -> Report {
        let mut report = Report::default();
        report.add(Finding::fine("first", "fine"));
        exits.iter().for_each(|exit| report.add(Finding::wrong("a longer one", "two\nlines\u{1b}[2J", "mend it", *exit)));
        report
    }

    #[test]
    fn the_worst_finding_gives_the_exit_code() {
        assert_eq!(report(&[]).exit(), Exit::Ok);
        assert_eq!(report(&[Exit::Failed]).exit(), Exit::Failed);
        assert_eq!(report(&[Exit::Failed, Exit::Unavailable]).exit(), Exit::Unavailable);
        assert_eq!(report(&[Exit::Unavailable, Exit::Config, Exit::Failed]).exit(), Exit::Config);
    }

    #[test]
    fn a_person_reads_a_column_of_marks() {
        insta::assert_snapshot!(report(&[Exit::Failed]), @r"
    ok     first         fine
    WRONG  a longer one  two
                         lines [2J
                         mend it

    One thing is wrong.
    ");
    }
}
