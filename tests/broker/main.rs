//! The broker contract, run unchanged against the embedded broker and a real RabbitMQ.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod contract;
mod embedded;
mod faults;
#[path = "../support/proxy.rs"]
mod proxy;
mod rabbitmq;
#[path = "../support/rabbitmq.rs"]
mod support;
