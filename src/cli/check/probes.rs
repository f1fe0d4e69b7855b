//! The single checks. Each tries the thing itself and says what it saw.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;

use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::finding::{Finding, Report};
use crate::broker::rabbitmq::{ConnectError, RabbitMq};
use crate::clock::Clock;
use crate::config::Config;
use crate::daemon::{broker_settings, gateway_settings};
use crate::dice;
use crate::exit::Exit;
use crate::gateway::connexease::Connexease;
use crate::gateway::{Reply, Request};
use crate::job::{AccountName, Job, Recipient};
use crate::policy::{self, History, Rules, Subject};

/// The rules, if they can be read.
pub(super) fn policy(report: &mut Report, config: &Config) -> Option<Rules> {
    let file = config.policy.file.as_deref();
    match Rules::load(file) {
        Ok(rules) => {
            let whence = file.map_or_else(|| "compiled in".to_owned(), |file| file.display().to_string());
            report.add(Finding::fine("policy", format_args!("{} rules, {whence}", rules.iter().count())));
            Some(rules)
        }
        Err(error) => {
            let remedy = format!("named at {}", config.policy.place);
            report.add(Finding::wrong("policy", error, &remedy, Exit::Config));
            None
        }
    }
}

/// Whether the state directory can be written, without leaving anything there.
pub(super) fn state(dir: &Path) -> Finding {
    let shown = dir.display();
    match tempfile::tempfile_in(dir) {
        Ok(_) => Finding::fine("state", format_args!("{shown} can be written")),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let above = dir.ancestors().skip(1).find(|above| above.exists()).unwrap_or_else(|| Path::new("/"));
            match tempfile::tempfile_in(above) {
                Ok(_) => Finding::fine("state", format_args!("{shown} is not there yet; the daemon makes it")),
                Err(_) => {
                    let remedy =
                        format!("as root: install -d -m 0700 -o USER {shown} (the systemd unit does that by StateDirectory=)");
                    Finding::wrong(
                        "state",
                        format_args!("{shown} is not there, and this user cannot make it"),
                        &remedy,
                        Exit::Failed,
                    )
                }
            }
        }
        Err(error) => {
            let remedy =
                "run the check as the user the daemon runs as; else: does the directory belong to it, has the disk space?";
            Finding::wrong("state", format_args!("{shown} cannot be written: {error}"), remedy, Exit::Failed)
        }
    }
}

/// Whether the admin API could listen. A daemon that already does is no fault.
pub(super) async fn admin(listen: SocketAddr) -> Finding {
    match TcpListener::bind(listen).await {
        Ok(_) => Finding::fine("admin", format_args!("{listen} is free; no daemon runs")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            Finding::fine("admin", format_args!("{listen} is taken, by the running daemon or by somebody else"))
        }
        Err(error) => {
            let remedy = "choose another address at [admin] listen";
            Finding::wrong("admin", format_args!("cannot listen on {listen}: {error}"), remedy, Exit::Config)
        }
    }
}

/// Whether RabbitMQ is there, takes the login and lets it into the virtual host.
pub(super) async fn broker(config: &Config, uri: SecretString) -> Finding {
    let settings = broker_settings(config, uri);
    let began = Instant::now();
    match RabbitMq::probe(&settings).await {
        Ok(()) => Finding::fine("broker", format_args!("RabbitMQ lets us in, after {} ms", began.elapsed().as_millis())),
        Err(error @ ConnectError::Unreachable { .. }) => {
            let remedy = "is RabbitMQ running there, and no firewall in between? ([broker] uri)";
            Finding::wrong("broker", error, remedy, Exit::Unavailable)
        }
        Err(error) => Finding::wrong("broker", error, "", Exit::Config),
    }
}

/// Whether anything answers at the gateway's address, TLS included. Sends no key.
pub(super) async fn gateway(config: &Config) -> Finding {
    let url = &config.gateway.base_url;
    let began = Instant::now();
    match ask(config).await {
        Ok(status) => {
            Finding::fine("gateway", format_args!("{url} answers (HTTP {status}), after {} ms", began.elapsed().as_millis()))
        }
        Err(reason) => {
            let remedy = "is the address right, and does this machine reach it? ([gateway] base-url)";
            Finding::wrong("gateway", format_args!("{url} cannot be reached: {reason}"), remedy, Exit::Unavailable)
        }
    }
}

async fn ask(config: &Config) -> Result<u16, String> {
    // Fails only when somebody had chosen a provider before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(config.gateway.connect_timeout)
        .timeout(config.gateway.request_timeout)
        .build()
        .map_err(|error| innermost(&error))?;
    let answer = client.get(config.gateway.base_url.url().clone()).send().await.map_err(|error| innermost(&error))?;
    Ok(answer.status().as_u16())
}

fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// Sends one message as `is_fake`, and says how the policy reads the reply.
pub(super) async fn send(
    what: &str,
    config: &Config,
    account: &AccountName,
    key: SecretString,
    to: Recipient,
    rules: &Rules,
) -> Finding {
    let wrong = |detail: String, remedy: &str, exit| Finding::wrong(what, detail, remedy, exit);
    let gateway = match Connexease::new(gateway_settings(config, key, 1)) {
        Ok(gateway) => gateway,
        Err(error) => return wrong(error.to_string(), "", Exit::Config),
    };
    let job = match job(to) {
        Ok(job) => job,
        Err(error) => return wrong(error.to_string(), "", Exit::Software),
    };
    let answer = gateway.send(Request { body: job.request_body(), sandbox: true, mmlite: false }).await;
    let subject = Subject {
        account: account.clone(),
        campaign: job.campaign.clone(),
        to,
        message: job.message.kind(),
        mmlite: false,
        attempts: 1,
    };
    let now = Clock::system().wall();
    let decision = policy::decide(rules, &mut History::default(), &subject, &answer.reply, now, &mut dice::unforeseen());
    let meaning = meaning(&decision);
    match answer.reply {
        Reply::Accepted { .. } => Finding::fine(what, "accepted as is_fake: key, rate and balance are in order"),
        Reply::Refused(refusal) => {
            let code = refusal.code.as_deref().unwrap_or("no code");
            let detail = format!("refused: {code} (HTTP {}) {}\n{meaning}", refusal.http_status, refusal.description);
            wrong(detail, &decision.advice, Exit::Failed)
        }
        Reply::Unreachable(trouble) => {
            wrong(format!("not sent: {}\n{meaning}", trouble.detail), &decision.advice, Exit::Unavailable)
        }
        Reply::Unknown(trouble) => {
            wrong(format!("no proper answer: {}\n{meaning}", trouble.detail), &decision.advice, Exit::Failed)
        }
    }
}

/// In a campaign, the same reply would come to this.
fn meaning(decision: &policy::Decision) -> String {
    let pause = decision.pause.map(|pause| format!(" Pause: {pause}.")).unwrap_or_default();
    let alert = decision.alert.map(|severity| format!(" Alert: {severity}.")).unwrap_or_default();
    format!("In a campaign, rule {} would decide. {}{pause}{alert}", decision.rule, decision.job)
}

fn job(to: Recipient) -> Result<Job, crate::job::JobError> {
    let body = serde_json::json!({
        "campaign_id": "check", "to": to.digits(), "message": {"type": "text", "text": {"body": "campaignd check"}},
    });
    Job::parse(body.to_string().as_bytes())
}
