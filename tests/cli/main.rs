//! The binary as a user runs it: transcripts, exit codes, files, signals.

mod check;
mod config;
mod policy;
#[path = "../support/process.rs"]
mod process;
mod service;
mod systemd;
