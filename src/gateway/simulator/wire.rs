//! The simulated gateway on the network: connections it can cut at will, and one request from bytes to verdict to bytes.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{Method, Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::answer::{self, Cut, Verdict};
use super::controls::Controls;
use super::post::{Post, Query};

const SEND_PATH: &str = "/v1/wa/message";
/// Connections at a time; more wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 4_096;
/// Largest request body; the longest message object is far below.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// How long a hanging answer hangs before its connection is cut: longer than anyone's patience.
const HANG: Duration = Duration::from_secs(600);
/// Pause after the listener fails, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

type Control = TowerToHyperService<axum::Router>;

/// Serves until it is dropped; every connection ends with it.
pub(super) async fn serve(listener: TcpListener, controls: Controls) {
    let control = TowerToHyperService::new(super::control::router(controls.clone()));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, controls.clone(), control.clone()));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
        }
    }
}

async fn connection(stream: TcpStream, controls: Controls, control: Control) {
    // Without it answers wait for the client's acknowledgement; a failure only makes them slow.
    let _ = stream.set_nodelay(true);
    let line = Line::default();
    let wire = Wire { stream, line: line.clone() };
    let service = service_fn(move |request| {
        let (controls, control, line) = (controls.clone(), control.clone(), line.clone());
        async move { Ok::<_, Infallible>(route(request, &controls, &control, &line).await) }
    });
    // An error here is the client's going away, or a cut of ours.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(wire), service).await;
}

async fn route(request: Request<Incoming>, controls: &Controls, control: &Control, line: &Line) -> Response<Body> {
    match request.uri().path() {
        SEND_PATH if request.method() == Method::POST => send(request, controls, line).await,
        SEND_PATH => answer::plain(405, "text/plain", "method not allowed\n"),
        path if path.starts_with("/sim/") => match control.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        },
        _ => answer::plain(404, "text/plain", "not found\n"),
    }
}

async fn send(request: Request<Incoming>, controls: &Controls, line: &Line) -> Response<Body> {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(Body::new(body), MAX_BODY_BYTES).await else {
        return answer::plain(413, "text/plain", "request body too large or incomplete\n");
    };
    let (up, down) = controls.delay();
    pause(up).await;
    let verdict = judge(&head, &body, controls);
    match verdict {
        None => answer::bad_request(),
        Some(Verdict::Answer { what, counts }) => {
            pause(down).await;
            answer::render(&what, counts)
        }
        Some(Verdict::Cut(cut)) => {
            pause(down).await;
            line.cut(cut)
        }
        Some(Verdict::Hang) => {
            sleep(HANG).await;
            line.cut(Cut::Close)
        }
    }
}

fn judge(head: &axum::http::request::Parts, body: &Bytes, controls: &Controls) -> Option<Verdict> {
    let authorization = head.headers.get(header::AUTHORIZATION).map(|value| value.as_bytes());
    let is_json = head.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let post = is_json.then(|| Post::read(authorization, Query::read(head.uri.query()), body)).flatten()?;
    Some(controls.judge(&post))
}

async fn pause(length: Duration) {
    if !length.is_zero() {
        sleep(length).await;
    }
}

/// Lets a handler cut the connection it serves.
#[derive(Debug, Clone, Default)]
struct Line(Arc<AtomicU8>);

const CLOSE: u8 = 1;
const RESET: u8 = 2;

impl Line {
    /// Cuts the connection. The response is a dummy: not a byte of it can be written any more.
    fn cut(&self, cut: Cut) -> Response<Body> {
        let mark = match cut {
            Cut::Close => CLOSE,
            Cut::Reset => RESET,
        };
        self.0.store(mark, Ordering::Release);
        Response::new(Body::empty())
    }
}

/// A TCP stream that fails at the first write after its line was cut; what is dropped then yields FIN or RST on the socket.
#[derive(Debug)]
struct Wire {
    stream: TcpStream,
    line: Line,
}

impl Wire {
    fn check(&self) -> io::Result<()> {
        match self.line.0.load(Ordering::Acquire) {
            0 => Ok(()),
            mark => {
                if mark == RESET {
                    self.stream.set_zero_linger()?;
                }
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
