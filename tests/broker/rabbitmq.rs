//! The contract on a real RabbitMQ, and what only RabbitMQ can do: restart, die, run out of memory, refuse, be cut off.

use std::sync::Arc;
use std::time::Duration;

use campaignd::broker::rabbitmq::{LinkStatus, RabbitMq, Role, Settings};
use campaignd::broker::{Broker, BrokerError, Event, Source, Target};
use campaignd::clock::Clock;
use tokio::time::timeout;

use crate::contract::{Home, Inbox, campaign, contract_tests, id, job, numbered, publish, publish_all, wait_for_depth};
use crate::support::{RabbitNode, User};

const PATIENCE: Duration = Duration::from_secs(60);

async fn up(rabbit: &RabbitMq) {
    let mut status = rabbit.status();
    let wait = status.wait_for(|s| *s == LinkStatus::Up);
    let seen = timeout(PATIENCE, wait).await;
    assert!(seen.is_ok(), "not connected: {:?}", *rabbit.status().borrow());
}

async fn connected(node: &RabbitNode, vhost: &str) -> Arc<RabbitMq> {
    let rabbit = RabbitMq::connect(Settings::new(node.uri(vhost, User::Daemon).into()), Clock::system());
    up(&rabbit).await;
    Arc::new(rabbit)
}

async fn home() -> Home {
    let node = tokio::task::block_in_place(RabbitNode::shared);
    let vhost = tokio::task::block_in_place(|| node.vhost());
    let broker = connected(node, &vhost).await;
    Home {
        broker,
        reopen: Box::new(move |old| {
            let vhost = vhost.clone();
            Box::pin(async move {
                drop(old);
                let new: Arc<dyn Broker> = connected(node, &vhost).await;
                new
            })
        }),
        _keep: Box::new(()),
    }
}

contract_tests!(home);
