//! Keeps web pages out: a browser on this machine reaches loopback too, and must not operate the daemon for a stranger.
//!
//! A page whose name was re-pointed at 127.0.0.1 sends its own name as `Host`; a form or a plain fetch cannot send a JSON content type
//! without asking first, which this API never grants.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::REQUEST_LIMIT;
use super::refusal::Refusal;

pub(super) async fn only_local_programs(request: Request, next: Next) -> Response {
    match check(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

pub(super) async fn time_limit(request: Request, next: Next) -> Response {
    let late = || Refusal::new(StatusCode::GATEWAY_TIMEOUT, "the request took too long", "try again; the daemon's log says more");
    tokio::time::timeout(REQUEST_LIMIT, next.run(request)).await.unwrap_or_else(|_| late().into_response())
}

fn check(request: &Request) -> Result<(), Refusal> {
    let headers = request.headers();
    let local = |value: &HeaderValue| value.to_str().is_ok_and(is_loopback);
    // HTTP/2 and absolute-form requests name the host in the address.
    let named = request.uri().authority().is_none_or(|authority| is_loopback(authority.as_str()));
    if !headers.get(HOST).is_some_and(local) || !named {
        let do_this = "call it as 127.0.0.1, [::1] or localhost; from other machines, come through ssh -L";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "the Host header is not a loopback address", do_this));
    }
    let foreign =
        |origin: &HeaderValue| !origin.to_str().is_ok_and(|o| o.split_once("://").is_some_and(|(_, host)| is_loopback(host)));
    if headers.get(ORIGIN).is_some_and(foreign) {
        return Err(Refusal::new(StatusCode::FORBIDDEN, "requests from web pages are not taken", ""));
    }
    if request.method() == Method::POST && !headers.get(CONTENT_TYPE).is_some_and(is_json) {
        let do_this = "send `Content-Type: application/json` (application/x-ndjson for jobs), also with an empty body `{}`";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is not declared as JSON", do_this));
    }
    Ok(())
}

fn is_json(value: &HeaderValue) -> bool {
    let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    ["application/json", "application/x-ndjson"].iter().any(|known| kind.eq_ignore_ascii_case(known))
}

/// `host` or `host:port`, where host is `localhost` or a loopback address.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if port.is_empty() || is_port(port) => address,
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if is_port(&format!(":{port}")) => name,
            Some(_) => return false,
            None => host,
        },
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_port(text: &str) -> bool {
    // u16 itself would take a `+`
    text.strip_prefix(':').is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_these_names_and_no_others() {
        for good in ["localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:1", "127.8.9.10:80", "[::1]", "[::1]:8080"] {
            assert!(is_loopback(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "10.0.0.1",
            "0.0.0.0",
            "[::2]:1",
            "localhost:x",
            "localhost:+80",
            "127.0.0.1@evil",
            "[::1]x",
        ] {
            assert!(!is_loopback(bad), "{bad}");
        }
    }

    #[test]
    fn only_json_is_json() {
        for (kind, good) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/x-ndjson", true),
            ("text/plain", false),
            ("text/plain; application/json", false),
            ("application/x-www-form-urlencoded", false),
        ] {
            assert_eq!(is_json(&HeaderValue::from_static(kind)), good, "{kind}");
        }
    }
}
