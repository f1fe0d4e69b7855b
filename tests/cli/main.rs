//! The binary as a user runs it: transcripts, exit codes, files, signals.

mod check;
mod config;
mod enqueue;
mod live;
mod operate;
mod policy;
#[path = "../support/process.rs"]
mod process;
mod rabbit;
mod send;
mod service;
#[path = "../support/rabbitmq.rs"]
mod support;
mod systemd;
