//! `campaignd check`: configuration, keys, broker and gateway, before anything is sent. Every mistake at once.

mod finding;
mod probes;

use secrecy::SecretString;

use self::finding::{Finding, Report};
use super::{Exit, Failure, Globals, table};
use crate::config::{BrokerKind, Config, ConfigError, process_env};
use crate::job::{AccountName, Recipient};
use crate::policy::Rules;

/// Arguments of `campaignd check`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Exit codes: 0 all well; 78 the configuration is wrong; 69 broker or gateway cannot be reached; \
    1 something else is not as it should be.\n\nExamples:\n  campaignd check\n  campaignd check --offline\n  \
    campaignd check --probe main --to 905321234567")]
pub(super) struct Args {
    /// Look at configuration, policy and files only; connect to nothing
    #[arg(long, conflicts_with = "probe")]
    offline: bool,
    /// Send one message by this account as `is_fake`: the gateway checks key, rate and balance, and reaches no phone
    #[arg(long, value_name = "ACCOUNT", requires = "to")]
    probe: Option<AccountName>,
    /// Recipient of the probe, with country code; it gets nothing
    #[arg(long, value_name = "NUMBER", requires = "probe")]
    to: Option<Recipient>,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) async fn run(args: Args, globals: &Globals) -> Result<Exit, Failure> {
    let report = look(&args, globals).await;
    if args.json {
        table::print_json(&report)?
    } else {
        table::print(&report)?
    }
    Ok(report.exit())
}

async fn look(args: &Args, globals: &Globals) -> Report {
    let mut report = Report::default();
    let config = match Config::load(globals.config.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            mistakes(&mut report, "configuration", error);
            return report;
        }
    };
    report.add(Finding::fine("configuration", &config.source));
    config.notes().into_iter().for_each(|note| report.add(Finding::note("configuration", &note)));
    let uri = secrets(&mut report, &config);
    let rules = probes::policy(&mut report, &config);
    report.add(probes::state(&config.state.dir));
    report.add(probes::admin(config.admin.listen).await);
    if args.offline {
        return report;
    }
    match (config.broker.kind, uri) {
        (BrokerKind::RabbitMq, Some(uri)) => report.add(probes::broker(&config, uri).await),
        (BrokerKind::RabbitMq, None) => {}
        (BrokerKind::Embedded, _) => report.add(Finding::fine("broker", "embedded, in the state directory")),
    }
    report.add(probes::gateway(&config).await);
    if let (Some(account), Some(to), Some(rules)) = (&args.probe, args.to, rules) {
        report.add(probe(&config, account, to, &rules).await);
    }
    report
}

fn mistakes(report: &mut Report, what: &str, error: ConfigError) {
    error.mistakes.into_iter().for_each(|mistake| report.add(Finding::mistake(what, &mistake)));
}

/// Reads every secret, and gives RabbitMQ's address if that is the broker.
fn secrets(report: &mut Report, config: &Config) -> Option<SecretString> {
    match config.secrets(&process_env) {
        Ok(secrets) => {
            for name in secrets.keys.keys() {
                report.add(Finding::fine(&format!("account {name}"), "its key can be read"));
            }
            secrets.broker_uri
        }
        Err(error) => {
            mistakes(report, "secrets", error);
            let rabbitmq = config.broker.kind == BrokerKind::RabbitMq;
            rabbitmq.then(|| config.broker_uri(&process_env).ok()).flatten()
        }
    }
}

async fn probe(config: &Config, name: &AccountName, to: Recipient, rules: &Rules) -> Finding {
    let what = format!("probe by {name}");
    let key = config.keys(&process_env).ok().and_then(|mut keys| keys.remove(name));
    match key {
        Some(key) => probes::send(&what, config, name, key, to, rules).await,
        None => Finding::wrong(
            &what,
            "there is no such account, or its key cannot be read",
            "name an account of the configuration",
            Exit::Config,
        ),
    }
}
