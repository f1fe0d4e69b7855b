//! The commands' way to the daemon: its admin API on loopback, found through the configuration.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Exit, Failure, Globals};
use crate::admin::Problem;
use crate::config::Config;

/// Loopback answers at once or not at all.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A little longer than the daemon gives itself.
const REQUEST_LIMIT: Duration = Duration::from_secs(130);

/// Talks to the daemon.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    source: String,
}

/// Why a request got no proper answer.
#[derive(Debug)]
pub(crate) struct CallError {
    /// The exit code it means for the command.
    pub(crate) exit: Exit,
    /// For people.
    pub(crate) message: String,
    /// Whether trying again may help.
    pub(crate) passing: bool,
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::new(error.exit, error.message)
    }
}

impl Client {
    /// A client of the daemon that the configuration names.
    ///
    /// # Errors
    /// When the configuration has mistakes.
    pub(crate) fn from_globals(globals: &Globals) -> Result<Self, Failure> {
        Self::new(&Config::load(globals.config.as_deref())?)
    }

    /// A client of the daemon at `[admin] listen`.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub(crate) fn new(config: &Config) -> Result<Self, Failure> {
        let mistake = |error: &dyn std::fmt::Display| {
            Failure::new(Exit::Software, format_args!("cannot make a client of the admin API: {error}"))
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_LIMIT).timeout(REQUEST_LIMIT);
        // Loopback is never https, and reading the system's certificates takes longer than most commands.
        let http = builder.tls_certs_only([]).redirect(reqwest::redirect::Policy::none()).build();
        let base = Url::parse(&format!("http://{}/", config.admin.listen)).map_err(|error| mistake(&error))?;
        Ok(Self { http: http.map_err(|error| mistake(&error))?, base, source: config.source.clone() })
    }

    /// GET. `path` holds names that need no escaping only.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> Result<T, CallError> {
        self.call(self.request(Method::GET, path)?.query(query)).await
    }

    /// POST with an answer.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CallError> {
        self.call(self.request(Method::POST, path)?.json(body)).await
    }

    /// POST without an answer.
    pub(crate) async fn order(&self, path: &str, body: &impl Serialize) -> Result<(), CallError> {
        self.send(self.request(Method::POST, path)?.json(body)).await.map(drop)
    }

    /// POST of jobs, one a line.
    pub(crate) async fn post_lines<T: DeserializeOwned>(&self, path: &str, batch: &str, lines: Vec<u8>) -> Result<T, CallError> {
        let request = self.request(Method::POST, path)?.query(&[("batch", batch)]);
        self.call(request.header("content-type", "application/x-ndjson").body(lines)).await
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, CallError> {
        let url = self.base.join(path).map_err(|error| self.nonsense(&error))?;
        Ok(self.http.request(method, url))
    }

    async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, CallError> {
        let answer = self.send(request).await?.json().await;
        answer.map_err(|error: reqwest::Error| if error.is_decode() { self.nonsense(&error) } else { self.unreachable(&error) })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, CallError> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, said) = (response.status(), response.json::<Problem>().await);
        let said = said.map_err(|_| self.nonsense(&format_args!("HTTP {status} without a reason")))?;
        Err(refused(status, said))
    }

    fn unreachable(&self, error: &reqwest::Error) -> CallError {
        let address = format!("{} ([admin] listen in {})", self.base.authority(), self.source);
        let message = if error.is_timeout() && !error.is_connect() {
            format!("the daemon at {address} did not answer in time; its log says more: journalctl -u campaignd")
        } else if error.is_body() {
            format!("the daemon at {address} broke its answer off; its log says more: journalctl -u campaignd")
        } else {
            let why = root_cause(error);
            format!(
                "cannot reach the daemon at {address}: {why}\nStart it with `systemctl start campaignd` or `campaignd run`, or name its configuration with --config"
            )
        };
        CallError { exit: Exit::Unavailable, message, passing: true }
    }

    fn nonsense(&self, error: &dyn std::fmt::Display) -> CallError {
        let address = self.base.authority();
        let message = format!(
            "what answers at {address} is not this version's admin API: {error}\nCheck [admin] listen in {}",
            self.source
        );
        CallError { exit: Exit::Unavailable, message, passing: false }
    }
}

fn refused(status: StatusCode, said: Problem) -> CallError {
    let exit = match status {
        StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => Exit::Data,
        StatusCode::CONFLICT => Exit::Failed,
        _ => Exit::Unavailable,
    };
    let message = if said.what_to_do.is_empty() { said.error } else { format!("{}; {}", said.error, said.what_to_do) };
    CallError { exit, message, passing: matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT) }
}

fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
