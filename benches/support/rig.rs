//! The other side of a worker: a private RabbitMQ, the simulated gateway as a process of its own, and a producer.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use campaignd::broker::rabbitmq::{LinkStatus, RabbitMq, Settings};
use campaignd::broker::{Broker, Headers, Message, Source, Target};
use campaignd::campaign::{Announcement, Options};
use campaignd::clock::Clock;
use campaignd::job::{CampaignId, Job, JobId, Recipient};
use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::rabbitmq::{RabbitNode, User};

/// The program built together with the bench, by the same profile.
pub(crate) const CAMPAIGND: &str = env!("CARGO_BIN_EXE_campaignd");

/// The key the simulated gateway knows.
pub(crate) const KEY: &str = "sk_simulated";

/// First recipient; none of these numbers is magic to the simulator.
const FIRST_RECIPIENT: u64 = 905_300_000_000;

/// Publishes awaiting their confirm.
const UNCONFIRMED: usize = 1000;

const PATIENCE: Duration = Duration::from_secs(60);

/// Everything a worker talks to.
pub(crate) struct Rig {
    node: RabbitNode,
    vhost: String,
    producer: RabbitMq,
    gateway: Simulator,
}

impl Rig {
    /// Starts RabbitMQ and the simulated gateway; the latter with these arguments besides its address.
    pub(crate) async fn start(gateway: &[&str]) -> anyhow::Result<Self> {
        let node = tokio::task::block_in_place(RabbitNode::start);
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

    /// The gateway.
    pub(crate) fn gateway(&self) -> &Simulator {
        &self.gateway
    }

    /// A campaign with `jobs` jobs of some 400 bytes in its queue. Announced, the daemon finds it; if not, it is for the floor, and
    /// its bodies are what the gateway takes as they are.
    pub(crate) async fn campaign(&self, name: &str, jobs: u64, announced: bool) -> anyhow::Result<CampaignId> {
        let id: CampaignId = name.parse()?;
        self.producer.prepare(&id).await?;
        let batch = Some(format!("{name}-batch"));
        if announced {
            let announcement = Announcement {
                campaign_id: id.clone(),
                account: None,
                options: Options::default(),
                jobs: Some(jobs),
                batch: batch.clone(),
            };
            let message = Message { body: serde_json::to_vec(&announcement)?.into(), headers: Headers::default() };
            self.producer.publish(Target::Announce(&id), &message).await?;
        }
        let message = campaignd::job::Message::parse(&serde_json::value::to_raw_value(&template())?)?;
        let publish = async |number: u64| {
            let to: Recipient = (FIRST_RECIPIENT + number).to_string().parse()?;
            let job_id = JobId::derived(&id, to);
            let headers = Headers { message_id: Some(job_id.as_str().to_owned()), batch: batch.clone(), ..Headers::default() };
            let job = Job { id: job_id, campaign: id.clone(), account: None, to, message: message.clone(), not_after: None };
            let body = if announced { job.to_wire() } else { job.request_body() };
            let message = Message { body: body.into(), headers };
            anyhow::Ok(self.producer.publish(Target::Jobs(&id), &message).await?)
        };
        stream::iter(0..jobs).map(publish).buffer_unordered(UNCONFIRMED).try_collect::<()>().await?;
        Ok(id)
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

fn template() -> Value {
    json!({
        "type": "template",
        "template": {
            "name": "spring_sale_2026",
            "language": {"code": "tr"},
            "components": [{
                "type": "body",
                "parameters": [{"type": "text", "text": "Deniz"}, {"type": "text", "text": "20 %"}, {"type": "text", "text": "30.11."}],
            }],
        },
    })
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
        let answer = self.http.get(format!("{}/sim/stats", self.url)).send().await?.error_for_status()?;
        Ok(Stats(answer.json().await?))
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
