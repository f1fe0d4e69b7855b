//! The contract on the embedded broker.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::path::Path;
use std::sync::Arc;

use campaignd::broker::Broker;
use campaignd::broker::embedded::Embedded;
use campaignd::clock::Clock;

use crate::contract::{Home, contract_tests};

fn open(dir: &Path) -> Arc<dyn Broker> {
    Arc::new(Embedded::open(dir, Clock::system()).unwrap())
}

async fn home() -> Home {
    let keep = tempfile::tempdir().unwrap();
    let dir = keep.path().to_owned();
    Home {
        broker: open(&dir),
        reopen: Box::new(move |old| {
            let dir = dir.clone();
            Box::pin(async move {
                tokio::task::block_in_place(|| {
                    drop(old);
                    open(&dir)
                })
            })
        }),
        _keep: Box::new(keep),
    }
}

contract_tests!(home);
