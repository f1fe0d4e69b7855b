//! The other side of a worker: a private RabbitMQ, the simulated gateway as a process of its own, and a producer.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use campaignd::broker::rabbitmq::{LinkStatus, RabbitMq, Settings};
use campaignd::broker::{Broker, Source};
use campaignd::clock::Clock;
use campaignd::job::CampaignId;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::jobs::{For, enqueue};
use super::rabbitmq::{RabbitNode, User};

/// The program built together with the bench, by the same profile.
pub(crate) const CAMPAIGND: &str = env!("CARGO_BIN_EXE_campaignd");

/// The key the simulated gateway knows.
pub(crate) const KEY: &str = "sk_simulated";

const PATIENCE: Duration = Duration::from_secs(60);

/// Everything a worker talks to.
pub(crate) struct Rig {
    node: Arc<RabbitNode>,
    vhost: String,
    producer: RabbitMq,
    gateway: Simulator,
}

impl Rig {
    /// Starts RabbitMQ and the simulated gateway; the latter with these arguments besides its address.
    pub(crate) async fn start(gateway: &[&str]) -> anyhow::Result<Self> {
        Self::on(Arc::new(tokio::task::block_in_place(RabbitNode::start)), gateway).await
    }

    /// Another one beside it: the same RabbitMQ, nothing else in common.
    pub(crate) async fn beside(&self, gateway: &[&str]) -> anyhow::Result<Self> {
        Self::on(self.node.clone(), gateway).await
    }

    async fn on(node: Arc<RabbitNode>, gateway: &[&str]) -> anyhow::Result<Self> {
        let vhost = tokio::task::block_in_place(|| node.vhost());
        let producer = RabbitMq::connect(Settings::new(node.uri(&vhost, User::Daemon).into()), Clock::system());
        let mut status = producer.status();
        let up = timeout(PATIENCE, status.wait_for(|status| *status == LinkStatus::Up)).await.is_ok();
        ensure!(up, "RabbitMQ cannot be reached: {:?}", *status.borrow());
        Ok(Self { node, vhost, producer, gateway: Simulator::start(gateway).await? })
    }

    /// Where workers find the broker.
    pub(crate) fn broker_uri(&self) -> String {
        self.node.uri(&self.vhost, User::Daemon)
    }

    /// The same for a worker of somebody else's making, which may declare and publish what it likes.
    pub(crate) fn open_uri(&self) -> String {
        self.node.uri(&self.vhost, User::Admin)
    }

    /// The gateway.
    pub(crate) fn gateway(&self) -> &Simulator {
        &self.gateway
    }

    /// A campaign with `jobs` jobs in its queue. Announced, the daemon finds it; if not, it is for a bare worker.
    pub(crate) async fn campaign(&self, name: &str, jobs: u64, announced: bool) -> anyhow::Result<CampaignId> {
        enqueue(&self.producer, name, None, 0, jobs, if announced { For::Daemon } else { For::Bare }).await
    }

    /// A campaign of an account, for the daemon; its recipients are numbered from `first` on.
    pub(crate) async fn campaign_of(&self, account: &str, name: &str, first: u64, jobs: u64) -> anyhow::Result<CampaignId> {
        enqueue(&self.producer, name, Some(account), first, jobs, For::Daemon).await
    }

    /// Throws away all that is in a campaign's queue and in the intake.
    pub(crate) async fn empty(&self, name: &str) -> anyhow::Result<()> {
        let connection = lapin::Connection::connect(&self.broker_uri(), lapin::ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        for queue in [format!("campaignd.jobs.{name}"), "campaignd.intake".to_owned()] {
            channel.queue_purge(queue.into(), lapin::options::QueuePurgeOptions::default()).await?;
        }
        Ok(connection.close(200, "OK".into()).await?)
    }

    /// Waits until nothing is left in the campaign's queue, and takes the queue away.
    pub(crate) async fn clean_up(&self, id: &CampaignId) -> anyhow::Result<()> {
        let source = Source::Jobs(id.clone());
        let empty = async {
            while self.producer.depth(&source).await? > 0 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, empty).await.context("jobs are left in the queue")??;
        self.producer.remove(id).await?;
        Ok(())
    }
}

/// The simulated gateway, a process of its own. Killed when dropped.
pub(crate) struct Simulator {
    _child: Child,
    url: String,
    http: reqwest::Client,
}

impl Simulator {
    async fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut child = Command::new(CAMPAIGND)
            .args(["simulate", "--listen", "127.0.0.1:0", "--balance", "1000000000"])
            .args(arguments)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let line = timeout(PATIENCE, lines.next_line()).await??.unwrap_or_default();
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).context("the simulator told no address")?;
        let url = url.trim_end_matches('/').to_owned();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build()?;
        Ok(Self { _child: child, url, http })
    }

    /// Its address, without a path.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Steers it by one of its `/sim` endpoints.
    pub(crate) async fn order(&self, endpoint: &str, body: Value) -> anyhow::Result<()> {
        let request = self.http.post(format!("{}/sim/{endpoint}", self.url)).json(&body);
        request.send().await?.error_for_status()?;
        Ok(())
    }

    /// Its counts.
    pub(crate) async fn stats(&self) -> anyhow::Result<Stats> {
        Ok(Stats(self.ask("stats").await?))
    }

    /// What one of its `/sim` endpoints tells.
    pub(crate) async fn ask(&self, endpoint: &str) -> anyhow::Result<Value> {
        let answer = self.http.get(format!("{}/sim/{endpoint}", self.url)).send().await?.error_for_status()?;
        Ok(answer.json().await?)
    }
}

/// What the gateway has counted.
#[derive(Debug)]
pub(crate) struct Stats(Value);

impl Stats {
    fn number(&self, pointer: &str) -> u64 {
        self.0.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
    }

    /// Requests that came.
    pub(crate) fn requests(&self) -> u64 {
        self.number("/requests")
    }

    /// Messages accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.number("/accepted")
    }

    /// Requests refused for want of rate capacity (`RATE_001`).
    pub(crate) fn rate_limited(&self) -> u64 {
        self.number("/outcomes/RATE_001")
    }

    /// Recipients who got more than one message.
    pub(crate) fn more_than_once(&self) -> u64 {
        self.number("/more_than_once")
    }
}
