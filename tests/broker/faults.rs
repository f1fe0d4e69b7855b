//! What only RabbitMQ can do to us: refuse, restart, die, run out of memory, be cut off.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use campaignd::broker::rabbitmq::{ConnectError, LinkStatus, RabbitMq, Role, Settings};
use campaignd::broker::{Broker, BrokerError, Event, Headers, Message, Source, Target};
use campaignd::clock::Clock;
use futures_util::future::join_all;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{sleep, timeout};

use crate::contract::{Inbox, campaign, id, job, numbered, publish, publish_all, wait_for_depth};
use crate::proxy::Proxy;
use crate::rabbitmq::{PATIENCE, connected, status_becomes, up};
use crate::support::{RabbitNode, User};

fn shared() -> (&'static RabbitNode, String) {
    block_in_place(|| {
        let node = RabbitNode::shared();
        (node, node.vhost())
    })
}

fn settings(uri: String) -> Settings {
    Settings::new(uri.into())
}

/// A raw channel, to do what our own code would not.
async fn raw(uri: &str) -> (Connection, Channel) {
    let connection = Connection::connect(uri, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

async fn ended(inbox: &mut Inbox) {
    let end = async {
        loop {
            if let Event::Ended { subscription, reason } = inbox.event().await {
                assert_eq!(subscription, inbox.subscription.id());
                assert!(!reason.is_empty());
                return;
            }
        }
    };
    timeout(PATIENCE, end).await.expect("the subscription did not end");
}

/// Takes and acknowledges until everything in `expected` has come; more copies than one are allowed.
async fn drain(broker: &dyn Broker, source: Source, expected: &BTreeSet<String>) {
    let mut inbox = Inbox::open(broker, source, 200).await;
    let mut missing = expected.clone();
    while !missing.is_empty() {
        let delivery = inbox.next().await;
        missing.remove(&id(&delivery));
        broker.ack(&[delivery.tag]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_declares_everything_in_an_empty_virtual_host() {
    let (node, _) = shared();
    let vhost = block_in_place(|| node.bare_vhost());
    let rabbit = connected(node, &vhost).await;
    let spring = campaign("spring");
    rabbit.prepare(&spring).await.unwrap();
    for to in [
        Target::Jobs(&spring),
        Target::Announce(&spring),
        Target::Dead(&spring),
        Target::Wait(&spring, Duration::from_secs(86_400)),
    ] {
        rabbit.publish(to, &job("x")).await.unwrap();
    }
    rabbit.remember(&spring, b"note").await.unwrap();
    assert_eq!(rabbit.recall().await.unwrap().len(), 1);
    rabbit.close().await;
    assert!(matches!(rabbit.depth(&Source::Intake).await, Err(BrokerError::Down(_))));
    // Declaring again changes nothing. (That the definitions say the same, every other test shows: it declares over them.)
    connected(node, &vhost).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_may_publish_jobs_and_announcements_and_nothing_else() {
    let (node, vhost) = shared();
    let daemon = connected(node, &vhost).await;
    let producer =
        RabbitMq::connect(Settings { role: Role::Producer, ..settings(node.uri(&vhost, User::Producer)) }, Clock::system());
    up(&producer).await;
    let spring = campaign("spring");
    publish(&producer, Target::Announce(&spring), &job("announcement")).await;
    publish(&producer, Target::Jobs(&spring), &job("j1")).await;
    let mut intake = Inbox::open(&*daemon, Source::Intake, 5).await;
    assert_eq!(intake.take(2).await.iter().map(id).collect::<Vec<_>>(), ["announcement", "j1"]);

    let (sink, _events) = mpsc::channel(1);
    assert!(matches!(producer.subscribe(Source::Intake, 1, sink).await, Err(BrokerError::Denied(_))));
    assert!(matches!(producer.prepare(&spring).await, Err(BrokerError::Denied(_))));
    assert!(matches!(producer.publish(Target::Dead(&spring), &job("x")).await, Err(BrokerError::Denied(_))));
    assert!(matches!(producer.publish(Target::Wait(&spring, Duration::ZERO), &job("x")).await, Err(BrokerError::Denied(_))));
    assert!(matches!(producer.remember(&spring, b"x").await, Err(BrokerError::Denied(_))));
    producer.publish(Target::Jobs(&spring), &job("j2")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_may_not_leave_its_own_names() {
    let (node, vhost) = shared();
    let (connection, channel) = raw(&node.uri(&vhost, User::Daemon)).await;
    let foreign = channel.queue_declare("orders".into(), QueueDeclareOptions::default(), FieldTable::default()).await;
    assert!(foreign.unwrap_err().to_string().contains("ACCESS_REFUSED"));
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let default_exchange = async {
        let properties = BasicProperties::default();
        channel.basic_publish("".into(), "campaignd.intake".into(), BasicPublishOptions::default(), b"x", properties).await?.await
    };
    assert!(default_exchange.await.unwrap_err().to_string().contains("ACCESS_REFUSED"));
    let channel = connection.create_channel().await.unwrap();
    let read = channel.basic_consume("orders".into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await;
    assert!(read.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_tells_apart_why_there_is_no_connection() {
    let (node, vhost) = shared();
    RabbitMq::probe(&settings(node.uri(&vhost, User::Daemon))).await.unwrap();
    let probe = async |uri: String| {
        let quick = Settings { connect_timeout: Duration::from_secs(5), ..settings(uri) };
        let error = RabbitMq::probe(&quick).await.unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        error
    };
    let good = node.uri(&vhost, User::Daemon);
    assert!(matches!(probe(good.replace("daemon-secret", "other-secret")).await, ConnectError::Login { .. }));
    assert!(matches!(probe(node.uri("nowhere", User::Daemon)).await, ConnectError::Vhost { .. }));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert!(matches!(probe(node.uri_at(nobody, &vhost, User::Daemon)).await, ConnectError::Unreachable { .. }));
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    assert!(matches!(
        probe(node.uri_at(silent.local_addr().unwrap().port(), &vhost, User::Daemon)).await,
        ConnectError::Unreachable { .. }
    ));
    assert!(matches!(probe("http://u:secret@h/".into()).await, ConnectError::Settings(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_shows_in_the_status_and_is_for_a_person_to_mend() {
    let (node, vhost) = shared();
    let rabbit = RabbitMq::connect(settings(node.uri(&vhost, User::Daemon).replace("secret", "wrong")), Clock::system());
    let seen = status_becomes(&rabbit, |s| matches!(s, LinkStatus::Connecting { attempt: 2.., last_error: Some(_) })).await;
    let shown = format!("{seen:?}");
    assert!(shown.contains("refused the login") && !shown.contains("daemon-wrong"), "{shown}");
    assert!(matches!(rabbit.depth(&Source::Intake).await, Err(BrokerError::Denied(_))));
}

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
    rabbit.prepare(&spring).await.unwrap();
    let mut inbox = Inbox::open(&*rabbit, Source::Jobs(spring.clone()), 5).await;
    let (_connection, channel) = raw(&node.uri(&vhost, User::Admin)).await;
    channel.queue_delete("campaignd.jobs.spring".into(), QueueDeleteOptions::default()).await.unwrap();
    ended(&mut inbox).await;
    let (sink, _events) = mpsc::channel(1);
    let missing = rabbit.subscribe(Source::Jobs(spring.clone()), 1, sink).await.unwrap_err();
    assert!(missing.to_string().contains("does not exist"), "{missing}");
    assert!(!rabbit.prepare(&spring).await.unwrap().existed);
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
    rabbit.prepare(&spring).await.unwrap();
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
    rabbit.prepare(&spring).await.unwrap();
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
    rabbit.prepare(&spring).await.unwrap();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_ends_subscriptions_and_heals() {
    let (node, vhost) = shared();
    let proxy = Proxy::start(node.port()).await;
    let rabbit = RabbitMq::connect(settings(node.uri_at(proxy.port(), &vhost, User::Daemon)), Clock::system());
    up(&rabbit).await;
    let spring = campaign("spring");
    rabbit.prepare(&spring).await.unwrap();
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
    rabbit.prepare(&spring).await.unwrap();
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
    rabbit.prepare(&spring).await.unwrap();
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
    sleep(Duration::from_secs(3)).await; // a node loses a queue declared less than two seconds before it is killed
    block_in_place(fault);
    up(&rabbit).await;
    ended(&mut inbox).await;
    sleep(Duration::from_secs(1)).await;
    stop.send(true).unwrap();
    let confirmed: BTreeSet<String> = tasks.join_all().await.into_iter().flatten().collect();
    assert!(confirmed.len() > 300);
    let mut expected: BTreeSet<String> = confirmed.difference(&got).cloned().collect();
    expected.insert("delayed".into());
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
    assert!(matches!(rabbit.prepare(&nobody).await, Err(BrokerError::Down(_))));
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
    rabbit.prepare(&spring).await.unwrap();
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

/// Declares a campaign's queue as the daemon does, and kills the node before the queue is safe.
async fn kill_young(node: &RabbitNode, vhost: &str, declare: impl AsyncFnOnce()) {
    declare().await;
    wait_until_declared(node, vhost).await;
    block_in_place(|| {
        node.kill9();
        node.boot();
    });
}

async fn wait_until_declared(node: &RabbitNode, vhost: &str) {
    let (connection, _) = raw(&node.uri(vhost, User::Admin)).await;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let there = async {
        loop {
            let channel = connection.create_channel().await.unwrap();
            if channel.queue_declare("campaignd.jobs.spring".into(), passive, FieldTable::default()).await.is_ok() {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, there).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_died_young_is_replaced_or_named() {
    let node = block_in_place(RabbitNode::start);
    let vhost = block_in_place(|| node.vhost());
    let rabbit = connected(&node, &vhost).await;
    let spring = campaign("spring");
    sleep(Duration::from_secs(3)).await; // what is shared by the campaigns was declared just now, too

    // The daemon lives on: it knows that the queue was never bound, and replaces it.
    let preparing = {
        let (rabbit, spring) = (Arc::clone(&rabbit), spring.clone());
        let mut task = JoinSet::new();
        task.spawn(async move { rabbit.prepare(&spring).await });
        task
    };
    kill_young(&node, &vhost, async || {}).await;
    assert!(preparing.join_all().await[0].is_err());
    up(&rabbit).await;
    let again = timeout(PATIENCE, async {
        loop {
            if let Ok(prepared) = rabbit.prepare(&spring).await {
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

    // Daemon and node die together: the next daemon finds a queue that never answers, and says so.
    kill_young(&node, &vhost, async || {
        let (_connection, channel) = raw(&node.uri(&vhost, User::Admin)).await;
        let mut quorum = FieldTable::default();
        quorum.insert("x-queue-type".into(), lapin::types::AMQPValue::LongString("quorum".into()));
        quorum.insert("x-delivery-limit".into(), lapin::types::AMQPValue::LongLongInt(1_000_000));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare("campaignd.jobs.spring".into(), durable, quorum).await.unwrap();
    })
    .await;
    let next = connected(&node, &vhost).await;
    let found = next.prepare(&spring).await;
    assert!(matches!(&found, Err(BrokerError::Denied(text)) if text.contains("no leader")), "{found:?}");
    let summer = campaign("summer");
    assert!(!next.prepare(&summer).await.unwrap().existed);
    let mut inbox = Inbox::open(&*next, Source::Jobs(summer.clone()), 5).await;
    let removed = next.remove(&spring).await;
    assert!(matches!(&removed, Err(BrokerError::Denied(text)) if text.contains("no leader")), "{removed:?}");
    // Trying it has not disturbed the others: an event that the subscription had ended would come first.
    assert_eq!(*next.status().borrow(), LinkStatus::Up);
    publish(&*next, Target::Jobs(&summer), &job("alive")).await;
    assert_eq!(id(&inbox.next().await), "alive");
}
