//! What the whole-process benches share: a private broker, the simulated gateway, the workers, and how a worker is measured.

pub(crate) mod engine;
pub(crate) mod floor;
pub(crate) mod jobs;
pub(crate) mod measure;
#[path = "../../tests/support/rabbitmq.rs"]
pub(crate) mod rabbitmq;
pub(crate) mod rig;
pub(crate) mod rounds;
pub(crate) mod table;
pub(crate) mod worker;

use std::str::FromStr;

/// A number from the environment, or its default.
pub(crate) fn setting<T: FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(default)
}
