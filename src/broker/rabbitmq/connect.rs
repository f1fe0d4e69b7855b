//! Opening one connection and closing it, each within a time limit, and telling apart why it did not open.

use std::time::Duration;

use lapin::tcp::OwnedTLSConfig;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use secrecy::ExposeSecret;
use tokio::time::timeout;

use super::Settings;
use super::errors::reply_code;
use crate::broker::BrokerError;

/// RabbitMQ's own default. lapin has room for 32 frames in each direction; told the size beforehand it takes memory as it fills it,
/// else 8 MiB at once, and of a broker without any limit more than there is.
const FRAME_MAX: u32 = 131_072;
/// How long a goodbye may take, to a connection or to one of its channels.
pub(super) const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Why no connection could be opened. None of its texts holds the password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The settings themselves are wrong.
    #[error("the broker settings are wrong: {0}")]
    Settings(String),
    /// Nothing that speaks AMQP answers there.
    #[error("RabbitMQ at {at} cannot be reached: {reason}")]
    Unreachable {
        /// Host and port.
        at: String,
        /// What the system or TLS said.
        reason: String,
    },
    /// User or password are not accepted.
    #[error("RabbitMQ at {at} refused the login of user {user:?}: check the user and password in the broker URI")]
    Login {
        /// Host and port.
        at: String,
        /// The user.
        user: String,
    },
    /// The virtual host is missing or the user may not enter it.
    #[error("RabbitMQ at {at} has no virtual host {vhost:?} for user {user:?}: create it or grant permissions")]
    Vhost {
        /// Host and port.
        at: String,
        /// The user.
        user: String,
        /// The virtual host.
        vhost: String,
    },
}

impl From<ConnectError> for BrokerError {
    fn from(error: ConnectError) -> Self {
        let text = error.to_string();
        match error {
            ConnectError::Unreachable { .. } => Self::Down(text),
            ConnectError::Settings(_) | ConnectError::Login { .. } | ConnectError::Vhost { .. } => Self::Denied(text),
        }
    }
}

/// Parses the URI and sets what the settings say. Never quotes the URI: it holds the password.
pub(super) fn uri(settings: &Settings) -> Result<AMQPUri, ConnectError> {
    let text = settings.uri.expose_secret();
    let rest = text.strip_prefix("amqp://").or_else(|| text.strip_prefix("amqps://"));
    let Some(rest) = rest else {
        return Err(ConnectError::Settings("the broker URI must start with amqp:// or amqps://".into()));
    };
    if rest.rsplit('@').next().is_some_and(|host| host.starts_with('[')) {
        // The URI parser drops an IPv6 literal and would connect to localhost instead.
        return Err(ConnectError::Settings("the broker URI must name its host or an IPv4 address, not an IPv6 literal".into()));
    }
    let mut uri: AMQPUri = text.parse().map_err(|_| ConnectError::Settings("the broker URI cannot be read".into()))?;
    let seconds = settings.heartbeat.as_secs().clamp(1, 3_600);
    uri.query.heartbeat = Some(u16::try_from(seconds).unwrap_or(60));
    uri.query.frame_max = Some(FRAME_MAX);
    Ok(uri)
}

/// How RabbitMQ lists a connection; the first of a kind has no number.
pub(super) fn name(settings: &Settings, purpose: &str, number: usize) -> String {
    let name = &settings.name;
    if number == 1 { format!("{name} {purpose}") } else { format!("{name} {purpose} {number}") }
}

/// Opens a connection shown as `name` in RabbitMQ's listings.
pub(super) async fn open(settings: &Settings, name: &str) -> Result<Connection, ConnectError> {
    let uri = uri(settings)?;
    let at = format!("{}:{}", uri.authority.host, uri.authority.port);
    let user = uri.authority.userinfo.username.clone();
    let vhost = uri.vhost.clone();
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let runtime = lapin::runtime::default_runtime().map_err(|e| ConnectError::Settings(e.to_string()))?;
    let opening = Connection::connect_uri_with_config(uri, properties, tls(settings).await?, runtime);
    // lapin has no time limit of its own here: a frozen broker would hold the handshake for ever.
    let error = match timeout(settings.connect_timeout, opening).await {
        Ok(Ok(connection)) => return Ok(connection),
        Ok(Err(error)) => error,
        Err(_) => return Err(ConnectError::Unreachable { at, reason: no_answer(settings.connect_timeout) }),
    };
    Err(match reply_code(&error) {
        Some(403) => ConnectError::Login { at, user },
        Some(530) => ConnectError::Vhost { at, user, vhost },
        _ => ConnectError::Unreachable { at, reason: error.to_string() },
    })
}

/// Says goodbye. Closing races with channels being dropped; the socket ends in any case.
pub(super) async fn close(connection: &Connection) {
    let _ = timeout(CLOSE_LIMIT, connection.close(200, "OK".into())).await;
}

fn no_answer(limit: Duration) -> String {
    format!("no answer within {limit:?}")
}

async fn tls(settings: &Settings) -> Result<OwnedTLSConfig, ConnectError> {
    let Some(path) = &settings.ca_file else { return Ok(OwnedTLSConfig::default()) };
    let pem = tokio::fs::read_to_string(path)
        .await
        .map_err(|e| ConnectError::Settings(format!("the CA file {} cannot be read: {e}", path.display())))?;
    Ok(OwnedTLSConfig { identity: None, cert_chain: Some(pem) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(uri: &str) -> Settings {
        Settings::new(uri.into())
    }

    #[test]
    fn a_uri_gives_host_vhost_and_heartbeat() {
        let uri = uri(&settings("amqp://u:p@rabbit.example:5673/campaignd")).unwrap();
        assert_eq!((uri.authority.host.as_str(), uri.authority.port, uri.vhost.as_str()), ("rabbit.example", 5673, "campaignd"));
        assert_eq!(uri.query.heartbeat, Some(10));
    }

    #[test]
    fn a_bad_uri_is_refused_without_quoting_it() {
        for bad in
            ["", "hunter2", "http://u:hunter2@h/", "amqp://u:hunter2@h:99999/v", "amqp://u:hunter2@[::1]/v", "amqp:u:hunter2"]
        {
            let error = uri(&settings(bad)).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_password_is_in_no_debug_output() {
        assert!(!format!("{:?}", settings("amqp://u:hunter2@h/")).contains("hunter2"));
    }
}
