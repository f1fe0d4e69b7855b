//! The floor: the least a worker on these libraries can do. Take a message, post it, acknowledge it; nothing else.
//!
//! It runs as a process of its own: the bench program starts itself again with the argument `floor`.

use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use tokio::task::JoinSet;

/// Unacknowledged deliveries, for every worker.
pub(crate) const PREFETCH: u16 = 256;
/// Requests under way, for every worker.
pub(crate) const IN_FLIGHT: usize = 128;

/// Runs it if that is what this process was started for. Ends only when it is killed.
pub(crate) fn run_if_asked() -> anyhow::Result<bool> {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some("floor") {
        return Ok(false);
    }
    let mut argument = |what| arguments.next().with_context(|| format!("floor: {what} is missing"));
    let (uri, queue, url) = (argument("uri")?, argument("queue")?, argument("url")?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut task = JoinSet::new(); // so that it runs on a worker thread, as the daemon's lanes do
        task.spawn(work(uri, queue, url));
        task.join_next().await.context("no task")??
    })?;
    Ok(true)
}

async fn work(uri: String, queue: String, url: String) -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .pool_max_idle_per_host(IN_FLIGHT)
        .timeout(Duration::from_secs(30))
        .tls_certs_only([])
        .no_proxy()
        .build()?;
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let consumer =
        channel.basic_consume(queue.into(), "floor".into(), BasicConsumeOptions::default(), FieldTable::default()).await?;
    let mut results = consumer.map(|delivery| one(&client, &url, delivery)).buffer_unordered(IN_FLIGHT);
    while let Some(result) = results.next().await {
        result?;
    }
    bail!("floor: the queue was deleted or the connection closed")
}

async fn one(client: &reqwest::Client, url: &str, delivery: lapin::Result<Delivery>) -> anyhow::Result<()> {
    let mut delivery = delivery?;
    let body = std::mem::take(&mut delivery.data);
    let request = client.post(url).bearer_auth(super::rig::KEY).header("content-type", "application/json").body(body);
    let answer = request.send().await?.error_for_status()?;
    answer.bytes().await?;
    delivery.acker.ack(BasicAckOptions::default()).await?;
    Ok(())
}
