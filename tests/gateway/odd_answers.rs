//! Every odd thing a server can do, and what the client makes of it.

use std::time::Duration;

use campaignd::gateway::connexease::{Connexease, Settings, SettingsError};
use campaignd::gateway::{Gateway, Reply, TroubleKind, Window, Windows};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

use crate::raw_server::{Act, RawServer, http};
use crate::support::{TO, client, hasty_client, request, send, settings, word};

const OK: &str = r#"{"isSuccess":true,"data":{"messaging_product":"whatsapp","contacts":[{"input":"905321234567","wa_id":"905321234567"}],"messages":[{"id":"wamid.HBgM1"}]}}"#;
const BILL: &str = r#"{"isSuccess":false,"errors":{"code":"BILL_001","group":"PAYMENT_REQUIRED","description":"Insufficient balance","params":{}}}"#;

async fn answered(act: Act) -> String {
    let server = RawServer::start(vec![act]).await;
    let answer = send(&client(&server.base_url()), TO).await;
    assert!(server.seen().len() <= 1, "the request was repeated");
    word(&answer.reply)
}

#[tokio::test]
async fn answers_are_classified_by_status_and_envelope() {
    let endless = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{}", "8\r\naaaaaaaa\r\n".repeat(20_000));
    let many_headers = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x-filler: y\r\n".repeat(500));
    for (bytes, expected) in [
        (http("200 OK", "", OK), "accepted"),
        (http("200 OK", "content-type: text/plain\r\n", OK), "accepted"),
        (http("100 Continue", "", "").into_iter().chain(http("200 OK", "", OK)).collect(), "accepted"),
        (format!("HTTP/1.1 200 OK\r\n\r\n{OK}").into_bytes(), "accepted"),
        (format!("HTTP/1.0 200 OK\r\n\r\n{OK}").into_bytes(), "accepted"),
        (http("402 Payment Required", "", BILL), "refused 402 BILL_001"),
        (http("200 OK", "", BILL), "refused 200 BILL_001"),
        (http("200 OK", "", &OK[..60]), "unknown Body"),
        (http("200 OK", "", "<html><body>welcome</body></html>"), "unknown Body"),
        (http("200 OK", "", ""), "unknown Body"),
        (http("200 OK", "", &"x".repeat(1 << 20)), "unknown Body"),
        (endless.into_bytes(), "unknown Body"),
        (http("502 Bad Gateway", "content-type: text/html\r\n", "<html>nginx</html>"), "unknown Body"),
        (http("504 Gateway Timeout", "", ""), "unknown Body"),
        (http("503 Service Unavailable", "", "<html>"), "unreachable Unavailable"),
        (http("413 Payload Too Large", "", "<html>"), "refused 413 -"),
        (http("400 Bad Request", "", &"x".repeat(1 << 20)), "refused 400 -"),
        (http("302 Found", "location: /v1/elsewhere\r\n", ""), "refused 302 -"),
        (http("307 Temporary Redirect", "location: /v1/elsewhere\r\n", ""), "refused 307 -"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(), "unknown Body"),
        (vec![0xff; 200], "unknown Body"),
        (many_headers.into_bytes(), "unknown Body"),
        (b"HTTP/1.1 200 OK\r\ncontent-le".to_vec(), "unknown Reset"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"isSucc".to_vec(), "unknown Reset"),
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 500\r\n\r\n{\"isSucc".to_vec(), "unknown Reset"),
        (b"HTTP/1.1 402 Payment Required\r\ncontent-length: 500\r\n\r\n{\"isSucc".to_vec(), "refused 402 -"),
        (b"HTTP/1.1 503 Unavailable\r\ncontent-length: 500\r\n\r\n{\"isSucc".to_vec(), "unreachable Unavailable"),
    ] {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
        assert_eq!(answered(Act::AnswerAndClose(bytes)).await, expected, "{shown}");
    }
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_asked_for_only_once() {
    for act in [Act::Close, Act::Reset] {
        let server = RawServer::start(vec![act.clone()]).await;
        assert_eq!(word(&send(&client(&server.base_url()), TO).await.reply), "unknown Reset", "{act:?}");
        assert_eq!(server.seen().len(), 1, "{act:?}");
    }
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{\"isSucc".to_vec();
    assert_eq!(answered(Act::AnswerAndReset(half)).await, "unknown Reset");
}

#[tokio::test]
async fn a_connection_closed_at_once_is_never_taken_for_an_answer() {
    let word = answered(Act::CloseUnread).await;
    assert!(["unknown Reset", "unreachable Connect"].contains(&word.as_str()), "{word}");
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time() {
    let slowly = |text: &str| Act::Drip(text.as_bytes().to_vec(), Duration::from_millis(40));
    for (act, expected) in [
        (Act::Hang, "unknown Timeout"),
        (slowly("HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n"), "unknown Timeout"),
        // Here the status comes in time and the body does not.
        (Act::Answer(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{".to_vec()), "unknown Timeout"),
        (Act::Answer(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 500\r\n\r\n{".to_vec()), "refused 401 -"),
    ] {
        let server = RawServer::start(vec![act.clone()]).await;
        let start = Instant::now();
        let answer = send(&hasty_client(&server.base_url()), TO).await;
        assert_eq!(word(&answer.reply), expected, "{act:?}");
        assert!(start.elapsed() < Duration::from_secs(10), "{act:?}");
        assert_eq!(server.seen().len(), 1, "{act:?}");
    }
}

#[tokio::test]
async fn nobody_there_is_surely_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(word(&send(&client(&format!("http://{free}")), TO).await.reply), "unreachable Connect");
    let Reply::Unreachable(trouble) = send(&client("http://no-such-host.invalid"), TO).await.reply else { panic!() };
    assert_eq!(trouble.kind, TroubleKind::Dns);
}

/// TLS needs the machine's CA certificates; without any, that is what the client must say.
fn tls_client(settings: Settings) -> Option<Connexease> {
    match Connexease::new(settings) {
        Ok(client) => Some(client),
        Err(SettingsError::Client(why)) if why.contains("No CA certificates") => None,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_failed_tls_handshake_is_surely_not_sent() {
    let server = RawServer::start(vec![Act::CloseUnread]).await;
    let Some(client) = tls_client(settings(&server.base_url().replace("http:", "https:"))) else { return };
    assert!(word(&send(&client, TO).await.reply).starts_with("unreachable "));
    // The kernel accepts the connection, and nobody ever speaks TLS.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("https://{}", silent.local_addr().unwrap());
    let hasty = Settings { connect_timeout: Duration::from_millis(200), ..settings(&base_url) };
    let Some(client) = tls_client(hasty) else { return };
    assert_eq!(word(&send(&client, TO).await.reply), "unreachable Connect");
    // A server that answers the handshake in plain text.
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = tls_client(settings(&format!("https://{}", plain.local_addr().unwrap()))).unwrap();
    let sending = send(&client, TO);
    let speaking = async {
        let (mut stream, _) = plain.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, &http("400 Bad Request", "", "plain")).await.unwrap();
        stream
    };
    let (answer, _stream) = tokio::join!(sending, speaking);
    assert_eq!(word(&answer.reply), "unreachable Tls");
}

/// A kept connection that breaks is where HTTP clients like to try again by themselves.
#[tokio::test]
async fn no_request_is_ever_repeated_on_a_kept_connection() {
    let ok = http("200 OK", "connection: keep-alive\r\n", OK);
    for ending in [Act::Close, Act::Reset, Act::AnswerAndClose(ok.clone())] {
        // Every second request meets the ending, right after one that was answered on the same connection.
        let script: Vec<Act> = (0..80).map(|n| if n % 2 == 0 { Act::Answer(ok.clone()) } else { ending.clone() }).collect();
        let server = RawServer::start(script).await;
        let client = client(&server.base_url());
        let mut accepted = 0;
        for n in 0..60 {
            match send(&client, TO + n).await.reply {
                Reply::Accepted { .. } => accepted += 1,
                Reply::Unknown(trouble) => assert_eq!(trouble.kind, TroubleKind::Reset),
                Reply::Unreachable(trouble) => assert_eq!(trouble.kind, TroubleKind::Connect),
                refused @ Reply::Refused(_) => panic!("{refused:?}"),
            }
        }
        let seen = server.seen();
        for n in 0..60 {
            let to = (TO + n).to_string();
            assert!(seen.iter().filter(|request| request.contains(&to)).count() <= 1, "{to} was sent twice: {ending:?}");
        }
        assert!(accepted >= 20 && seen.len() >= accepted, "{accepted} of {}: {ending:?}", seen.len());
    }
}

#[tokio::test]
async fn one_request_carries_all_that_is_documented_on_a_kept_connection() {
    let server = RawServer::start(vec![Act::Answer(http("200 OK", "", OK))]).await;
    let client = client(&format!("{}/", server.base_url()));
    for (sandbox, mmlite) in [(false, false), (false, true), (true, false), (true, true)] {
        let answer = client.send(campaignd::gateway::Request { sandbox, mmlite, ..request(TO) }).await;
        assert_eq!(answer.reply, Reply::Accepted { wamid: "wamid.HBgM1".to_owned() });
        let seen = server.seen().pop().unwrap();
        let (head, body) = seen.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("POST /v1/wa/message?is_fake={sandbox}&mmlite={mmlite} HTTP/1.1\r\n")), "{head}");
        let head = head.to_ascii_lowercase();
        let host = format!("host: {}\r\n", server.addr);
        for line in [&host, "authorization: bearer sk_simulated", "content-type: application/json", "user-agent: campaignd/"] {
            assert!(head.contains(line), "{line} is missing in {head}");
        }
        assert_eq!(body.as_bytes(), request(TO).body);
    }
}

#[tokio::test]
async fn every_answer_read_to_its_end_leaves_its_connection_for_the_next_request() {
    let answers = ["200 OK", "401 Unauthorized", "402 Payment Required", "429 Too Many Requests", "500 Oops", "503 Unavailable"];
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_vec();
    let script = answers.iter().map(|status| Act::Answer(http(status, "", BILL))).chain([Act::Answer(chunked)]).collect();
    let server = RawServer::start(script).await;
    let client = client(&server.base_url());
    for n in 0..20 {
        send(&client, TO + n).await;
    }
    assert_eq!((server.seen().len(), server.connections()), (20, 1));
}

#[tokio::test]
async fn a_connection_is_not_used_again_after_an_answer_that_was_not_read_to_its_end() {
    let long = Act::Answer(http("200 OK", "", &"x".repeat(1 << 20)));
    let server = RawServer::start(vec![long, Act::Answer(http("200 OK", "", OK))]).await;
    let client = client(&server.base_url());
    assert_eq!(word(&send(&client, TO).await.reply), "unknown Body");
    assert_eq!(word(&send(&client, TO + 1).await.reply), "accepted");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn headers_are_heeded_on_every_answer() {
    let windows = "X-RateLimit-sec-Limit: 80\r\nX-RateLimit-sec-Remaining: 79\r\nX-RateLimit-min-Limit: 4800\r\nX-RateLimit-min-Remaining: 12\r\n";
    let expected =
        Windows { second: Some(Window { limit: 80, remaining: 79 }), minute: Some(Window { limit: 4_800, remaining: 12 }) };
    for status in ["200 OK", "402 Payment Required", "502 Bad Gateway", "503 Unavailable"] {
        let server = RawServer::start(vec![Act::Answer(http(status, &format!("{windows}Retry-After: 7\r\n"), ""))]).await;
        let answer = send(&client(&server.base_url()), TO).await;
        assert_eq!(answer.windows, expected, "{status}");
        let retry_after = match answer.reply {
            Reply::Refused(refusal) => refusal.retry_after,
            Reply::Unreachable(trouble) | Reply::Unknown(trouble) => trouble.retry_after,
            Reply::Accepted { .. } => panic!(),
        };
        assert_eq!(retry_after, Some(Duration::from_secs(7)), "{status}");
    }
}

#[tokio::test]
async fn nothing_a_failure_says_holds_the_recipient_or_the_key() {
    let description = r#"{"isSuccess":false,"errors":{"code":"GW_001","description":"(#131026) 905321234567 undeliverable"}}"#;
    for act in [Act::Reset, Act::Close, Act::AnswerAndClose(http("502 Bad Gateway", "", description)), Act::Answer(vec![0; 9])] {
        let server = RawServer::start(vec![act]).await;
        let shown = format!("{:?}", send(&client(&server.base_url()), TO).await);
        assert!(!shown.contains(&TO.to_string()) && !shown.contains("sk_simulated"), "{shown}");
    }
}

#[tokio::test]
async fn a_dropped_send_ends_at_once() {
    let server = RawServer::start(vec![Act::Hang]).await;
    let client = client(&server.base_url());
    assert!(timeout(Duration::from_millis(100), send(&client, TO)).await.is_err());
}

#[tokio::test]
async fn what_may_not_leave_once_the_connection_is_there_stays_and_the_connection_is_kept() {
    let server = RawServer::start(vec![Act::Answer(http("200 OK", "", OK))]).await;
    let client = client(&server.base_url());
    for _ in 0..2 {
        assert_eq!(client.send_if(request(TO), &|| false).await, None);
    }
    assert_eq!((server.seen().len(), word(&send(&client, TO).await.reply).as_str()), (0, "accepted"));
    assert_eq!(client.send_if(request(TO), &|| false).await, None, "on a kept connection too");
    assert_eq!((server.seen().len(), server.connections()), (1, 1));
}
