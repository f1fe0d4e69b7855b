//! `campaignd policy`: show the error policy, or explain what it does with a reply.

mod explain;
mod show;

use std::path::PathBuf;

use super::{Exit, Failure, Globals};
use crate::config::Config;
use crate::policy::LoadError;

/// Arguments of `campaignd policy`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print the rules in force: what each matches, what it does to job, campaign and account, and whom it alerts
    #[command(after_help = "The rules are asked from top to bottom; the first that matches decides.\n\n\
        To write your own: campaignd policy show --toml > policy.toml, edit it, try it with `campaignd policy explain --rules \
        policy.toml`, and name it in the configuration as [policy] file.")]
    Show(show::Args),
    /// Tell which rule matches a reply and what it does
    #[command(after_help = "Examples:\n  \
        campaignd policy explain --code BILL_001\n  \
        campaignd policy explain --meta 131026\n  \
        campaignd policy explain --code GW_001 --description '(#132001) Template name does not exist'\n  \
        campaignd policy explain --code GW_001 --repeated 10\n  \
        campaignd policy explain --trouble timeout --on-unknown resend --attempts 2")]
    Explain(explain::Args),
}

/// Which rules are meant.
#[derive(Debug, clap::Args)]
struct Source {
    /// Rules file; without it the one of the configuration's [policy] file, else the compiled-in rules
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
}

impl Source {
    /// The rules file in force; none means the compiled-in rules.
    fn file(&self, globals: &Globals) -> Result<Option<PathBuf>, Failure> {
        match &self.rules {
            Some(file) => Ok(Some(file.clone())),
            None => Ok(Config::load(globals.config.as_deref())?.policy.file),
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        Self::new(Exit::Config, error)
    }
}

/// Runs it.
#[expect(clippy::unused_async, reason = "every subcommand is run the same way")]
pub(super) async fn run(args: Args, globals: &Globals) -> Result<Exit, Failure> {
    match args.command {
        Command::Show(args) => show::run(args, globals),
        Command::Explain(args) => explain::run(args, globals),
    }
}
