//! The binary as a user runs it: transcripts, exit codes, files, signals.

mod policy;
