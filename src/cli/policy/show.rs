//! `campaignd policy show`: the rules in force as a table, as JSON, or the compiled-in file to start from.

use serde_json::json;

use super::super::table::{Table, print, print_json};
use super::super::{Exit, Failure, Globals};
use super::Source;
use crate::policy::{BUILTIN_TEXT, Rule, Rules};

/// Arguments of `campaignd policy show`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    source: Source,
    /// Print as JSON, in the form of the rules file
    #[arg(long)]
    json: bool,
    /// Print the compiled-in rules file, as a start for one of your own
    #[arg(long, conflicts_with_all = ["json", "rules"])]
    toml: bool,
}

pub(super) fn run(args: Args, globals: &Globals) -> Result<Exit, Failure> {
    if args.toml {
        print(BUILTIN_TEXT.trim_end())?;
        return Ok(Exit::Ok);
    }
    let file = args.source.file(globals)?;
    let rules = Rules::load(file.as_deref())?;
    let source = file.as_ref().map_or_else(|| "compiled in".to_owned(), |file| file.display().to_string());
    if args.json {
        let mut form: toml::Table = toml::from_str(&Rules::text(file.as_deref())?)
            .map_err(|error| Failure::new(Exit::Config, format_args!("the rules file has just changed: {error}")))?;
        print_json(&json!({ "source": source, "rules": form.remove("rule") }))?;
    } else {
        table(&rules).print()?;
        print(format_args!("\n{} rules, {source}; the first that matches decides.", rules.iter().count()))?;
    }
    Ok(Exit::Ok)
}

fn table(rules: &Rules) -> Table {
    let mut table = Table::new(["rule", "matches", "job", "campaign / account", "alert"]).whole_names();
    for rule in rules.iter() {
        table.row([
            rule.name.to_string(),
            rule.when.to_string(),
            rule.job.to_string(),
            around(rule),
            rule.alert.map_or_else(String::new, |alert| alert.to_string()),
        ]);
    }
    table
}

fn around(rule: &Rule) -> String {
    let mut lines = Vec::new();
    if let Some(pause) = rule.pause {
        lines.push(format!("pause {pause}"));
    }
    if let Some(delay) = rule.hold_account {
        lines.push(format!("hold account {delay}"));
    }
    if let Some(slow_down) = rule.slow_down {
        lines.push(format!("slow down {slow_down}"));
    }
    lines.extend(rule.repeated.iter().map(ToString::to_string));
    lines.join("\n")
}
