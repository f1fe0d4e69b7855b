//! `campaignd dead`: look through the dead letters and release them.

use super::{Exit, Failure};

/// Arguments of `campaignd dead`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub(super) async fn run(_args: Args, _globals: &super::Globals) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Software, "not there yet"))
}
