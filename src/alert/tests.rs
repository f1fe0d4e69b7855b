//! The dispatcher with sinks that hang and fail, and the webhook against a real HTTP listener.

use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::*;
use crate::clock::Clock;

pub(super) fn alert(rule: &str, account: &str, status: Status) -> Arc<Alert> {
    Arc::new(Alert {
        status,
        severity: Severity::Critical,
        rule: rule.into(),
        account: Some(account.parse().unwrap()),
        campaign: None,
        summary: "balance is used up".into(),
        advice: "add balance, then resume".into(),
        at: "2026-11-22T10:00:00Z".parse().unwrap(),
    })
}

/// Keeps what it is given; fails the first `failures` times.
struct Notebook {
    pages: mpsc::UnboundedSender<Notice>,
    failures: u32,
}

#[async_trait]
impl Sink for Notebook {
    fn name(&self) -> &'static str {
        "notebook"
    }

    async fn deliver(&mut self, notice: &Notice) -> Result<(), SinkError> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(SinkError("not now".into()));
        }
        self.pages.send(notice.clone()).map_err(|_| SinkError("closed".into()))
    }
}

struct Hanging;

#[async_trait]
impl Sink for Hanging {
    fn name(&self) -> &'static str {
        "hanging"
    }

    async fn deliver(&mut self, _notice: &Notice) -> Result<(), SinkError> {
        std::future::pending().await
    }
}

fn dispatcher() -> (Alerts, Dispatcher) {
    let (alerts, receiver) = Alerts::channel();
    (alerts, Dispatcher::new(receiver, Duration::from_secs(900), Clock::system()))
}

#[tokio::test(start_paused = true)]
async fn a_hanging_sink_holds_up_neither_the_others_nor_the_end() {
    let (alerts, dispatcher) = dispatcher();
    let (pages, mut notebook) = mpsc::unbounded_channel();
    let dispatcher = dispatcher.with(Hanging).with(Notebook { pages, failures: 0 });
    let mut running = JoinSet::new();
    running.spawn(dispatcher.run(std::future::pending()));
    for n in 0..200 {
        alerts.raise(Alert::clone(&alert(&n.to_string(), "main", Status::Firing)));
        assert_eq!(notebook.recv().await.unwrap().alert.rule, n.to_string());
    }
    let before = tokio::time::Instant::now();
    drop(alerts);
    running.join_next().await.unwrap().unwrap();
    assert!(before.elapsed() <= DRAIN + Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_and_dropped_in_the_end() {
    let (alerts, dispatcher) = dispatcher();
    let (pages, mut notebook) = mpsc::unbounded_channel();
    let mut running = JoinSet::new();
    running.spawn(dispatcher.with(Notebook { pages, failures: 3 + 4 }).run(std::future::pending()));
    // Four tries are used up by the first; the second gets through at its fourth.
    alerts.raise(Alert::clone(&alert("first", "main", Status::Firing)));
    alerts.raise(Alert::clone(&alert("second", "main", Status::Firing)));
    assert_eq!(notebook.recv().await.unwrap().alert.rule, "second");
}

#[tokio::test(start_paused = true)]
async fn shutdown_delivers_what_is_queued() {
    let (alerts, dispatcher) = dispatcher();
    let (pages, mut notebook) = mpsc::unbounded_channel();
    let dispatcher = dispatcher.with(Notebook { pages, failures: 0 });
    alerts.raise(Alert::clone(&alert("a", "main", Status::Firing)));
    alerts.raise(Alert::clone(&alert("a", "main", Status::Firing)));
    alerts.raise(Alert::clone(&alert("a", "main", Status::Resolved)));
    dispatcher.run(std::future::ready(())).await;
    let first = notebook.recv().await.unwrap();
    let second = notebook.recv().await.unwrap();
    assert_eq!((first.alert.status, second.alert.status, second.swallowed), (Status::Firing, Status::Resolved, 1));
    assert!(notebook.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_flapping_rule_is_told_how_it_stands_when_the_window_ends() {
    let (alerts, dispatcher) = dispatcher();
    let (pages, mut notebook) = mpsc::unbounded_channel();
    let mut running = JoinSet::new();
    running.spawn(dispatcher.with(Notebook { pages, failures: 0 }).run(std::future::pending()));
    for status in [Status::Firing, Status::Resolved].into_iter().cycle().take(21) {
        alerts.raise(Alert::clone(&alert("a", "main", status)));
    }
    let mut heard = Vec::new();
    for _ in 0..7 {
        heard.push(notebook.recv().await.unwrap());
    }
    assert_eq!(heard.last().map(|notice| (notice.alert.status, notice.swallowed)), Some((Status::Firing, 15)));
}

/// Answers each request with the next of `answers` (none: never), and tells the bodies.
async fn listen(answers: Vec<Option<&'static str>>) -> (String, mpsc::UnboundedReceiver<String>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?token=hunter2", listener.local_addr().unwrap());
    let (bodies, heard) = mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut kept = Vec::new();
        for answer in answers {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let mut length = 0;
            while !request[..length].ends_with(b"}") {
                length += socket.read(&mut request[length..]).await.unwrap();
            }
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            bodies.send(text.split_once("\r\n\r\n").unwrap().1.to_owned()).unwrap();
            match answer {
                Some(answer) => socket.write_all(answer.as_bytes()).await.unwrap(),
                None => kept.push(socket),
            }
        }
        std::future::pending::<()>().await;
        drop(kept);
    });
    (url, heard, tasks)
}

const OK: &str = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
const BROKEN: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const MOVED: &str = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

fn notice() -> Notice {
    Notice { alert: alert("BILL_001", "main", Status::Firing), swallowed: 3 }
}

fn webhook(url: &str) -> Webhook {
    Webhook::new(url.to_owned().into(), Duration::from_millis(200)).unwrap()
}

#[tokio::test]
async fn the_webhook_posts_the_alert_as_json() {
    let (url, mut heard, _listener) = listen(vec![Some(OK)]).await;
    webhook(&url).deliver(&notice()).await.unwrap();
    let body: serde_json::Value = serde_json::from_str(&heard.recv().await.unwrap()).unwrap();
    let expected = serde_json::json!({"status": "firing", "severity": "critical", "rule": "BILL_001", "account": "main",
        "summary": "balance is used up", "advice": "add balance, then resume", "at": "2026-11-22T10:00:00Z", "swallowed": 3});
    assert_eq!(body, expected);
}

#[tokio::test]
async fn the_webhook_fails_without_showing_its_address() {
    let (url, _heard, _listener) = listen(vec![Some(BROKEN), Some(MOVED), None]).await;
    let mut hook = webhook(&url);
    assert!(!format!("{hook:?}").contains("hunter2"));
    for says in ["500", "302", "no answer within 200ms"] {
        let error = hook.deliver(&notice()).await.unwrap_err().to_string();
        assert!(error.contains(says) && !error.contains("hunter2"), "{error}");
    }
    let refusing = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = webhook(&format!("http://{refusing}/hunter2")).deliver(&notice()).await.unwrap_err().to_string();
    assert!(error.contains("refused") && !error.contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_webhook_that_fails_once_gets_it_the_second_time() {
    let (url, mut heard, _listener) = listen(vec![Some(BROKEN), Some(OK)]).await;
    let (alerts, dispatcher) = dispatcher();
    let (stop, stopped) = oneshot::channel::<()>();
    let mut running = JoinSet::new();
    running.spawn(dispatcher.with(LogSink).with(webhook(&url)).run(async { drop(stopped.await) }));
    alerts.raise(Alert::clone(&alert("BILL_001", "main", Status::Firing)));
    let first = heard.recv().await.unwrap();
    assert_eq!(heard.recv().await.unwrap(), first);
    drop(stop);
    running.join_next().await.unwrap().unwrap();
}

#[test]
fn raising_never_waits_and_a_full_queue_drops() {
    let (alerts, mut receiver) = Alerts::channel();
    for _ in 0..QUEUE_LENGTH + 10 {
        alerts.raise(Alert::clone(&alert("a", "main", Status::Firing)));
    }
    let mut kept = 0;
    while receiver.try_recv().is_ok() {
        kept += 1;
    }
    assert_eq!(kept, QUEUE_LENGTH);
}
