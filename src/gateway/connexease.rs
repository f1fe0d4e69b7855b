//! The real gateway over HTTP: one POST, one Answer, classified in this one place.
//!
//! Nothing here sends a request twice: only one of which not a byte was written goes out on another connection.

mod base_url;
mod body;
mod classify;
mod connection;
mod description;
mod envelope;
mod headers;
#[cfg(any(test, fuzzing))]
pub(crate) mod laws;
mod pool;
mod retry_after;
mod trouble;

use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Response, Uri};
use reqwest::Url;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Sleep, sleep, timeout};

pub use base_url::{BaseUrl, BaseUrlError, DEFAULT_BASE_URL};
pub(crate) use description::meta_code;

use self::body::Broken;
use self::connection::{Address, Connection, Post};
use self::pool::Pool;
use self::trouble::Lost;
use super::{Answer, Gateway, MayLeave, Reply, Request, Trouble, TroubleKind, Windows};

/// Time for name, TCP and TLS together.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for one request in all, from the first byte to the last of the answer.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Most bytes of an answer that are read; the gateway's own are below one KiB.
pub const DEFAULT_MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Requests in flight at a time, so also connections kept.
pub const DEFAULT_MAX_IN_FLIGHT: usize = 256;

const SEND_PATH: [&str; 3] = ["v1", "wa", "message"];

/// What a whole answer with this status, `Retry-After` header and body means.
#[must_use]
pub fn reply(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Reply {
    classify::reply(status, retry_after, Ok(body))
}

/// How to reach the gateway for one account.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it is.
    pub base_url: BaseUrl,
    /// The account's API key.
    pub api_key: SecretString,
    /// Time for name, TCP and TLS together.
    pub connect_timeout: Duration,
    /// Time for one request in all.
    pub request_timeout: Duration,
    /// Most bytes of an answer that are read.
    pub max_answer_bytes: usize,
    /// Requests in flight at a time; as many idle connections are kept.
    pub max_in_flight: usize,
}

impl Settings {
    /// The default gateway and limits, with this key.
    #[must_use]
    pub fn new(api_key: SecretString) -> Self {
        Self {
            base_url: BaseUrl::default(),
            api_key,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            max_answer_bytes: DEFAULT_MAX_ANSWER_BYTES,
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
        }
    }
}

/// Why the settings cannot be used. Says nothing of the key itself.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The key is empty or has a byte that no header may carry.
    #[error(
        "the API key is empty or has a space, line break or other character that no key has; copy it again from the dashboard"
    )]
    ApiKey,
    /// A limit is zero.
    #[error("{0} must be above zero")]
    Zero(&'static str),
    /// The HTTP client could not be built, for example without CA certificates on the machine.
    #[error("the HTTP client cannot be built: {0}; for https the machine needs CA certificates (package ca-certificates)")]
    Client(String),
}

/// One account's way to the gateway.
pub struct Connexease {
    address: Address,
    kept: Pool,
    /// Of every request; with the key.
    headers: HeaderMap,
    /// By `sandbox` and `mmlite`, so that none is built on the way of a job.
    uris: [[Uri; 2]; 2],
    connect_timeout: Duration,
    request_timeout: Duration,
    max_answer_bytes: usize,
}

impl Connexease {
    /// Prepares client, URLs and headers; connects to nothing yet.
    ///
    /// # Errors
    /// When a setting cannot be used, or the machine has no CA certificates for an `https` address.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        let lengths = [("connect_timeout", settings.connect_timeout), ("request_timeout", settings.request_timeout)];
        let sizes = [("max_answer_bytes", settings.max_answer_bytes), ("max_in_flight", settings.max_in_flight)];
        let zero = lengths.iter().find(|(_, length)| length.is_zero()).map(|(name, _)| *name);
        if let Some(name) = zero.or_else(|| sizes.iter().find(|(_, size)| *size == 0).map(|(name, _)| *name)) {
            return Err(SettingsError::Zero(name));
        }
        let base = settings.base_url.url();
        let headers = headers(&settings.api_key, base)?;
        let uris = [false, true].map(|sandbox| [false, true].map(|mmlite| uri(base, sandbox, mmlite)));
        let Settings { connect_timeout, request_timeout, max_answer_bytes, .. } = settings;
        let kept = Pool::new(settings.max_in_flight);
        Ok(Self { address: address(base)?, kept, headers, uris, connect_timeout, request_timeout, max_answer_bytes })
    }

    /// Sends one request, whatever happens meanwhile.
    pub async fn send(&self, request: Request) -> Answer {
        let kept_back = || {
            let detail = "kept back".to_owned();
            Reply::Unreachable(Trouble { kind: TroubleKind::Connect, http_status: None, detail, retry_after: None }).into()
        };
        self.send_if(request, &|| true).await.unwrap_or_else(kept_back)
    }

    async fn exchange(&self, request: Request, may_leave: &MayLeave<'_>) -> Option<Answer> {
        let mut late = pin!(sleep(self.request_timeout));
        let mut post = self.post(request);
        if let Some(kept) = self.kept.take().await {
            if !may_leave() {
                self.kept.keep(kept);
                return None;
            }
            match self.send_on(kept, post, late.as_mut()).await {
                Ok(answer) => return Some(answer),
                // The gateway had closed it. Not a byte was written, so a new connection takes the request.
                Err((_, Some(back))) => post = back,
                Err((lost, None)) => return Some(trouble::reply(&lost).into()),
            }
        }
        let new = match self.open().await {
            Ok(new) => new,
            Err(reply) => return Some(reply.into()),
        };
        // Opening takes its time: an answer read meanwhile may have paused everything.
        if !may_leave() {
            self.kept.keep(new);
            return None;
        }
        Some(self.send_on(new, post, late).await.unwrap_or_else(|(lost, _)| trouble::reply(&lost).into()))
    }

    async fn send_on(
        &self,
        mut connection: Connection,
        post: Post,
        mut late: Pin<&mut Sleep>,
    ) -> Result<Answer, (Lost, Option<Post>)> {
        let response = tokio::select! {
            biased;
            response = connection.send(post) => response?,
            () = &mut late => return Ok(Reply::Unknown(self.too_late()).into()),
        };
        Ok(self.read(connection, response, late).await)
    }

    async fn open(&self) -> Result<Connection, Reply> {
        let limit = self.connect_timeout.min(self.request_timeout);
        match timeout(limit, Connection::open(&self.address)).await {
            Ok(opened) => opened.map_err(|lost| trouble::reply(&lost)),
            Err(_) => {
                let detail = format!("no connection within {} ms", limit.as_millis());
                Err(Reply::Unreachable(Trouble { kind: TroubleKind::Connect, http_status: None, detail, retry_after: None }))
            }
        }
    }

    fn post(&self, request: Request) -> Post {
        let uri = match &self.uris {
            [_, [_, uri]] if request.sandbox && request.mmlite => uri,
            [_, [uri, _]] if request.sandbox => uri,
            [[_, uri], _] if request.mmlite => uri,
            [[uri, _], _] => uri,
        };
        let mut post = hyper::Request::new(Full::from(request.body));
        *post.method_mut() = Method::POST;
        *post.uri_mut() = uri.clone();
        post.headers_mut().clone_from(&self.headers);
        post
    }

    /// Status and headers are there: they count even if the body never ends.
    async fn read(&self, mut connection: Connection, response: Response<Incoming>, mut late: Pin<&mut Sleep>) -> Answer {
        let status = response.status().as_u16();
        let windows = headers::windows(response.headers());
        let hint = headers::retry_after(response.headers());
        let body = tokio::select! {
            biased;
            body = body::read(&mut connection, response.into_body(), self.max_answer_bytes) => body,
            () = &mut late => Err(Broken::Late),
        };
        if body.is_ok() {
            self.kept.keep(connection);
        }
        Answer { reply: classify::reply(status, hint, body.as_deref().map_err(|broken| *broken)), windows }
    }

    fn too_late(&self) -> Trouble {
        let detail = format!("no answer within {} ms", self.request_timeout.as_millis());
        Trouble { kind: TroubleKind::Timeout, http_status: None, detail, retry_after: None }
    }
}

#[async_trait]
impl Gateway for Connexease {
    async fn send_if(&self, request: Request, may_leave: &MayLeave<'_>) -> Option<Answer> {
        self.exchange(request, may_leave).await
    }
}

impl From<Reply> for Answer {
    /// An answer that says nothing of the windows.
    fn from(reply: Reply) -> Self {
        Self { reply, windows: Windows::default() }
    }
}

impl std::fmt::Debug for Connexease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connexease").field("request_timeout", &self.request_timeout).finish_non_exhaustive()
    }
}

/// Path and query, as they stand in the request.
fn uri(base: &Url, sandbox: bool, mmlite: bool) -> Uri {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(SEND_PATH);
    }
    // What the URL parser lets through is a valid target.
    format!("{}?is_fake={sandbox}&mmlite={mmlite}", url.path()).parse().unwrap_or_default()
}

fn address(base: &Url) -> Result<Address, SettingsError> {
    let host = base.host_str().unwrap_or_default().to_owned();
    let tls = if base.scheme() == "https" { Some((tls()?, server_name(&host)?)) } else { None };
    Ok(Address { port: base.port_or_known_default().unwrap_or(0), host, tls })
}

fn server_name(host: &str) -> Result<ServerName<'static>, SettingsError> {
    ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|error| SettingsError::Client(error.to_string()))
}

/// Certificates are verified as this machine does, by one list of roots for all accounts: it takes half a MiB. Without TLS none are
/// needed, nor a machine that has any.
fn tls() -> Result<Arc<ClientConfig>, SettingsError> {
    static SHARED: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = SHARED.get() {
        return Ok(Arc::clone(config));
    }
    let failed = |error: rustls::Error| SettingsError::Client(error.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(failed)?;
    let mut config = builder.with_platform_verifier().map_err(failed)?.with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::clone(SHARED.get_or_init(|| Arc::new(config))))
}

fn headers(api_key: &SecretString, base: &Url) -> Result<HeaderMap, SettingsError> {
    let key = api_key.expose_secret();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(SettingsError::ApiKey);
    }
    let mut bearer = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| SettingsError::ApiKey)?;
    bearer.set_sensitive(true);
    let host = base.port().map_or_else(String::new, |port| format!(":{port}"));
    let host = format!("{}{host}", base.host_str().unwrap_or_default());
    let host = HeaderValue::from_str(&host).map_err(|error| SettingsError::Client(error.to_string()))?;
    Ok(HeaderMap::from_iter([
        (HOST, host),
        (USER_AGENT, HeaderValue::from_static(concat!("campaignd/", env!("CARGO_PKG_VERSION")))),
        (ACCEPT, HeaderValue::from_static("*/*")),
        (AUTHORIZATION, bearer),
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(key: &str) -> Settings {
        Settings { base_url: "http://127.0.0.1:1".parse().unwrap(), ..Settings::new(SecretString::from(key)) }
    }

    #[test]
    fn urls_carry_both_options_whatever_the_base_ends_with() {
        for (base_url, expected) in [
            ("http://127.0.0.1:1", "/v1/wa/message?is_fake=true&mmlite=false"),
            ("http://127.0.0.1:1/", "/v1/wa/message?is_fake=true&mmlite=false"),
            ("https://x.example/in/front/", "/in/front/v1/wa/message?is_fake=true&mmlite=false"),
        ] {
            assert_eq!(uri(base_url.parse::<BaseUrl>().unwrap().url(), true, false), expected);
        }
    }

    #[test]
    fn refuses_settings_that_cannot_work_without_showing_secrets() {
        for key in ["", "hunter2 ", "hunter2\n"] {
            let error = Connexease::new(settings(key)).unwrap_err();
            let text = format!("{error} {error:?}");
            assert!(text.contains("API key is empty") && !text.contains("hunter2"), "{text}");
        }
        let zero = Settings { request_timeout: Duration::ZERO, ..settings("k") };
        assert!(Connexease::new(zero).unwrap_err().to_string().contains("request_timeout"));
    }

    #[test]
    fn neither_client_nor_settings_show_the_key() {
        let settings = settings("hunter2");
        let shown = format!("{settings:?}");
        let gateway = Connexease::new(settings).unwrap();
        assert!(!format!("{shown} {gateway:?} {:?}", gateway.headers).contains("hunter2"));
    }
}
