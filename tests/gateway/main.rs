//! The gateway client and the simulator over real HTTP.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test that cannot go on must fail")]

mod command;
mod faults;
mod odd_answers;
mod raw_server;
mod simulated;
mod steering;
mod support;
