//! Connections cut and silent; nodes restarted, killed, not there yet, out of memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use campaignd::broker::rabbitmq::{LinkStatus, RabbitMq, Settings};
use campaignd::broker::{Bound, Broker, BrokerError, Source, Target};
use campaignd::clock::Clock;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::sleep;

use crate::contract::{Inbox, campaign, id, job, numbered, publish, publish_all, wait_for_depth};
use crate::proxy::Proxy;
use crate::rabbitmq::{status_becomes, up};
use crate::support::{RabbitNode, User};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_ends_subscriptions_and_heals() {
    let (node, vhost) = shared();
    let proxy = Proxy::start(node.port()).await;
    let rabbit = RabbitMq::connect(settings(node.uri_at(proxy.port(), &vhost, User::Daemon)), Clock::system());
    up(&rabbit).await;
    let spring = campaign("spring");
    rabbit.prepare(&spring, Bound::Unknown).await.unwrap();
    let source = Source::Jobs(spring.clone());
    publish_all(&rabbit, &spring, &numbered(0..10)).await;
    let mut inbox = Inbox::open(&rabbit, source.clone(), 5).await;
    let got = inbox.take(5).await;
    rabbit.ack(&[got[0].tag]).await.unwrap();
    wait_for_depth(&rabbit, &source, 4).await; // the sixth has come for the first, so its acknowledgement has arrived
    proxy.cut();
    ended(&mut inbox).await;
    rabbit.ack(&[got[1].tag]).await.unwrap();
    up(&rabbit).await;
    let mut again = Inbox::open(&rabbit, source, 20).await;
    let all = again.take(9).await;
    assert_eq!(all.iter().map(id).collect::<Vec<_>>(), numbered(1..10));
    assert!(all[..4].iter().all(|d| d.redelivered));
    publish(&rabbit, Target::Jobs(&spring), &job("after")).await;
    assert_eq!(id(&again.next().await), "after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_is_given_up() {
    let (node, vhost) = shared();
    let proxy = Proxy::start(node.port()).await;
    let second = Duration::from_secs(1);
    let quick = Settings {
        heartbeat: second,
        call_timeout: 2 * second,
        connect_timeout: 2 * second,
        ..settings(node.uri_at(proxy.port(), &vhost, User::Daemon))
    };
    let rabbit = RabbitMq::connect(quick, Clock::system());
    up(&rabbit).await;
    let spring = campaign("spring");
    rabbit.prepare(&spring, Bound::Unknown).await.unwrap();
    let mut inbox = Inbox::open(&rabbit, Source::Jobs(spring.clone()), 5).await;
    proxy.freeze(true);
    assert!(rabbit.publish(Target::Jobs(&spring), &job("lost?")).await.is_err());
    ended(&mut inbox).await;
    proxy.cut(); // before it is heard again: a connection made meanwhile stays
    proxy.freeze(false);
    up(&rabbit).await;
    publish(&rabbit, Target::Jobs(&spring), &job("heard")).await;
    drain(&rabbit, Source::Jobs(spring), &["heard".to_owned()].into()).await;
}

/// Publishes until told to stop; gives the ids that were confirmed.
fn publishing(rabbit: &Arc<RabbitMq>, stop: tokio::sync::watch::Receiver<bool>) -> JoinSet<BTreeSet<String>> {
    let mut tasks = JoinSet::new();
    for lane in 0..4 {
        let (rabbit, stop) = (Arc::clone(rabbit), stop.clone());
        tasks.spawn(async move {
            let spring = campaign("spring");
            let mut confirmed = BTreeSet::new();
            for n in 0.. {
                if *stop.borrow() {
                    break;
                }
                let id = format!("{lane}-{n}");
                match rabbit.publish(Target::Jobs(&spring), &job(&id)).await {
                    Ok(()) => drop(confirmed.insert(id)),
                    Err(_) => sleep(Duration::from_millis(20)).await,
                }
                sleep(Duration::from_millis(2)).await;
            }
            confirmed
        });
    }
    tasks
}

/// Consumes and publishes while `fault` happens to the node; nothing confirmed may be missing in the end.
async fn nothing_is_lost_when(node: &RabbitNode, fault: impl FnOnce() + Send) {
    let vhost = block_in_place(|| node.vhost());
    let quick = Settings { call_timeout: Duration::from_secs(3), ..settings(node.uri(&vhost, User::Daemon)) };
    let rabbit = Arc::new(RabbitMq::connect(quick, Clock::system()));
    up(&rabbit).await;
    let spring = campaign("spring");
    rabbit.prepare(&spring, Bound::Unknown).await.unwrap();
    publish(&*rabbit, Target::Wait(&spring, Duration::from_secs(5)), &job("delayed")).await;
    publish(&*rabbit, Target::Dead(&spring), &job("dead")).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let tasks = publishing(&rabbit, stopped);
    let mut inbox = Inbox::open(&*rabbit, Source::Jobs(spring.clone()), 50).await;
    let mut got = BTreeSet::new();
    while got.len() < 300 {
        let delivery = inbox.next().await;
        rabbit.ack(&[delivery.tag]).await.unwrap();
        got.insert(id(&delivery));
    }
    block_in_place(fault);
    up(&rabbit).await;
    ended(&mut inbox).await;
    publish(&*rabbit, Target::Jobs(&spring), &job("after")).await; // it takes jobs again
    stop.send(true).unwrap();
    let confirmed: BTreeSet<String> = tasks.join_all().await.into_iter().flatten().collect();
    // what was delivered, but for those whose confirm was under way when the node went
    assert!(confirmed.len() > 100, "{} confirmed", confirmed.len());
    let mut expected: BTreeSet<String> = confirmed.difference(&got).cloned().collect();
    expected.extend(["delayed".into(), "after".into()]);
    drain(&*rabbit, Source::Jobs(spring.clone()), &expected).await;
    drain(&*rabbit, Source::Dead(spring), &["dead".to_owned()].into()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_loses_nothing() {
    let node = block_in_place(RabbitNode::start);
    nothing_is_lost_when(&node, || node.restart()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_loses_nothing() {
    let node = block_in_place(RabbitNode::start);
    nothing_is_lost_when(&node, || {
        node.kill9();
        node.boot();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_waits_for_a_node_that_is_not_there_yet() {
    let node = block_in_place(RabbitNode::start);
    let vhost = block_in_place(|| node.vhost());
    block_in_place(|| node.stop());
    let rabbit = RabbitMq::connect(settings(node.uri(&vhost, User::Daemon)), Clock::system());
    status_becomes(&rabbit, |s| matches!(s, LinkStatus::Connecting { attempt: 2.., .. })).await;
    let nobody = campaign("spring");
    assert!(matches!(rabbit.publish(Target::Jobs(&nobody), &job("x")).await, Err(BrokerError::Down(_))));
    assert!(matches!(rabbit.prepare(&nobody, Bound::Unknown).await, Err(BrokerError::Down(_))));
    block_in_place(|| node.boot());
    up(&rabbit).await;
    rabbit.publish(Target::Jobs(&nobody), &job("x")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_a_memory_alarm_publishes_wait_and_consuming_goes_on() {
    let node = block_in_place(RabbitNode::start);
    let vhost = block_in_place(|| node.vhost());
    let quick = Settings { call_timeout: Duration::from_secs(2), ..settings(node.uri(&vhost, User::Daemon)) };
    let rabbit = Arc::new(RabbitMq::connect(quick, Clock::system()));
    up(&rabbit).await;
    let spring = campaign("spring");
    let source = Source::Jobs(spring.clone());
    rabbit.prepare(&spring, Bound::Unknown).await.unwrap();
    publish_all(&*rabbit, &spring, &numbered(0..20)).await;
    block_in_place(|| node.memory_alarm(true));

    let held = rabbit.publish(Target::Jobs(&spring), &job("held")).await;
    assert_eq!(held, Err(BrokerError::Timeout(Duration::from_secs(2))));
    status_becomes(&rabbit, |s| matches!(s, LinkStatus::Blocked { .. })).await;
    for _ in 0..3 {
        assert!(rabbit.publish(Target::Jobs(&spring), &job("not handed over")).await.is_err());
    }
    let mut inbox = Inbox::open(&*rabbit, source.clone(), 5).await;
    for n in 0..20 {
        let delivery = inbox.next().await;
        assert_eq!(id(&delivery), format!("job-{n:05}"));
        rabbit.ack(&[delivery.tag]).await.unwrap();
    }

    let after = job("after");
    let waiting = publish(&*rabbit, Target::Jobs(&spring), &after);
    let lift = async { block_in_place(|| node.memory_alarm(false)) };
    tokio::join!(waiting, lift);
    up(&rabbit).await;
    let mut seen = Vec::new();
    while seen.last().map(String::as_str) != Some("after") {
        seen.push(id(&inbox.next().await));
    }
    assert!(!seen.contains(&"not handed over".to_owned()), "a publish given up while blocked must not come later: {seen:?}");
}
