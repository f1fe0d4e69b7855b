//! `campaignd enqueue`: publish a campaign's jobs from CSV or NDJSON.

use super::{Exit, Failure};

/// Arguments of `campaignd enqueue`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub(super) async fn run(_args: Args, _globals: &super::Globals) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Software, "not there yet"))
}
