//! The command line: one file per subcommand. Help texts teach; what is shown of campaigns, accounts, rules and dead letters comes with
//! `--json` too.

mod account;
mod ask;
mod batch;
mod campaign;
mod check;
mod client;
mod dead;
mod demo;
mod enqueue;
mod generate;
mod local;
mod policy;
mod progress;
mod run;
mod send;
mod simulate;
mod table;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::exit::{Exit, Failure};

/// Sends WhatsApp campaigns through the Connexease Gateway: paced, pausable, and never twice to the same person.
#[derive(Debug, Parser)]
#[command(name = "campaignd", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Options every subcommand takes.
#[derive(Debug, clap::Args)]
pub struct Globals {
    /// Configuration file; without it, /etc/campaignd/campaignd.toml if it exists, else the compiled-in defaults
    #[arg(long, global = true, value_name = "FILE", env = "CAMPAIGND_CONFIG")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// A whole campaign in one process: simulated gateway, embedded broker, progress and proof; nothing to install
    Demo(demo::Args),
    /// Send one campaign from this terminal; interrupted, the same command continues where it was
    Send(send::Args),
    /// Run the daemon
    Run(run::Args),
    /// Publish a campaign's jobs from CSV or NDJSON
    Enqueue(enqueue::Args),
    /// List, show, watch, pause, resume and cancel campaigns
    Campaign(campaign::Args),
    /// List, show, pause and resume accounts
    Account(account::Args),
    /// Look through the dead letters and release them
    Dead(dead::Args),
    /// Show the error policy, or explain what it does with a reply
    Policy(policy::Args),
    /// Check configuration, key, broker and gateway before anything is sent
    Check(check::Args),
    /// Run the simulated gateway, for rehearsals and tests
    Simulate(simulate::Args),
    /// Print a shell's completions
    #[command(hide = true)]
    Completions(generate::CompletionArgs),
    /// Write the man pages
    #[command(hide = true)]
    Man(generate::ManArgs),
}

/// Parses, dispatches, and gives the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(help_or_mistake) => {
            let _ = help_or_mistake.print();
            return if help_or_mistake.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&Failure::new(Exit::Software, format_args!("cannot start the runtime: {error}"))),
    };
    match runtime.block_on(dispatch(cli)) {
        Ok(exit) => exit.into(),
        Err(failure) => complain(&failure),
    }
}

async fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let globals = &cli.globals;
    match cli.command {
        Command::Demo(args) => demo::run(args, globals).await,
        Command::Send(args) => send::run(args, globals).await,
        Command::Run(args) => run::run(args, globals).await,
        Command::Enqueue(args) => enqueue::run(args, globals).await,
        Command::Campaign(args) => campaign::run(args, globals).await,
        Command::Account(args) => account::run(args, globals).await,
        Command::Dead(args) => dead::run(args, globals).await,
        Command::Policy(args) => policy::run(args, globals).await,
        Command::Check(args) => check::run(args, globals).await,
        Command::Simulate(args) => simulate::run(args, globals).await,
        Command::Completions(args) => generate::completions(&args),
        Command::Man(args) => generate::man(&args),
    }
}

#[expect(clippy::print_stderr, reason = "a command's error line belongs on standard error")]
fn complain(failure: &Failure) -> ExitCode {
    eprintln!("campaignd: {failure}");
    failure.exit.into()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
