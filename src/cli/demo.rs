//! `campaignd demo`: a whole campaign in one process: simulated gateway, embedded broker, dashboard; nothing to install.

use super::{Exit, Failure};

/// Arguments of `campaignd demo`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// Runs it.
pub(super) async fn run(_args: Args, _globals: &super::Globals) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Software, "not there yet"))
}
