//! The daemon's engine with other parts than those it is shipped with: the embedded broker, a ledger in memory.
//!
//! It runs as a process of its own: the bench program starts itself again with the argument `engine`.

use std::collections::BTreeMap;
use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use campaignd::alert::Alerts;
use campaignd::broker::Broker;
use campaignd::broker::embedded::Embedded;
use campaignd::broker::rabbitmq::{LinkStatus, RabbitMq, Settings as BrokerSettings};
use campaignd::clock::Clock;
use campaignd::dice;
use campaignd::engine::{Account, Engine, Parts, Settings};
use campaignd::gateway::connexease::{self, Connexease};
use campaignd::pacer::Limits;
use campaignd::policy::Rules;
use campaignd::store::Store;
use campaignd::store::memory::MemoryStore;
use campaignd::store::sled::SledStore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::floor::{IN_FLIGHT, PREFETCH};
use super::jobs::{For, enqueue};
use super::rig::KEY;

/// Longest wait for RabbitMQ.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Variant {
    /// Jobs wait in the process's own broker instead of RabbitMQ's.
    pub(crate) embedded: bool,
    /// Attempts and outcomes are durable before anything follows from them.
    pub(crate) ledger: bool,
}

impl Variant {
    /// As an argument.
    pub(crate) const fn word(self) -> &'static str {
        match (self.embedded, self.ledger) {
            (false, false) => "rabbitmq",
            (false, true) => "rabbitmq+ledger",
            (true, false) => "embedded",
            (true, true) => "embedded+ledger",
        }
    }
}

/// Runs it if that is what this process was started for: `engine VARIANT DIR GATEWAY JOBS BROKER`. Ends only when it is killed.
pub(crate) fn run_if_asked() -> anyhow::Result<bool> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some("engine") {
        return Ok(false);
    }
    let mut argument = |what| arguments.next().with_context(|| format!("engine: {what} is missing"));
    let (variant, dir, gateway) = (argument("variant")?, argument("directory")?, argument("gateway")?);
    let (jobs, uri) = (argument("jobs")?.parse()?, argument("broker")?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut task = JoinSet::new(); // so that it runs on a worker thread, as the daemon does
        task.spawn(async move { work(&variant, Path::new(&dir), gateway, jobs, uri).await });
        task.join_next().await.context("no task")??
    })?;
    Ok(true)
}

async fn work(variant: &str, dir: &Path, base_url: String, jobs: u64, uri: String) -> anyhow::Result<()> {
    let clock = Clock::system();
    let broker: Arc<dyn Broker> = if variant.starts_with("embedded") {
        let broker = Embedded::open(dir, clock.clone())?;
        enqueue(&broker, "embedded", None, 0, jobs, For::Daemon).await?;
        Arc::new(broker)
    } else {
        let broker = RabbitMq::connect(BrokerSettings::new(uri.into()), clock.clone());
        let mut status = broker.status();
        let up = timeout(PATIENCE, status.wait_for(|status| *status == LinkStatus::Up)).await.is_ok();
        ensure!(up, "RabbitMQ cannot be reached");
        Arc::new(broker)
    };
    let store: Arc<dyn Store> = if variant.ends_with("+ledger") {
        Arc::new(SledStore::open(dir, &clock)?.store)
    } else {
        Arc::new(MemoryStore::default())
    };
    let settings = connexease::Settings {
        base_url: base_url.parse()?,
        max_in_flight: IN_FLIGHT,
        ..connexease::Settings::new(KEY.to_owned().into())
    };
    let limits = Limits { second: None, minute: None };
    let account = Account { gateway: Arc::new(Connexease::new(settings)?), plan: limits.into(), max_in_flight: IN_FLIGHT };
    let name = "bench".parse()?;
    let parts = Parts {
        broker,
        store,
        accounts: BTreeMap::from([("bench".parse()?, account)]),
        rules: Arc::new(Rules::builtin()),
        alerts: Alerts::channel().0,
        clock,
        dice: dice::unforeseen(),
        settings: Settings { prefetch: PREFETCH, default_account: Some(name), ..Settings::default() },
    };
    let (engine, _handle) = Engine::build(parts)?;
    engine.run(pending::<()>()).await;
    bail!("engine: it ended by itself")
}
