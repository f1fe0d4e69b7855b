//! `campaignd send`: send one campaign from this terminal; interrupted, the same command continues where it was.

use super::{Exit, Failure};

/// Arguments of `campaignd send`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// Runs it.
pub(super) async fn run(_args: Args, _globals: &super::Globals) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Software, "not there yet"))
}
