//! What the tests share: a client, requests, and waiting for a condition.

use std::time::Duration;

use campaignd::gateway::connexease::{Connexease, Settings};
use campaignd::gateway::simulator::{DEFAULT_KEY, Key, Options, Running, Simulator};
use campaignd::gateway::{Answer, Reply, Request};
use campaignd::pacer::Limits;
use secrecy::SecretString;

/// A recipient without magic.
pub(crate) const TO: u64 = 905_321_234_567;

/// Settings for a gateway on this machine, with little patience.
pub(crate) fn settings(base_url: &str) -> Settings {
    Settings {
        base_url: base_url.parse().unwrap(),
        connect_timeout: Duration::from_secs(5),
        request_timeout: Duration::from_secs(20),
        ..Settings::new(SecretString::from(DEFAULT_KEY))
    }
}

pub(crate) fn client(base_url: &str) -> Connexease {
    Connexease::new(settings(base_url)).unwrap()
}

/// A client that gives up soon, for answers that never come.
pub(crate) fn hasty_client(base_url: &str) -> Connexease {
    Connexease::new(Settings { request_timeout: Duration::from_secs(1), ..settings(base_url) }).unwrap()
}

/// A text message.
pub(crate) fn request(to: impl std::fmt::Display) -> Request {
    let body = format!(
        r#"{{"messaging_product":"whatsapp","recipient_type":"individual","to":"{to}","type":"text","text":{{"body":"hi"}}}}"#
    );
    Request { body: body.into_bytes(), sandbox: false, mmlite: false }
}

pub(crate) async fn send(gateway: &Connexease, to: u64) -> Answer {
    gateway.send(request(to)).await
}

/// Options without rate limits.
pub(crate) fn unlimited() -> Options {
    let limits = Limits { second: None, minute: None };
    Options { keys: vec![Key { limits, ..Key::new(DEFAULT_KEY) }], ..Options::default() }
}

pub(crate) async fn simulator(options: Options) -> (Running, Connexease) {
    drop(rustls::crypto::ring::default_provider().install_default()); // for the tests' own client; the first to come installs it
    let running = Simulator::start_local(options).await.unwrap();
    let client = client(&running.base_url());
    (running, client)
}

/// The reply in a word or two.
pub(crate) fn word(reply: &Reply) -> String {
    match reply {
        Reply::Accepted { .. } => "accepted".to_owned(),
        Reply::Refused(refusal) => {
            let meta = refusal.meta.map(|number| format!(" #{number}")).unwrap_or_default();
            format!("refused {} {}{meta}", refusal.http_status, refusal.code.as_deref().unwrap_or("-"))
        }
        Reply::Unreachable(trouble) => format!("unreachable {:?}", trouble.kind),
        Reply::Unknown(trouble) => format!("unknown {:?}", trouble.kind),
    }
}
