//! The daemon against real RabbitMQ and the simulated gateway: every row of the default policy, bad input, pauses, restarts, kills.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may fail loudly, and what it indexes it has made itself"
)]

mod bad_input;
mod campaigns;
#[path = "../support/daemon.rs"]
mod daemon;
mod dead_letters;
mod kills;
mod policy_rows;
#[path = "../support/process.rs"]
mod process;
mod reload;
mod restarts;
mod stage;
mod state;
#[path = "../support/rabbitmq.rs"]
mod support;
