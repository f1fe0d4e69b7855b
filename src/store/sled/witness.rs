//! What stands beside the database: a small file that says that there is a ledger, which one, and how far it had come.
//!
//! sled takes a log that lost its end for one that was cut off by a crash, and unreadable files for none. The witness knows better. It is
//! written after each commit and not waited for, so it may be behind the database after a power cut, but never ahead of it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::store::Mark;

const NAME: &str = "ledger.mark";
const TITLE: &str = "campaignd ledger 1";

/// The open file.
#[derive(Debug)]
pub(super) struct Witness {
    file: File,
}

impl Witness {
    /// Opens it, or makes one.
    pub(super) fn open(state_dir: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(state_dir.join(NAME))?;
        Ok(Self { file })
    }

    /// Takes down how far the ledger has come. Always the same length, so that it needs no room on a full disk.
    pub(super) fn write(&self, mark: Mark) -> io::Result<()> {
        self.file.write_all_at(line(mark).as_bytes(), 0)
    }

    /// From now on it is there, whatever happens.
    pub(super) fn sync(&self, state_dir: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        File::open(state_dir)?.sync_all()
    }
}

/// What it says; none when it is not there or makes no sense.
pub(super) fn read(state_dir: &Path) -> Option<Mark> {
    parse(&std::fs::read(state_dir.join(NAME)).ok()?)
}

fn line(mark: Mark) -> String {
    format!("{TITLE} {:016x} {:020}\n", mark.ledger, mark.commits)
}

fn parse(bytes: &[u8]) -> Option<Mark> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (ledger, commits) = text.strip_prefix(TITLE)?.trim().split_once(' ')?;
    let mark = Mark { ledger: u64::from_str_radix(ledger, 16).ok()?, commits: commits.parse().ok()? };
    // whatever else reads as numbers was not written here
    (line(mark) == text).then_some(mark)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_says_what_was_written_last(ledger: u64, commits: u64, before: u64) {
            let dir = tempfile::tempdir().unwrap();
            prop_assert_eq!(read(dir.path()), None);
            let witness = Witness::open(dir.path()).unwrap();
            let mark = Mark { ledger, commits };
            witness.write(Mark { ledger, commits: before }).unwrap();
            witness.write(mark).unwrap();
            witness.sync(dir.path()).unwrap();
            prop_assert_eq!(read(dir.path()), Some(mark));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            prop_assert_eq!(parse(&bytes), None);
        }
    }
}
