//! The contract on a real RabbitMQ, with the users and permissions of `deploy/rabbitmq`.

use std::sync::Arc;
use std::time::Duration;

use campaignd::broker::Broker;
use campaignd::broker::rabbitmq::{LinkStatus, RabbitMq, Settings};
use campaignd::clock::Clock;
use tokio::time::timeout;

use crate::contract::{Home, contract_tests};
use crate::support::{RabbitNode, User};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn up(rabbit: &RabbitMq) {
    status_becomes(rabbit, |s| *s == LinkStatus::Up).await;
}

/// Waits for a status. Gives a copy: the link cannot go on while somebody holds a borrow of its status.
pub(crate) async fn status_becomes(rabbit: &RabbitMq, wanted: impl FnMut(&LinkStatus) -> bool) -> LinkStatus {
    let mut status = rabbit.status();
    let seen = timeout(PATIENCE, status.wait_for(wanted)).await.map(|seen| seen.unwrap().clone());
    seen.unwrap_or_else(|_| panic!("the link is still {:?}", *rabbit.status().borrow()))
}

pub(crate) async fn connected(node: &RabbitNode, vhost: &str) -> Arc<RabbitMq> {
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
