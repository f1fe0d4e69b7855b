//! `campaignd completions` and `campaignd man`: for packagers, hidden from the help. Made from the command line's own definition.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Exit, Failure, table};

/// Arguments of `campaignd completions`.
#[derive(Debug, clap::Args)]
pub(super) struct CompletionArgs {
    /// The shell: bash, elvish, fish, powershell or zsh
    shell: Shell,
}

/// Arguments of `campaignd man`.
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Directory for one page per command; without it, the main page goes to standard output
    dir: Option<PathBuf>,
}

/// Prints a shell's completions.
pub(super) fn completions(args: &CompletionArgs) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "campaignd", &mut script);
    table::print(String::from_utf8_lossy(&script)).map(|()| Exit::Ok)
}

/// Writes the man pages.
pub(super) fn man(args: &ManArgs) -> Result<Exit, Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::CantCreate, format_args!("cannot write the man pages: {error}"));
    if let Some(dir) = &args.dir {
        std::fs::create_dir_all(dir).map_err(failed)?;
        clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
        return Ok(Exit::Ok);
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(failed)?;
    table::print(String::from_utf8_lossy(&page)).map(|()| Exit::Ok)
}
