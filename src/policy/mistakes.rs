//! What is wrong with a rules file: every mistake with line and column, in the order of the file.

use std::fmt;

/// A mistake at a byte of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) at: usize,
    pub(super) text: String,
}

/// Every mistake in a rules file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    file_name: String,
    list: Vec<Mistake>,
}

impl std::error::Error for Mistakes {}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong, and what to write instead.
    pub text: String,
}

impl Mistakes {
    pub(super) fn new(file_name: &str, source: &str, mut found: Vec<Found>) -> Self {
        found.sort_by_key(|found| found.at);
        let list = found.into_iter().map(|found| place(source, found)).collect();
        Self { file_name: file_name.to_owned(), list }
    }

    /// The mistakes, in the order of the file.
    #[must_use]
    pub fn list(&self) -> &[Mistake] {
        &self.list
    }
}

fn place(source: &str, found: Found) -> Mistake {
    let mut at = found.at.min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    let before = source.get(..at).unwrap_or_default();
    let start_of_line = before.rfind('\n').map_or(0, |end| end + 1);
    Mistake {
        line: before.matches('\n').count() + 1,
        column: before.get(start_of_line..).unwrap_or_default().chars().count() + 1,
        text: found.text,
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{}:{}: {}", self.file_name, mistake.line, mistake.column, mistake.text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_within_a_character_is_the_character() {
        let found = |at| Found { at, text: "no".into() };
        let mistakes = Mistakes::new("p.toml", "a\nb€", vec![found(5), found(3), found(9)]);
        assert_eq!(mistakes.to_string(), "p.toml:2:2: no\np.toml:2:2: no\np.toml:2:3: no");
    }
}
