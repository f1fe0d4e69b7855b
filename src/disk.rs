//! What the store and the embedded broker share of sled: opening it without trusting it, one writer that shares flushes, byte fields.
//!
//! sled 0.34 panics as readily as it returns errors, keeps an error for good once it had one, and on Linux flushes without waiting for
//! the disk's own cache. All of that is dealt with here and nowhere else.

mod database;
pub(crate) mod fields;
mod group;
mod lock;
mod open;
mod slot;

#[cfg(test)]
pub(crate) use database::InjectedFault;
pub(crate) use database::{Database, LEAF_KEYS, WriteBatch, key_between, prefix_end};
pub(crate) use group::{Group, Written};
pub(crate) use lock::Lock;
pub(crate) use open::{move_aside, open_database, prepare_dir};
pub(crate) use slot::{Flush, Slot};

/// Why a write or a read on disk did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// No space, or the quota is used up.
    #[error("{0}")]
    Full(String),
    /// The disk or the file system failed, or did not answer in time.
    #[error("{0}")]
    Io(String),
    /// What was read cannot be right.
    #[error("{0}")]
    Damaged(String),
}

/// Why a directory with state could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another process works on it.
    #[error("{dir} is in use by another campaignd ({}); stop that one first, or give this one a state directory of its own", holder(*.by))]
    Locked {
        /// The directory.
        dir: String,
        /// The other's process id, when it can be told.
        by: Option<u32>,
    },
    /// A newer campaignd wrote it. It was left as it is.
    #[error(
        "{dir} was written by a newer campaignd (format {found}; this one knows up to {supported}): install that version, or use another state directory"
    )]
    Newer {
        /// The directory.
        dir: String,
        /// Its format.
        found: u64,
        /// The newest format this program knows.
        supported: u64,
    },
    /// It does not open, and it holds what exists nowhere else, so it was left as it is.
    #[error(
        "{dir} is damaged ({reason}); it holds jobs that exist nowhere else, so it was not touched. Restore it from a backup, or move it away \
         and enqueue again: the ledger still knows who got a message"
    )]
    Damaged {
        /// The directory.
        dir: String,
        /// What did not work.
        reason: String,
    },
    /// The file system said no.
    #[error("cannot open {dir}: {reason}; check that the directory is there, belongs to this user, and that the disk has space")]
    Io {
        /// The directory.
        dir: String,
        /// What did not work.
        reason: String,
    },
}

fn holder(by: Option<u32>) -> String {
    by.map_or_else(|| "process unknown".into(), |pid| format!("process {pid}"))
}

impl OpenError {
    pub(crate) fn io(dir: &std::path::Path, reason: impl std::fmt::Display) -> Self {
        Self::Io { dir: dir.display().to_string(), reason: reason.to_string() }
    }
}

/// A sled database that was opened and read by a function of the caller's.
pub(crate) struct Opening<T> {
    /// The database.
    pub(crate) database: Database,
    /// What the caller's function made of it.
    pub(crate) read: T,
}

/// Why a database did not open.
pub(crate) enum OpenFault {
    /// The lock within sled is held: by a process that is just ending.
    Busy(String),
    /// The file system said no.
    Io(String),
    /// Nothing can be done with the files.
    Damaged(String),
    /// Written by a newer program.
    Newer(u64),
}

/// Where a database's directory is, for messages.
pub(crate) fn shown(dir: &std::path::Path) -> String {
    dir.display().to_string()
}
