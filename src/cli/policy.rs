//! `campaignd policy`: show the error policy, or explain what it does with a reply.

use super::{Exit, Failure};

/// Arguments of `campaignd policy`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs it.
pub(super) async fn run(_args: Args, _globals: &super::Globals) -> Result<Exit, Failure> {
    Err(Failure::new(Exit::Software, "not there yet"))
}
