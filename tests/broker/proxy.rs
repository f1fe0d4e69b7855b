//! A TCP proxy that can cut its connections or hold them silent: the wire's own faults.

use std::net::Ipv4Addr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Forwards to a port on this machine until it is dropped.
pub(crate) struct Proxy {
    port: u16,
    faults: watch::Sender<Faults>,
    _acceptor: JoinSet<()>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Faults {
    frozen: bool,
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

    /// Lets nothing through any more, connections stay open; or lets it through again.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.faults.send_modify(|f| f.frozen = frozen);
    }
}

async fn accept(listener: TcpListener, target: u16, faults: watch::Receiver<Faults>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(forward(client, target, faults.clone()));
    }
}

async fn forward(mut client: TcpStream, target: u16, mut faults: watch::Receiver<Faults>) {
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { return };
    let cuts = faults.borrow().cuts;
    loop {
        let now = *faults.borrow_and_update();
        if now.cuts != cuts {
            return;
        }
        tokio::select! { biased;
            changed = faults.changed() => if changed.is_err() { return },
            _ = copy_bidirectional(&mut client, &mut server), if !now.frozen => return,
        }
    }
}
