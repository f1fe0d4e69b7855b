//! Queues that are foreign, full, silent, held by others, deleted or dead.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use campaignd::broker::rabbitmq::LinkStatus;
use campaignd::broker::{Bound, Broker, BrokerError, Headers, Message, Source, Target};
use futures_util::future::join_all;
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{sleep, timeout};

use crate::contract::{Inbox, campaign, id, job, numbered, publish, publish_all, wait_for_depth};
use crate::rabbitmq::{PATIENCE, connected, up};
use crate::support::{RabbitNode, User};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_messages_are_taken_as_they_are() {
    let (node, vhost) = shared();
    let rabbit = connected(node, &vhost).await;
    let (_connection, channel) = raw(&node.uri(&vhost, User::Producer)).await;
    let long = "x".repeat(255);
    let properties = BasicProperties::default().with_message_id(long.as_str().into()).with_content_encoding("gzip".into());
    for (key, properties) in [("Not/A Campaign", BasicProperties::default()), ("", properties)] {
        let sent =
            channel.basic_publish("campaignd.jobs".into(), key.into(), BasicPublishOptions::default(), b"\xff", properties).await;
        sent.unwrap().await.unwrap();
    }
    let mut intake = Inbox::open(&*rabbit, Source::Intake, 5).await;
    let got = intake.take(2).await;
    let odd = Headers { routed_to: Some("Not/A Campaign".into()), ..Headers::default() };
    assert_eq!(got[0].message, Message { body: vec![0xff].into(), headers: odd });
    assert_eq!(got[1].message.headers, Headers { message_id: Some(long), ..Headers::default() });
    // Shelved with its odd routing key, it keeps it.
    let shelf = campaign("spring");
    publish(&*rabbit, Target::Dead(&shelf), &got[0].message).await;
    let letter = Inbox::open(&*rabbit, Source::Dead(shelf), 1).await.next().await;
    assert_eq!(letter.message.headers.routed_to.as_deref(), Some("Not/A Campaign"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_intake_feeds_one_daemon_at_a_time() {
    let (node, vhost) = shared();
    let (first, second) = (connected(node, &vhost).await, connected(node, &vhost).await);
    let mut at_first = Inbox::open(&*first, Source::Intake, 2).await;
    let mut at_second = Inbox::open(&*second, Source::Intake, 10).await;
    let spring = campaign("spring");
    publish_all(&*first, &spring, &numbered(0..5)).await;
    assert_eq!(at_first.take(2).await.iter().map(id).collect::<Vec<_>>(), numbered(0..2));
    assert!(at_second.events.try_recv().is_err());
    drop(at_first);
    assert_eq!(at_second.take(5).await.iter().map(id).collect::<Vec<_>>(), numbered(0..5), "taken over in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_ends_its_subscription() {
    let (node, vhost) = shared();
    let rabbit = connected(node, &vhost).await;
    let spring = campaign("spring");
    rabbit.prepare(&spring, Bound::Unknown).await.unwrap();
    let mut inbox = Inbox::open(&*rabbit, Source::Jobs(spring.clone()), 5).await;
    let (_connection, channel) = raw(&node.uri(&vhost, User::Admin)).await;
    channel.queue_delete("campaignd.jobs.spring".into(), QueueDeleteOptions::default()).await.unwrap();
    ended(&mut inbox).await;
    let (sink, _events) = mpsc::channel(1);
    let missing = rabbit.subscribe(Source::Jobs(spring.clone()), 1, sink).await.unwrap_err();
    assert!(missing.to_string().contains("does not exist"), "{missing}");
    assert!(!rabbit.prepare(&spring, Bound::Unknown).await.unwrap().existed);
    publish(&*rabbit, Target::Jobs(&spring), &job("again")).await;
    assert_eq!(id(&Inbox::open(&*rabbit, Source::Jobs(spring), 5).await.next().await), "again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_routed_is_never_taken_for_stored() {
    let (node, vhost) = shared();
    let rabbit = connected(node, &vhost).await;
    let spring = campaign("spring");
    rabbit.publish(Target::Dead(&spring), &job("first")).await.unwrap();
    let (_connection, channel) = raw(&node.uri(&vhost, User::Admin)).await;
    channel.queue_delete("campaignd.dead.spring".into(), QueueDeleteOptions::default()).await.unwrap();
    let letters = numbered(0..40).into_iter().map(|id| {
        let (rabbit, spring) = (&rabbit, &spring);
        async move { rabbit.publish(Target::Dead(spring), &job(&id)).await }
    });
    assert_eq!(join_all(letters).await.into_iter().filter_map(Result::err).collect::<Vec<_>>(), [], "the shelf is made again");
    wait_for_depth(&*rabbit, &Source::Dead(spring.clone()), 40).await;
    channel.queue_delete("campaignd.wait.1000".into(), QueueDeleteOptions::default()).await.unwrap();
    let delayed = rabbit.publish(Target::Wait(&spring, Duration::from_secs(1)), &job("x")).await;
    assert!(matches!(delayed, Err(BrokerError::Denied(_))), "{delayed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_and_takes_again_when_there_is_room() {
    let (node, vhost) = shared();
    let rabbit = connected(node, &vhost).await;
    let spring = campaign("spring");
    rabbit.prepare(&spring, Bound::Unknown).await.unwrap();
    let policy = r#"{"pattern": "^campaignd.jobs.spring$", "apply-to": "queues", "definition": {"max-length": 5, "overflow": "reject-publish"}}"#;
    let (status, answer) = block_in_place(|| node.http("PUT", &format!("/api/policies/{vhost}/full"), policy));
    assert!(status.contains(" 20"), "{status} {answer}");
    let mut stored = BTreeSet::new();
    let fill = async {
        for id in numbered(0..1_000) {
            match rabbit.publish(Target::Jobs(&spring), &job(&id)).await {
                Ok(()) => stored.insert(id),
                Err(error) => return error,
            };
        }
        panic!("it is never full");
    };
    assert!(matches!(timeout(PATIENCE, fill).await.unwrap(), BrokerError::Refused(_)));
    drain(&*rabbit, Source::Jobs(spring.clone()), &stored).await;
    publish(&*rabbit, Target::Jobs(&spring), &job("fits")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_does_not_answer_is_not_taken_for_empty() {
    let (node, vhost) = shared();
    let rabbit = connected(node, &vhost).await;
    let spring = campaign("spring");
    rabbit.prepare(&spring, Bound::Unknown).await.unwrap();
    publish_all(&*rabbit, &spring, &numbered(0..3)).await;
    let source = Source::Jobs(spring.clone());
    wait_for_depth(&*rabbit, &source, 3).await;
    let order = |what: &str| block_in_place(|| node.ctl(&["eval", &format!("sys:{what}('{vhost}_campaignd.jobs.spring').")]));
    order("suspend");
    let depth = rabbit.depth(&source).await;
    let removed = rabbit.remove(&spring).await;
    order("resume");
    assert!(depth.is_err(), "{depth:?}");
    assert!(removed.is_err(), "{removed:?}");
    wait_for_depth(&*rabbit, &source, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_a_lost_connection_still_consumes_is_kept() {
    let (node, vhost) = shared();
    let rabbit = connected(node, &vhost).await;
    let spring = campaign("spring");
    rabbit.prepare(&spring, Bound::Unknown).await.unwrap();
    publish_all(&*rabbit, &spring, &numbered(0..1)).await;
    // Somebody who has taken the job and is not heard of any more: RabbitMQ finds out by its heartbeat.
    let lost = connected(node, &vhost).await;
    let mut inbox = Inbox::open(&*lost, Source::Jobs(spring.clone()), 5).await;
    inbox.next().await;
    assert_eq!(rabbit.remove(&spring).await, Ok(false), "the job it holds would be deleted with the queue");
    drop(inbox);
    wait_for_depth(&*rabbit, &Source::Jobs(spring.clone()), 1).await;
    drain(&*rabbit, Source::Jobs(spring.clone()), &numbered(0..1).into_iter().collect()).await;
    let end = tokio::time::Instant::now() + PATIENCE;
    while rabbit.remove(&spring).await != Ok(true) {
        assert!(tokio::time::Instant::now() < end, "never removed");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Declares a campaign's queue as the daemon does, and kills the node before the queue is safe.
async fn kill_young(node: &RabbitNode, vhost: &str, queue: &'static str, declare: impl AsyncFnOnce()) {
    declare().await;
    wait_until_declared(node, vhost, queue).await;
    block_in_place(|| {
        node.kill9();
        node.boot();
    });
}

async fn wait_until_declared(node: &RabbitNode, vhost: &str, queue: &'static str) {
    let (connection, _) = raw(&node.uri(vhost, User::Admin)).await;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let there = async {
        loop {
            let channel = connection.create_channel().await.unwrap();
            if channel.queue_declare(queue.into(), passive, FieldTable::default()).await.is_ok() {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, there).await.unwrap();
}

const JOBS_OF_SPRING: &str = "campaignd.jobs.spring";

/// As a daemon does that dies right after.
async fn declare_as_a_daemon(node: &RabbitNode, vhost: &str, queue: &'static str) {
    let (_connection, channel) = raw(&node.uri(vhost, User::Admin)).await;
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), lapin::types::AMQPValue::LongString("quorum".into()));
    quorum.insert("x-delivery-limit".into(), lapin::types::AMQPValue::LongLongInt(1_000_000));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), durable, quorum).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_queue_that_died_young_together_with_its_daemon_is_replaced() {
    let node = block_in_place(RabbitNode::start);
    let vhost = block_in_place(|| node.vhost());
    let rabbit = connected(&node, &vhost).await;
    let (spring, dead) = (campaign("spring"), "campaignd.dead.spring");
    rabbit.prepare(&campaign("autumn"), Bound::Unknown).await.unwrap(); // from then on all that campaigns share is safe
    rabbit.close().await;
    drop(rabbit);
    kill_young(&node, &vhost, dead, async || declare_as_a_daemon(&node, &vhost, dead).await).await;
    let next = connected(&node, &vhost).await;
    publish(&*next, Target::Dead(&spring), &job("letter")).await;
    assert_eq!(next.depth(&Source::Dead(spring.clone())).await.unwrap(), 1);
    // One that is bound is nobody's to replace.
    publish(&*next, Target::Dead(&spring), &job("another")).await;
    drain(&*next, Source::Dead(spring), &["letter".to_owned(), "another".to_owned()].into()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_the_last_daemon_made_just_before_it_died_takes_jobs_once_it_is_safe() {
    let node = block_in_place(RabbitNode::start);
    let vhost = block_in_place(|| node.vhost());
    let (spring, dead) = (campaign("spring"), "campaignd.dead.spring");
    let rabbit = connected(&node, &vhost).await;
    rabbit.prepare(&campaign("autumn"), Bound::Unknown).await.unwrap(); // from then on all that campaigns share is safe
    rabbit.close().await;
    drop(rabbit);
    declare_as_a_daemon(&node, &vhost, JOBS_OF_SPRING).await;
    declare_as_a_daemon(&node, &vhost, dead).await;
    let next = connected(&node, &vhost).await;
    let job_queue = async {
        assert!(next.prepare(&spring, Bound::Unknown).await.unwrap().existed);
        publish(&*next, Target::Jobs(&spring), &job("confirmed")).await;
    };
    let (letter, spring) = (job("letter"), campaign("spring"));
    let letters = publish(&*next, Target::Dead(&spring), &letter);
    tokio::join!(job_queue, letters);
    block_in_place(|| {
        node.kill9();
        node.boot();
    });
    up(&next).await;
    drain(&*next, Source::Jobs(spring.clone()), &["confirmed".to_owned()].into()).await;
    drain(&*next, Source::Dead(spring), &["letter".to_owned()].into()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_died_young_is_replaced_or_named() {
    let node = block_in_place(RabbitNode::start);
    let vhost = block_in_place(|| node.vhost());
    let rabbit = connected(&node, &vhost).await;
    let spring = campaign("spring");
    // What the campaigns share was declared before: once a later queue is safe from a kill, so is that.
    rabbit.prepare(&campaign("autumn"), Bound::Unknown).await.unwrap();

    // The daemon lives on: it knows that the queue was never bound, and replaces it.
    let preparing = {
        let (rabbit, spring) = (Arc::clone(&rabbit), spring.clone());
        let mut task = JoinSet::new();
        task.spawn(async move { rabbit.prepare(&spring, Bound::Unknown).await });
        task
    };
    kill_young(&node, &vhost, JOBS_OF_SPRING, async || {}).await;
    assert!(preparing.join_all().await[0].is_err());
    up(&rabbit).await;
    let again = timeout(PATIENCE, async {
        loop {
            if let Ok(prepared) = rabbit.prepare(&spring, Bound::Unknown).await {
                return prepared;
            }
            sleep(Duration::from_millis(100)).await;
        }
    });
    assert!(!again.await.unwrap().existed);
    publish(&*rabbit, Target::Jobs(&spring), &job("alive")).await;
    drain(&*rabbit, Source::Jobs(spring.clone()), &["alive".to_owned()].into()).await;
    assert!(rabbit.remove(&spring).await.unwrap());
    rabbit.close().await;
    drop(rabbit);

    // Daemon and node die together: the next daemon finds a queue that never answers. It makes it anew if it was never to be used;
    // else it may only be out of reach, and a person decides.
    kill_young(&node, &vhost, JOBS_OF_SPRING, async || declare_as_a_daemon(&node, &vhost, JOBS_OF_SPRING).await).await;
    let next = connected(&node, &vhost).await;
    let found = next.prepare(&spring, Bound::Unknown).await;
    assert!(matches!(&found, Err(BrokerError::Denied(text)) if text.contains("no leader")), "{found:?}");
    let summer = campaign("summer");
    assert!(!next.prepare(&summer, Bound::Unknown).await.unwrap().existed);
    let mut inbox = Inbox::open(&*next, Source::Jobs(summer.clone()), 5).await;
    let removed = next.remove(&spring).await;
    assert!(matches!(&removed, Err(BrokerError::Denied(text)) if text.contains("no leader")), "{removed:?}");
    // Trying it has not disturbed the others: an event that the subscription had ended would come first.
    assert_eq!(*next.status().borrow(), LinkStatus::Up);
    publish(&*next, Target::Jobs(&summer), &job("alive")).await;
    assert_eq!(id(&inbox.next().await), "alive");
    let both = tokio::join!(next.prepare(&spring, Bound::No), next.prepare(&spring, Bound::No));
    assert!(!both.0.unwrap().existed && both.1.is_ok(), "one makes it, and the other finds it made");
    publish(&*next, Target::Jobs(&spring), &job("anew")).await;
    drain(&*next, Source::Jobs(spring.clone()), &["anew".to_owned()].into()).await;
}
