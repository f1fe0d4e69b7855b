//! Where the gateway is: an address that has been checked once, wherever it was written.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use reqwest::Url;

/// The gateway's host, as its newer documentation names it.
pub const DEFAULT_BASE_URL: &str = "https://api.gateway.connexease.com";

/// `http` or `https`, a host, and perhaps a path to go before the gateway's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

/// Why an address cannot be the gateway's. It never shows the address: that may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// It is no address.
    #[error("must be an address such as {DEFAULT_BASE_URL}")]
    NoUrl,
    /// Another protocol.
    #[error("must begin with https:// (or http:// for a simulated gateway)")]
    Scheme,
    /// A login or a query in it would end up in logs.
    #[error("must be an address without login, query or fragment")]
    NotPlain,
}

impl FromStr for BaseUrl {
    type Err = BaseUrlError;

    fn from_str(text: &str) -> Result<Self, BaseUrlError> {
        let url = Url::parse(text).map_err(|_| BaseUrlError::NoUrl)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(BaseUrlError::Scheme);
        }
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
        if plain && url.has_host() { Ok(Self(url)) } else { Err(BaseUrlError::NotPlain) }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl Default for BaseUrl {
    #[expect(clippy::expect_used, reason = "a constant; a test reads it")]
    fn default() -> Self {
        DEFAULT_BASE_URL.parse().expect("the default address is one")
    }
}

impl BaseUrl {
    /// The address itself.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.0
    }

    /// Whether a key sent there would cross a network unencrypted: plain `http` to another machine.
    #[must_use]
    pub fn exposes_key(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        self.0.scheme() == "http" && !local
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_work_without_showing_secrets() {
        for (text, error) in [
            ("ftp://x.example", BaseUrlError::Scheme),
            ("https://user:hunter2@x.example", BaseUrlError::NotPlain),
            ("https://x.example?key=hunter2", BaseUrlError::NotPlain),
            ("https://x.example#hunter2", BaseUrlError::NotPlain),
            ("hunter2@nowhere", BaseUrlError::NoUrl),
            ("", BaseUrlError::NoUrl),
        ] {
            assert_eq!(text.parse::<BaseUrl>(), Err(error), "{text}");
        }
        assert_eq!(BaseUrl::default().to_string(), DEFAULT_BASE_URL);
    }

    #[test]
    fn a_key_in_the_clear_is_noticed() {
        for (text, exposed) in [
            ("http://127.0.0.1:8080", false),
            ("http://127.0.0.2", false),
            ("http://localhost:8080", false),
            ("http://[::1]:8080", false),
            (DEFAULT_BASE_URL, false),
            ("http://gateway:8080", true),
            ("http://10.0.0.7", true),
        ] {
            assert_eq!(text.parse::<BaseUrl>().unwrap().exposes_key(), exposed, "{text}");
        }
    }
}
