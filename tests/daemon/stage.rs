//! Everything one test needs: a virtual host, a simulated gateway, a state directory, and the daemon as its own process.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use campaignd::broker::rabbitmq::{RabbitMq, Role, Settings};
use campaignd::broker::{ANNOUNCEMENT, Broker, Headers, Message, Target};
use campaignd::campaign::{Announcement, Options as CampaignOptions};
use campaignd::clock::Clock;
use campaignd::engine::{AccountView, CampaignView, DeadLetter};
use campaignd::gateway::simulator::{Key, Options, Running, Simulator};
use campaignd::job::{CampaignId, Recipient};
use futures_util::stream::{self, StreamExt};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::{RabbitNode, User};

/// Longest wait for anything: generous, because many tests share few cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One test's world.
pub(crate) struct Stage {
    pub(crate) simulator: Running,
    pub(crate) dir: TempDir,
    pub(crate) admin: String,
    daemon: Option<Child>,
    producer: RabbitMq,
    http: reqwest::Client,
}

/// What the configuration says besides the defaults.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// Accounts in the configuration; each has a key of its own at the simulator.
    pub(crate) accounts: Vec<&'static str>,
    pub(crate) rate: &'static str,
    pub(crate) request_timeout: &'static str,
    pub(crate) max_in_flight: usize,
    pub(crate) simulator: Options,
    /// Further lines of `[engine]`.
    pub(crate) engine: &'static str,
    /// The broker's address, when it is not the node's own.
    pub(crate) broker_port: Option<u16>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            accounts: vec!["main"],
            rate: "unlimited",
            request_timeout: "2s",
            max_in_flight: 32,
            simulator: Options::default(),
            engine: "",
            broker_port: None,
        }
    }
}

impl Stage {
    /// A stage on the shared node, with the daemon running and ready.
    pub(crate) async fn open(setup: Setup) -> Self {
        Self::on(RabbitNode::shared(), setup).await
    }

    /// The same on a node of the test's own.
    pub(crate) async fn on(node: &RabbitNode, setup: Setup) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default()); // the first test to come installs it
        let vhost = node.vhost();
        let mut options = setup.simulator.clone();
        let balance = options.keys[0].balance;
        let limits = campaignd::pacer::Limits { second: None, minute: None };
        options.keys = setup.accounts.iter().map(|name| Key { limits, balance, ..Key::new(&key_of(name)) }).collect();
        let simulator = Simulator::start_local(options).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let admin = format!("127.0.0.1:{}", free_port());
        let port = setup.broker_port.unwrap_or_else(|| node.port());
        write_configuration(&dir, &setup, &simulator, &node.uri_at(port, &vhost, User::Daemon), &admin);
        let settings = Settings { role: Role::Producer, ..Settings::new(SecretString::from(node.uri(&vhost, User::Producer))) };
        let producer = RabbitMq::connect(settings, Clock::system());
        let mut stage = Self { simulator, dir, admin, daemon: None, producer, http: reqwest::Client::new() };
        stage.start();
        stage.until_ready().await;
        stage
    }

    /// Starts the daemon; its log is appended to `log` in the stage's directory.
    pub(crate) fn start(&mut self) {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_campaignd"))
            .args(["run", "--config"])
            .arg(self.dir.path().join("campaignd.toml"))
            .env_remove("JOURNAL_STREAM")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        self.daemon = Some(child.unwrap());
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
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    /// Sends a signal to the daemon.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.daemon.as_ref().expect("the daemon runs").id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until the daemon is gone.
    pub(crate) async fn until_gone(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = daemon.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the daemon does not stop; its log:\n{}", self.log());
            pause_a_little().await;
        }
    }

    /// Announces a campaign, sealed, and publishes one job for each recipient.
    pub(crate) async fn enqueue(&self, id: &str, account: &str, options: CampaignOptions, recipients: &[u64]) {
        let id: CampaignId = id.parse().unwrap();
        let announcement = Announcement {
            campaign_id: id.clone(),
            account: Some(account.parse().unwrap()),
            options,
            jobs: Some(recipients.len() as u64),
            batch: Some("test".into()),
        };
        let headers = Headers { kind: Some(ANNOUNCEMENT.into()), ..Headers::default() };
        let message = Message { body: serde_json::to_vec(&announcement).unwrap().into(), headers };
        self.publish(Target::Announce(&id), &message).await;
        let bodies = recipients.iter().map(|number| job_body(id.as_str(), *number));
        self.publish_bodies(&id, bodies.collect(), Some("test")).await;
    }

    /// Publishes bodies to a campaign's routing key.
    pub(crate) async fn publish_bodies(&self, id: &CampaignId, bodies: Vec<String>, batch: Option<&str>) {
        let publishes = bodies.into_iter().map(|body| async move {
            let headers = Headers { batch: batch.map(str::to_owned), ..Headers::default() };
            self.publish(Target::Jobs(id), &Message { body: body.into(), headers }).await;
        });
        stream::iter(publishes).buffer_unordered(64).collect::<Vec<()>>().await;
    }

    async fn publish(&self, to: Target<'_>, message: &Message) {
        self.until("RabbitMQ to confirm", async || self.producer.publish(to, message).await.ok()).await;
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
        let request = self.http.post(format!("http://{}/v1/{path}", self.admin));
        let answer = request.header("content-type", "application/json").body(body.to_owned()).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
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

    /// A campaign's dead letters by recipient's job id order of arrival.
    pub(crate) async fn dead(&self, id: &str) -> Vec<DeadLetter> {
        self.get(&format!("campaigns/{id}/dead")).await.unwrap_or_default()
    }

    /// Waits until the campaign is in this state.
    pub(crate) async fn until_state(&self, id: &str, state: &str) -> CampaignView {
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

    /// How often each recipient got a message, by the gateway's own books.
    pub(crate) fn books(&self) -> BTreeMap<u64, u32> {
        self.simulator.books().recipients().collect()
    }

    /// Stops the daemon politely.
    pub(crate) async fn stop(&mut self) {
        self.signal("TERM");
        assert!(self.until_gone().await.success(), "{}", self.log());
    }

    /// Where the daemon keeps its state.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Waits until the daemon has logged `text`, in this life or an earlier one.
    pub(crate) async fn logged(&self, text: &str) {
        let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        self.until(&format!("{text:?} in the log"), async || log().contains(text).then_some(())).await;
    }

    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(80)..].join("\n")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Between two looks at a condition with a deadline.
async fn pause_a_little() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The simulator's key of an account.
pub(crate) fn key_of(account: &str) -> String {
    format!("sk_{account}")
}

/// Ordinary recipients, by number.
pub(crate) fn people(count: u64) -> Vec<u64> {
    (0..count).map(|i| 905_320_000_000 + i).collect()
}

pub(crate) fn job_body(campaign: &str, number: u64) -> String {
    let recipient: Recipient = number.to_string().parse().unwrap();
    format!(r#"{{"campaign_id":"{campaign}","to":"{}","message":{{"type":"text","text":{{"body":"hi"}}}}}}"#, recipient.digits())
}

fn write_configuration(dir: &TempDir, setup: &Setup, simulator: &Running, uri: &str, admin: &str) {
    let file = |name: &str, text: &str| -> PathBuf {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    file("broker-uri", uri);
    let mut text = format!(
        "[broker]\nkind = \"rabbitmq\"\nuri-file = \"broker-uri\"\nheartbeat = \"5s\"\n\
         [gateway]\nbase-url = \"{}\"\nrequest-timeout = \"{}\"\nrate = \"{}\"\nmax-in-flight = {}\n\
         [engine]\n{}\n[state]\ndir = \"state\"\n[admin]\nlisten = \"{admin}\"\n[log]\nformat = \"text\"\nlevel = \"info\"\n",
        simulator.base_url(),
        setup.request_timeout,
        setup.rate,
        setup.max_in_flight,
        setup.engine,
    );
    for (number, name) in setup.accounts.iter().enumerate() {
        file(&format!("{name}.key"), &key_of(name));
        let default = if number == 0 { "default = true\n" } else { "" };
        let _ = write!(text, "[accounts.{name}]\nkey-file = \"{name}.key\"\n{default}");
    }
    file("campaignd.toml", &text);
}
