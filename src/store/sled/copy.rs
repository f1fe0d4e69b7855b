//! A plain copy of the suppression list beside the database: people who asked to get nothing more must not be forgotten with the ledger.
//!
//! One line each, `account number .`; the point says that the line is whole. Only ever appended to.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::job::{AccountName, Recipient};

const NAME: &str = "suppressed";

type Suppressed = (AccountName, Recipient);

/// Who stands in it; lines that are not whole are passed over.
pub(super) fn read(state_dir: &Path) -> io::Result<BTreeSet<Suppressed>> {
    match std::fs::read(state_dir.join(NAME)) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).lines().filter_map(parse).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(e) => Err(e),
    }
}

/// The open file.
#[derive(Debug)]
pub(super) struct Copy {
    file: File,
}

impl Copy {
    pub(super) fn open(state_dir: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().append(true).create(true).mode(0o600).open(state_dir.join(NAME))? })
    }

    /// Adds people; on disk when this returns.
    pub(super) fn append<'a>(&mut self, people: impl Iterator<Item = (&'a AccountName, Recipient)>) -> io::Result<()> {
        let mut lines = String::new();
        for (account, recipient) in people {
            // a line that was cut off ends where the next one begins
            let _ = write!(lines, "\n{account} {} .", recipient.number());
        }
        if lines.is_empty() {
            return Ok(());
        }
        self.file.write_all(lines.as_bytes())?;
        self.file.sync_data()
    }
}

fn parse(line: &str) -> Option<Suppressed> {
    let (account, number) = line.strip_suffix(" .")?.split_once(' ')?;
    Some((account.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_added_is_there_and_a_line_cut_off_or_damaged_suppresses_nobody() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap().is_empty());
        let account: AccountName = "main".parse().unwrap();
        let [a, b]: [Recipient; 2] = ["905321234567".parse().unwrap(), "905321234568".parse().unwrap()];
        let mut copy = Copy::open(dir.path()).unwrap();
        copy.append([(&account, a)].into_iter()).unwrap();
        copy.file.write_all(b"\nmain 905321234\nm\xffin 905321234569 .\n\xff").unwrap();
        let mut copy = Copy::open(dir.path()).unwrap();
        copy.append([(&account, b)].into_iter()).unwrap();
        assert_eq!(read(dir.path()).unwrap().into_iter().collect::<Vec<_>>(), [(account.clone(), a), (account, b)]);
    }
}
