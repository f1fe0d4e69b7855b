//! The broker contract, run unchanged against the embedded broker and a real RabbitMQ.
