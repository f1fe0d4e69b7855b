//! A TCP proxy that can cut its connections, hold them silent, slow them down or refuse new ones: the wire's own faults.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    dead_code,
    reason = "included by several test programs, each with its own part of it in use; a test fails by panicking"
)]

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Forwards to a port on this machine until it is dropped.
pub(crate) struct Proxy {
    port: u16,
    faults: watch::Sender<Faults>,
    _acceptor: JoinSet<()>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Faults {
    frozen: bool,
    down: bool,
    delay: Duration,
    cuts: u32,
}

impl Proxy {
    pub(crate) async fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let faults = watch::Sender::new(Faults::default());
        let mut acceptor = JoinSet::new();
        acceptor.spawn(accept(listener, target, faults.subscribe()));
        Self { port, faults, _acceptor: acceptor }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Closes every connection.
    pub(crate) fn cut(&self) {
        self.faults.send_modify(|f| f.cuts += 1);
    }

    /// Lets nothing through any more, connections stay open; or lets it through again. What was written meanwhile arrives then.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.faults.send_modify(|f| f.frozen = frozen);
    }

    /// Holds what is written back for this long, in both directions.
    pub(crate) fn delay(&self, delay: Duration) {
        self.faults.send_modify(|f| f.delay = delay);
    }

    /// Closes every connection and refuses new ones; or takes them again.
    pub(crate) fn down(&self, down: bool) {
        self.faults.send_modify(|f| {
            f.down = down;
            f.cuts += 1;
        });
    }
}

async fn accept(listener: TcpListener, target: u16, mut faults: watch::Receiver<Faults>) {
    let port = listener.local_addr().unwrap().port();
    let (mut listener, for_each) = (Some(listener), faults.clone());
    let mut connections = JoinSet::new();
    loop {
        match &listener {
            Some(open) => tokio::select! {
                accepted = open.accept() => if let Ok((client, _)) = accepted {
                    connections.spawn(forward(client, target, for_each.clone()));
                },
                down = faults.wait_for(|f| f.down) => {
                    if down.is_err() { return }
                    drop(down);
                    listener = None;
                }
            },
            None => {
                if faults.wait_for(|f| !f.down).await.is_err() {
                    return;
                }
                listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.ok();
                sleep(Duration::from_millis(5)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(client: TcpStream, target: u16, mut faults: watch::Receiver<Faults>) {
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { return };
    let cuts = faults.borrow().cuts;
    let (up, down) = (faults.clone(), faults.clone());
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    tokio::select! { biased;
        _ = faults.wait_for(|f| f.cuts != cuts) => {}
        () = pump(from_client, to_server, up) => {}
        () = pump(from_server, to_client, down) => {}
    }
}

/// One direction, until either end is gone. What was read is written, however long it is held back.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut faults: watch::Receiver<Faults>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let delay = faults.borrow().delay;
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if faults.wait_for(|f| !f.frozen).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
