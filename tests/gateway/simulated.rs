//! The simulated gateway as the contract has it, through the real client.

use std::collections::BTreeSet;
use std::time::Duration;

use campaignd::gateway::connexease::{Connexease, Settings};
use campaignd::gateway::simulator::{DEFAULT_KEY, Ending, Fault, Key, Options, Special};
use campaignd::gateway::{Reply, Request, Window};
use campaignd::pacer::Limits;
use futures_util::future::join_all;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::support::{TO, request, send, settings, simulator, unlimited, word};

fn limited(second: u32, minute: u32) -> Options {
    let limits = Limits { second: Some(second), minute: Some(minute) };
    Options { keys: vec![Key { limits, ..Key::new(DEFAULT_KEY) }], ..Options::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_accepted_message_is_in_the_books_once_with_its_own_id() {
    let (gateway, client) = simulator(unlimited()).await;
    let answers = join_all((0..500).map(|n| send(&client, TO + n))).await;
    let ids: BTreeSet<String> = answers
        .into_iter()
        .map(|answer| match answer.reply {
            Reply::Accepted { wamid } => wamid,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids.len(), 500);
    let books = gateway.stop().await;
    assert_eq!((books.requests, books.accepted, books.recipients().len()), (500, 500, 500));
    assert!(books.more_than_once().is_empty());
    assert!((0..500).all(|n| books.times(TO + n) == 1));
    assert!(books.arrivals().all(|arrival| arrival.ending == Ending::Accepted));
}

/// Four requests within one second; a machine too slow for that today is asked again.
#[tokio::test]
async fn the_windows_hold_in_any_trailing_second_and_headers_tell() {
    for _ in 0..20 {
        let (gateway, client) = simulator(limited(3, 100)).await;
        let start = Instant::now();
        let mut answers = Vec::new();
        for n in 0..4 {
            answers.push(send(&client, TO + n).await);
        }
        if start.elapsed() >= Duration::from_secs(1) {
            continue;
        }
        let windows = answers.iter().map(|answer| (answer.windows.second.unwrap(), answer.windows.minute.unwrap()));
        let expected = [(2, 99), (1, 98), (0, 97), (0, 96)]
            .map(|(second, minute)| (Window { limit: 3, remaining: second }, Window { limit: 100, remaining: minute }));
        assert_eq!(windows.collect::<Vec<_>>(), expected);
        assert!(answers[..3].iter().all(|answer| word(&answer.reply) == "accepted"));
        let Reply::Refused(refusal) = &answers[3].reply else { panic!("{:?}", answers[3]) };
        assert_eq!((refusal.code.as_deref(), refusal.http_status), (Some("RATE_001"), 429));
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(1)));
        assert_eq!(gateway.books().times(TO + 3), 0);
        return;
    }
    panic!("four requests never fitted into one second");
}

#[tokio::test]
async fn the_minute_window_asks_for_a_minute() {
    let (_gateway, client) = simulator(limited(80, 1)).await;
    assert_eq!(word(&send(&client, TO).await.reply), "accepted");
    let Reply::Refused(refusal) = send(&client, TO).await.reply else { panic!() };
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(60)));
}

#[tokio::test]
async fn keys_have_their_own_windows_and_wallets() {
    let limits = Limits { second: Some(80), minute: Some(4_800) };
    let key = |secret: &str, balance| Key { limits, balance, ..Key::new(secret) };
    let (gateway, first) = simulator(Options { keys: vec![key(DEFAULT_KEY, 1), key("sk_other", 5)], ..Options::default() }).await;
    let other = |secret: &str| {
        Connexease::new(Settings { api_key: SecretString::from(secret), ..settings(&gateway.base_url()) }).unwrap()
    };
    assert_eq!(word(&send(&first, TO).await.reply), "accepted");
    assert_eq!(word(&send(&first, TO).await.reply), "refused 402 BILL_001");
    let answer = send(&other("sk_other"), TO).await;
    assert_eq!(word(&answer.reply), "accepted");
    assert_eq!(answer.windows.second, Some(Window { limit: 80, remaining: 79 }));
    assert_eq!(gateway.controls().balance("sk_other"), Ok(4));
    let answer = send(&other("sk_unknown"), TO).await;
    assert_eq!((word(&answer.reply).as_str(), answer.windows.second), ("refused 401 AUTH_001", None));
}

#[tokio::test]
async fn a_sandbox_send_is_checked_and_goes_nowhere() {
    let (gateway, client) = simulator(unlimited()).await;
    let Reply::Accepted { wamid } = client.send(Request { sandbox: true, ..request(TO) }).await.reply else { panic!() };
    assert!(wamid.starts_with("wamid.FAKE_1"), "{wamid}");
    let books = gateway.books();
    assert_eq!((books.accepted, books.sandboxed, books.times(TO)), (0, 1, 0));
    gateway.controls().set_balance(None, 0).unwrap();
    let answer = client.send(Request { sandbox: true, ..request(TO) }).await;
    assert_eq!(word(&answer.reply), "refused 402 BILL_001");
}

#[tokio::test]
async fn what_is_no_proper_request() {
    let (gateway, client) = simulator(unlimited()).await;
    let body = |body: &str| Request { body: body.as_bytes().to_vec(), sandbox: false, mmlite: false };
    for (request, expected) in [
        (body(r#"{"messaging_product":"whatsapp","type":"text","text":{"body":"hi"}}"#), "refused 502 GW_001 #100"),
        (request("+905321234567"), "refused 502 GW_001 #100"),
        (Request { mmlite: true, ..request(TO) }, "refused 502 GW_001 #100"),
        (body("{"), "refused 400 -"),
        (body(""), "refused 400 -"),
        (body(&format!(r#"{{"x":"{}"}}"#, "x".repeat(300_000))), "refused 413 -"),
    ] {
        let shown = String::from_utf8_lossy(&request.body[..request.body.len().min(80)]).into_owned();
        assert_eq!(word(&client.send(request).await.reply), expected, "{shown}");
    }
    let template = r#"{"messaging_product":"whatsapp","to":"905321234567","type":"template","template":{"name":"n","language":{"code":"tr"}}}"#;
    assert_eq!(word(&client.send(Request { mmlite: true, ..body(template) }).await.reply), "accepted");
    assert_eq!(gateway.books().accepted, 1);
}

#[tokio::test]
async fn latency_is_kept_and_half_of_it_comes_before_the_request_counts() {
    let (latency, jitter) = (Duration::from_millis(120), Duration::from_millis(40));
    let (gateway, client) = simulator(Options { latency, jitter, ..unlimited() }).await;
    let start = Instant::now();
    assert_eq!(word(&send(&client, TO).await.reply), "accepted");
    assert!(start.elapsed() >= latency - jitter, "{:?}", start.elapsed());
    assert!(gateway.books().arrivals().next().unwrap().at >= (latency - jitter) / 2);
}

#[tokio::test]
async fn a_stopped_gateway_cuts_its_connections_and_is_gone() {
    let (gateway, client) = simulator(unlimited()).await;
    assert_eq!(word(&send(&client, TO).await.reply), "accepted");
    gateway.stop().await;
    let reply = send(&client, TO).await.reply;
    assert!(matches!(reply, Reply::Unreachable(_) | Reply::Unknown(_)), "{reply:?}");
    assert_eq!(word(&send(&client, TO).await.reply), "unreachable Connect");
}

/// What a plain socket sees of a fault: the bytes until the end, and whether the end was a reset.
async fn on_the_socket(base_url: &str, to: u64) -> (String, bool) {
    let mut stream = TcpStream::connect(base_url.trim_start_matches("http://")).await.unwrap();
    let body = String::from_utf8(request(to).body).unwrap();
    let head = format!(
        "POST /v1/wa/message HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {DEFAULT_KEY}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let end = timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await.unwrap();
    let reset = end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
    (String::from_utf8_lossy(&bytes).into_owned(), reset)
}

#[tokio::test]
async fn resets_are_resets_and_closes_are_closes_on_the_socket() {
    let (gateway, _client) = simulator(unlimited()).await;
    for (special, reset) in
        [(Special::ResetBefore, true), (Special::ResetAfter, true), (Special::CloseBefore, false), (Special::CloseAfter, false)]
    {
        let to = Fault::Special(special).recipient(1);
        assert_eq!(on_the_socket(&gateway.base_url(), to).await, (String::new(), reset), "{special:?}");
    }
}
