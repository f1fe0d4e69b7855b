//! Where alerts go: the log, and a webhook.

use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

use super::{Notice, Status};
use crate::policy::Severity;

/// Takes notices to people. Each sink has a queue and a task of its own, so it may be slow or fail without harm to the others.
#[async_trait]
pub trait Sink: Send + 'static {
    /// Its name in logs.
    fn name(&self) -> &'static str;

    /// Delivers one notice; bounded in time.
    ///
    /// # Errors
    /// When it did not get through. It is tried again a few times.
    async fn deliver(&mut self, notice: &Notice) -> Result<(), SinkError>;
}

/// Why a notice did not get through. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SinkError(pub String);

/// Alerts as log lines.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogSink;

#[async_trait]
impl Sink for LogSink {
    fn name(&self) -> &'static str {
        "log"
    }

    async fn deliver(&mut self, notice: &Notice) -> Result<(), SinkError> {
        let alert = &notice.alert;
        let (account, campaign) =
            (alert.account.as_ref().map(tracing::field::display), alert.campaign.as_ref().map(tracing::field::display));
        let (rule, swallowed, summary, advice) = (&alert.rule, notice.swallowed, &alert.summary, &alert.advice);
        match (alert.status, alert.severity) {
            (Status::Resolved, _) => tracing::info!(rule, account, campaign, swallowed, "alert resolved: {summary}"),
            (_, Severity::Info) => tracing::info!(rule, account, campaign, swallowed, advice, "alert: {summary}"),
            (_, Severity::Warning) => tracing::warn!(rule, account, campaign, swallowed, advice, "alert: {summary}"),
            (_, Severity::Critical) => tracing::error!(rule, account, campaign, swallowed, advice, "alert: {summary}"),
        }
        Ok(())
    }
}

/// Alerts as JSON, posted to an address: the fields of [`super::Alert`], and `swallowed`.
#[derive(Debug)]
pub struct Webhook {
    client: reqwest::Client,
    url: SecretString,
    timeout: Duration,
}

impl Webhook {
    /// A webhook at `url` that has `timeout` for each answer.
    ///
    /// # Errors
    /// When the system's TLS roots cannot be read.
    pub fn new(url: SecretString, timeout: Duration) -> Result<Self, SinkError> {
        // Fails only when somebody had chosen a provider before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .user_agent(concat!("campaignd/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(timeout)
            .build()
            .map_err(|error| SinkError(format!("the webhook's HTTP client cannot be made: {}", without_address(error))))?;
        Ok(Self { client, url, timeout })
    }
}

#[async_trait]
impl Sink for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    async fn deliver(&mut self, notice: &Notice) -> Result<(), SinkError> {
        let sent = self.client.post(self.url.expose_secret()).json(notice).send().await;
        let answer = sent.map_err(|error| {
            let late = error.is_timeout();
            SinkError(if late { format!("no answer within {:?}", self.timeout) } else { without_address(error) })
        })?;
        // The body is not read: nothing in it would change what happens next.
        if answer.status().is_success() { Ok(()) } else { Err(SinkError(format!("it answered {}", answer.status()))) }
    }
}

/// The address may hold a secret; the innermost cause says what happened.
fn without_address(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
