//! What only RabbitMQ can do to us: refuse, restart, die, run out of memory, be cut off.

mod links;
mod permissions;
mod queues;
mod spread;

use std::collections::BTreeSet;

use campaignd::broker::rabbitmq::Settings;
use campaignd::broker::{Broker, Event, Source};
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::task::block_in_place;
use tokio::time::timeout;

use crate::contract::{Inbox, id};
use crate::rabbitmq::PATIENCE;
use crate::support::RabbitNode;

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
