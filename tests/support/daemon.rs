//! `campaignd run` as its own process, and its admin API.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "included by several test programs, each with its own part of it in use; a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use campaignd::engine::{AccountView, CampaignState, CampaignView, DeadLetter};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::process::campaignd;

/// Longest wait for anything: generous, because many tests share few cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The daemon of a directory with `campaignd.toml` in it; killed when dropped.
pub(crate) struct Daemon {
    dir: PathBuf,
    args: Vec<String>,
    admin: String,
    child: Option<Child>,
    http: reqwest::Client,
}

impl Daemon {
    /// Not started yet. `admin` is what the configuration says under `[admin] listen`.
    pub(crate) fn new(dir: &Path, admin: &str) -> Self {
        let mut daemon = Self::command(dir, &["--config", "campaignd.toml", "run"]);
        admin.clone_into(&mut daemon.admin);
        daemon
    }

    /// Another command with an engine of its own, in this directory; without an admin API.
    pub(crate) fn command(dir: &Path, args: &[&str]) -> Self {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Self { dir: dir.to_owned(), args, admin: String::new(), child: None, http: reqwest::Client::new() }
    }

    /// Starts it; its log is appended to `log` in its directory.
    pub(crate) fn start(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = campaignd();
        command.args(&self.args).current_dir(&self.dir);
        self.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    pub(crate) async fn until_ready(&self) {
        self.until("the daemon to be ready", async || {
            let answer = self.http.get(format!("http://{}/readyz", self.admin)).send().await;
            answer.is_ok_and(|answer| answer.status().is_success()).then_some(())
        })
        .await;
    }

    /// kill -9.
    pub(crate) fn kill9(&mut self) {
        if let Some(mut daemon) = self.child.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    /// Sends a signal to the daemon.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("the daemon runs").id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// How it ended, if it has; it is not started again by that.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().unwrap()?;
        self.child = None;
        Some(status)
    }

    /// Waits until the daemon is gone.
    pub(crate) async fn until_gone(&mut self) -> ExitStatus {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < end, "the daemon does not stop; its log:\n{}", self.log());
            pause_a_little().await;
        }
    }

    /// Asks the admin API.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        let answer = self.http.get(format!("http://{}/v1/{path}", self.admin)).send().await.ok()?;
        if !answer.status().is_success() {
            return None;
        }
        answer.json().await.ok()
    }

    /// Commands by the admin API; the status and the answer.
    pub(crate) async fn post(&self, path: &str, body: &str) -> (u16, serde_json::Value) {
        self.try_post(path, body).await.unwrap()
    }

    /// The same, of a daemon that may be gone.
    pub(crate) async fn try_post(&self, path: &str, body: &str) -> Option<(u16, serde_json::Value)> {
        let request = self.http.post(format!("http://{}/v1/{path}", self.admin));
        let answer = request.header("content-type", "application/json").body(body.to_owned()).send().await.ok()?;
        Some((answer.status().as_u16(), answer.json().await.unwrap_or_default()))
    }

    pub(crate) async fn campaign(&self, id: &str) -> Option<CampaignView> {
        let view: CampaignView = self.get(&format!("campaigns/{id}")).await?;
        let sum = view.waiting + view.in_flight + view.delayed + view.sent + view.dead + view.cancelled + view.expired;
        assert_eq!(view.enqueued, sum, "counts add up at every moment: {view:?}");
        Some(view)
    }

    pub(crate) async fn account(&self, name: &str) -> Option<AccountView> {
        self.get(&format!("accounts/{name}")).await
    }

    /// A campaign's dead letters in order of arrival, a thousand at most.
    pub(crate) async fn dead(&self, id: &str) -> Vec<DeadLetter> {
        self.get(&format!("campaigns/{id}/dead")).await.unwrap_or_default()
    }

    /// Waits until the campaign is in this state.
    pub(crate) async fn until_state(&self, id: &str, state: CampaignState) -> CampaignView {
        self.until_campaign(id, &format!("be {state}"), |view| view.state == state).await
    }

    pub(crate) async fn until_campaign(&self, id: &str, what: &str, holds: impl Fn(&CampaignView) -> bool) -> CampaignView {
        self.until(&format!("campaign {id} to {what}"), async || self.campaign(id).await.filter(|view| holds(view))).await
    }

    /// Waits for a condition.
    pub(crate) async fn until<T>(&self, what: &str, mut holds: impl AsyncFnMut() -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(value) = holds().await {
                return value;
            }
            if Instant::now() >= end {
                let campaigns: Option<serde_json::Value> = self.get("campaigns").await;
                panic!("waited in vain for {what}\ncampaigns: {campaigns:#?}\nlog:\n{}", self.log());
            }
            pause_a_little().await;
        }
    }

    /// The end of its log.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(80)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Between two looks at a condition with a deadline.
pub(crate) async fn pause_a_little() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}
