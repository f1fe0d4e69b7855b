//! More channels than one connection has: subscriptions, calls, and those that RabbitMQ ends.

use std::collections::BTreeSet;

use campaignd::broker::rabbitmq::{RabbitMq, Settings};
use campaignd::broker::{Bound, Broker, Source, Target};
use campaignd::clock::Clock;
use campaignd::job::CampaignId;
use futures_util::future::join_all;
use lapin::options::ExchangeDeleteOptions;
use serde_json::Value;
use tokio::task::block_in_place;
use tokio::time::{Duration, sleep, timeout};

use crate::contract::{Inbox, campaign, id, job, numbered, publish, publish_all};
use crate::rabbitmq::{PATIENCE, up};
use crate::support::{RabbitNode, User};

use super::{drain, ended, raw, settings, shared};

/// With 16 channels for each connection, half of them for subscriptions.
const CAMPAIGNS: usize = 20;

fn jobs(campaign: &CampaignId) -> Source {
    Source::Jobs(campaign.clone())
}

/// Allowed few channels on each connection.
fn narrow(node: &RabbitNode, vhost: &str) -> Settings {
    settings(format!("{}?channel_max=16", node.uri(vhost, User::Daemon)))
}

/// Campaigns whose queues are there.
async fn prepared(rabbit: &RabbitMq) -> Vec<CampaignId> {
    let campaigns: Vec<CampaignId> = (0..CAMPAIGNS).map(|n| campaign(&format!("c{n}"))).collect();
    for prepared in join_all(campaigns.iter().map(|campaign| rabbit.prepare(campaign, Bound::Unknown))).await {
        prepared.unwrap();
    }
    campaigns
}

/// What RabbitMQ lists of the virtual host's connections: each one's name of ours, and its own.
fn listed(node: &RabbitNode, vhost: &str) -> Vec<(String, String)> {
    let (_, body) = block_in_place(|| node.http("GET", &format!("/api/vhosts/{vhost}/connections"), ""));
    let all: Vec<Value> = serde_json::from_str(&body).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    all.iter().map(|one| (text(&one["client_properties"]["connection_name"]), text(&one["name"]))).collect()
}

async fn connections_become(node: &RabbitNode, vhost: &str, wanted: &[&str]) {
    let wanted: BTreeSet<String> = wanted.iter().map(|name| format!("campaignd {name}")).collect();
    let met = async {
        while listed(node, vhost).into_iter().map(|(ours, _)| ours).collect::<BTreeSet<_>>() != wanted {
            sleep(Duration::from_millis(200)).await;
        }
    };
    let found = timeout(PATIENCE, met).await;
    found.unwrap_or_else(|_| panic!("the connections are {:?}", listed(node, vhost)));
}

async fn subscribed(rabbit: &RabbitMq, campaigns: &[CampaignId]) -> Vec<Inbox> {
    join_all(campaigns.iter().map(|campaign| Inbox::open(rabbit, jobs(campaign), 2))).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_subscriptions_than_one_connection_takes_are_all_served_and_fail_together() {
    let (node, vhost) = shared();
    let rabbit = RabbitMq::connect(narrow(node, &vhost), Clock::system());
    up(&rabbit).await;
    let campaigns = prepared(&rabbit).await;
    for campaign in &campaigns {
        publish_all(&rabbit, campaign, &numbered(0..3)).await;
    }
    let mut inboxes = subscribed(&rabbit, &campaigns).await;
    for inbox in &mut inboxes {
        let first = inbox.next().await;
        rabbit.ack(&[first.tag]).await.unwrap();
        let rest = inbox.take(2).await; // the third comes only once the first is acknowledged
        assert_eq!(rest.iter().map(id).collect::<Vec<_>>(), numbered(1..3));
    }
    connections_become(node, &vhost, &["consume", "consume 2", "consume 3", "publish"]).await;

    let second = listed(node, &vhost).into_iter().find(|(ours, _)| ours == "campaignd consume 2").unwrap().1;
    let path = format!("/api/connections/{}", second.replace(' ', "%20").replace('>', "%3E"));
    block_in_place(|| node.http("DELETE", &path, ""));
    for inbox in &mut inboxes {
        ended(inbox).await;
    }
    drop(inboxes);
    up(&rabbit).await;
    let mut inboxes = subscribed(&rabbit, &campaigns).await;
    for (inbox, campaign) in inboxes.iter_mut().zip(&campaigns) {
        let left = inbox.take(2).await;
        assert_eq!(left.iter().map(id).collect::<Vec<_>>(), numbered(1..3), "{campaign}");
        rabbit.ack(&left.iter().map(|delivery| delivery.tag).collect::<Vec<_>>()).await.unwrap();
    }
    connections_become(node, &vhost, &["consume", "consume 2", "consume 3", "publish"]).await;

    inboxes.truncate(5);
    connections_become(node, &vhost, &["consume", "publish"]).await;
    for campaign in &campaigns {
        assert_eq!(rabbit.depth(&jobs(campaign)).await.unwrap(), 0, "{campaign}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_campaigns_that_are_over_at_once_leave_no_queue_and_no_connection() {
    let (node, vhost) = shared();
    let rabbit = RabbitMq::connect(narrow(node, &vhost), Clock::system());
    up(&rabbit).await;
    let campaigns = prepared(&rabbit).await;
    for removed in join_all(campaigns.iter().map(|campaign| rabbit.remove(campaign))).await {
        assert_eq!(removed, Ok(true));
    }
    let (_, queues) = block_in_place(|| node.http("GET", &format!("/api/queues/{vhost}?columns=name"), ""));
    assert!(!queues.contains("campaignd.jobs."), "{queues}");
    connections_become(node, &vhost, &["consume", "publish"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_that_were_refused_for_long_use_up_no_connection() {
    let (node, vhost) = shared();
    let rabbit = RabbitMq::connect(narrow(node, &vhost), Clock::system());
    up(&rabbit).await;
    let (spring, second) = (campaign("spring"), Duration::from_secs(1));
    let (_admin, channel) = raw(&node.uri(&vhost, User::Admin)).await;
    channel.exchange_delete("campaignd.wait.1000".into(), ExchangeDeleteOptions::default()).await.unwrap();
    for _ in 0..50 {
        rabbit.publish(Target::Wait(&spring, second), &job("kept")).await.unwrap_err();
    }
    up(&RabbitMq::connect(narrow(node, &vhost), Clock::system())).await; // which declares it again
    publish(&rabbit, Target::Wait(&spring, second), &job("kept")).await;
    drain(&rabbit, Source::Intake, &["kept".to_owned()].into()).await;
}
