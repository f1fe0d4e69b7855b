//! One connection to the gateway. Whoever sends on it also does its work: no task of its own, no wake-up from one task to another.
//!
//! hyper below reqwest's and hyper-util's clients: by callgrind, a send takes 33,400 instructions here, 39,300 by hyper-util's client
//! and 74,300 by reqwest's with its URL and headers prepared (16 at a time, plain HTTP). There every connection is a task
//! that each request wakes; reqwest adds redirect and retry layers that nothing here wants.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;

use super::trouble::Lost;

/// Wait before the host's next address is tried too: a family of addresses that leads nowhere costs no more than this.
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// Where the gateway is.
pub(super) struct Address {
    /// Name or address, an IPv6 address in brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// For `https`.
    pub(super) tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
}

/// A request as it goes out.
pub(super) type Post = Request<Full<Bytes>>;

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

type Work = http1::Connection<TokioIo<Box<dyn Wire>>, Full<Bytes>>;

/// An open connection.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// None once it has ended: hyper gives back a request it had not begun when this is dropped.
    work: Option<Work>,
    /// When its last answer was read.
    pub(super) idle_since: Instant,
}

impl Connection {
    /// Connects to the first of the host's addresses that answers.
    pub(super) async fn open(to: &Address) -> Result<Self, Lost> {
        let addresses = lookup_host(format!("{}:{}", to.host, to.port)).await.map_err(Lost::Dns)?;
        let stream = first_of(addresses).await.map_err(Lost::Connect)?;
        stream.set_nodelay(true).map_err(Lost::Connect)?;
        let wire: Box<dyn Wire> = match &to.tls {
            None => Box::new(stream),
            Some((config, name)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                Box::new(connector.connect(name.clone(), stream).await.map_err(Lost::Tls)?)
            }
        };
        let (sender, work) = http1::handshake(TokioIo::new(wire)).await.map_err(Lost::Unstarted)?;
        Ok(Self { sender, work: Some(work), idle_since: Instant::now() })
    }

    /// Whether it can take a request now. One that the other side has closed cannot.
    pub(super) async fn is_usable(&mut self) -> bool {
        poll_fn(|cx| {
            self.drive(cx);
            Poll::Ready(self.work.is_some() && self.sender.is_ready())
        })
        .await
    }

    /// Sends a request; returns once status and headers of the answer are there. A request of which not a byte was written comes back.
    pub(super) async fn send(&mut self, request: Post) -> Result<Response<Incoming>, (Lost, Option<Post>)> {
        let mut response = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| {
            self.drive(cx);
            response.as_mut().poll(cx).map_err(|mut failed| match failed.take_message() {
                Some(request) => (Lost::Unstarted(failed.into_error()), Some(request)),
                None => (Lost::UnderWay(failed.into_error()), None),
            })
        })
        .await
    }

    /// The next piece of an answer's body, or none at its end.
    pub(super) async fn piece(&mut self, body: &mut Incoming) -> Option<Result<Bytes, hyper::Error>> {
        poll_fn(|cx| {
            loop {
                self.drive(cx);
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        if let Ok(data) = frame.into_data() {
                            return Poll::Ready(Some(Ok(data)));
                        }
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                    Poll::Ready(None) => return Poll::Ready(None),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    /// The connection's own work: writes and reads what can be now. How it ended shows in the answer.
    fn drive(&mut self, cx: &mut Context<'_>) {
        if self.work.as_mut().is_some_and(|work| Pin::new(work).poll(cx).is_ready()) {
            self.work = None;
        }
    }
}

/// Tries one address after the other, without waiting long for any.
async fn first_of(addresses: impl Iterator<Item = std::net::SocketAddr>) -> io::Result<TcpStream> {
    let mut addresses = addresses.fuse();
    let mut tries = FuturesUnordered::new();
    let mut last = io::Error::other("the host has no address");
    loop {
        let more = addresses.next().map(|address| tries.push(TcpStream::connect(address))).is_some();
        tokio::select! {
            Some(tried) = tries.next() => match tried {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            },
            () = sleep(NEXT_ADDRESS), if more => {}
            else => return Err(last),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn post() -> Post {
        Request::post("/").header("host", "gateway").body(Full::from("{}")).unwrap()
    }

    #[tokio::test]
    async fn a_request_for_a_connection_that_was_closed_meanwhile_comes_back_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            while !String::from_utf8_lossy(&buffer).contains("{}") {
                assert_ne!(socket.read(&mut buffer).await.unwrap(), 0);
            }
            socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        };
        let client = async {
            let mut connection = Connection::open(&Address { host: "127.0.0.1".into(), port, tls: None }).await.unwrap();
            let response = connection.send(post()).await.map_err(|(lost, _)| lost).unwrap();
            assert!(connection.piece(&mut response.into_body()).await.is_none());
            connection
        };
        let ((), mut connection) = tokio::join!(server, client);
        while connection.is_usable().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let sent = tokio::time::timeout(Duration::from_secs(10), connection.send(post())).await.expect("it hangs");
        assert!(matches!(sent, Err((Lost::Unstarted(_), Some(_)))));
    }
}
