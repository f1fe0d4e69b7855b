//! How a command ends: the exit codes of sysexits(3), and the one error line a person reads.

use std::fmt;
use std::process::ExitCode;

use crate::disk::OpenError;

/// Exit codes, as sysexits(3) names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All went well.
    Ok = 0,
    /// It ran, and what it checked is not so (books that do not agree, a check that failed).
    Failed = 1,
    /// The command line is wrong.
    Usage = 64,
    /// The input data is wrong.
    Data = 65,
    /// The input cannot be read.
    NoInput = 66,
    /// A service it needs cannot be reached.
    Unavailable = 69,
    /// A mistake of ours.
    Software = 70,
    /// An output cannot be made.
    CantCreate = 73,
    /// Reading or writing failed.
    Io = 74,
    /// Not now: the campaign is paused; the same command goes on later.
    TempFail = 75,
    /// The configuration is wrong.
    Config = 78,
    /// Stopped by a signal before all was done.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command ended early: what happened, where, and what to do next, on one line or a few.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// For people, without secrets or full phone numbers.
    pub message: String,
}

impl Failure {
    /// A failure with its exit code.
    pub fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let exit = match error {
            OpenError::Locked { .. } | OpenError::Io { .. } => Exit::CantCreate,
            OpenError::Newer { .. } | OpenError::Damaged { .. } => Exit::Io,
        };
        Self::new(exit, error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
