//! Who may do what, and what a person is told who may not.

use std::time::Duration;

use campaignd::broker::rabbitmq::{ConnectError, LinkStatus, RabbitMq, Role, Settings};
use campaignd::broker::{Bound, Broker, BrokerError, Source, Target};
use campaignd::clock::Clock;
use lapin::BasicProperties;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use tokio::sync::mpsc;
use tokio::task::block_in_place;

use crate::contract::{Inbox, campaign, id, job, publish};
use crate::rabbitmq::{connected, status_becomes, up};
use crate::support::User;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_declares_everything_in_an_empty_virtual_host() {
    let (node, _) = shared();
    let vhost = block_in_place(|| node.bare_vhost());
    let rabbit = connected(node, &vhost).await;
    let spring = campaign("spring");
    rabbit.prepare(&spring, Bound::Unknown).await.unwrap();
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
    assert!(matches!(producer.prepare(&spring, Bound::Unknown).await, Err(BrokerError::Denied(_))));
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
