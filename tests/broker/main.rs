//! The broker contract, run unchanged against the embedded broker and a real RabbitMQ.

mod contract;
mod embedded;
mod rabbitmq;
#[path = "../support/rabbitmq.rs"]
mod support;
