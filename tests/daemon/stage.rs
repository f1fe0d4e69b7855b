//! Everything one test needs: a virtual host, a simulated gateway, a state directory, and the daemon as its own process.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use campaignd::broker::rabbitmq::{RabbitMq, Role, Settings};
use campaignd::broker::{ANNOUNCEMENT, Broker, Headers, Message, Target};
use campaignd::campaign::{Announcement, Options as CampaignOptions};
use campaignd::clock::Clock;
use campaignd::gateway::simulator::{Key, Options, Running, Simulator};
use campaignd::job::{CampaignId, Recipient};
use futures_util::stream::{self, StreamExt};
use secrecy::SecretString;
use tempfile::TempDir;

use crate::daemon::Daemon;
use crate::process::free_port;
use crate::support::{RabbitNode, User};

/// One test's world.
pub(crate) struct Stage {
    daemon: Daemon, // the first to go
    pub(crate) simulator: Running,
    pub(crate) dir: TempDir,
    producer: RabbitMq,
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
        let daemon = Daemon::new(dir.path(), &admin);
        let mut stage = Self { simulator, dir, daemon, producer };
        stage.start();
        stage.until_ready().await;
        stage
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

    /// How many lines of the log hold `text`.
    pub(crate) fn log_count(&self, text: &str) -> usize {
        let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        log.lines().filter(|line| line.contains(text)).count()
    }

    /// Waits until the daemon has logged `text`, in this life or an earlier one.
    pub(crate) async fn logged(&self, text: &str) {
        let log = || fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        self.until(&format!("{text:?} in the log"), async || log().contains(text).then_some(())).await;
    }
}

impl Deref for Stage {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for Stage {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
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
