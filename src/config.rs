//! The configuration: one TOML file over the compiled-in `config/campaignd.toml`. After [`Config::load`] nothing in it needs checking
//! again; secrets are read by a step of their own, so that commands that need none run without the right to read them.

#[cfg(any(test, fuzzing))]
pub(crate) mod laws;
mod mistake;
mod reader;
mod secret;
mod sections;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::sync::LazyLock;

use lapin::uri::AMQPUri;
use secrecy::{ExposeSecret, SecretString};

use self::reader::{Layer, Reader};
use crate::job::AccountName;

pub use mistake::{ConfigError, Mistake, Place};
pub use secret::{Env, SecretSource, process_env};
pub use sections::{Account, Admin, Alerts, Broker, BrokerKind, Engine, Gateway, Log, LogFormat, Policy, State};

/// Every default, with what it means.
pub const BUILTIN: &str = include_str!("../config/campaignd.toml");

/// Where the operator's file is looked for when none is named.
pub const DEFAULT_PATH: &str = "/etc/campaignd/campaignd.toml";

/// The environment variable that goes before `[broker] uri` and its kin.
pub const BROKER_URI_VARIABLE: &str = "CAMPAIGND_BROKER_URI";

const MAX_FILE_BYTES: u64 = 1 << 20;

/// The whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from, or "built-in defaults".
    pub source: String,
    /// Where jobs wait.
    pub broker: Broker,
    /// The Connexease Gateway.
    pub gateway: Gateway,
    /// The API keys and their limits.
    pub accounts: BTreeMap<AccountName, Account>,
    /// What the daemon remembers.
    pub state: State,
    /// The sending itself.
    pub engine: Engine,
    /// What every answer of the gateway means.
    pub policy: Policy,
    /// Telling people.
    pub alerts: Alerts,
    /// The admin API.
    pub admin: Admin,
    /// Logs.
    pub log: Log,
}

/// Everything secret that the daemon needs.
#[derive(Debug)]
pub struct Secrets {
    /// The API key of every account.
    pub keys: BTreeMap<AccountName, SecretString>,
    /// RabbitMQ's address; none with the embedded broker.
    pub broker_uri: Option<SecretString>,
    /// The webhook's address, if there is one.
    pub webhook_url: Option<SecretString>,
}

/// The compiled-in configuration: the one home of every default.
pub fn defaults() -> &'static Config {
    #[expect(clippy::expect_used, reason = "a compiled-in text; a test reads it")]
    static DEFAULTS: LazyLock<Config> = LazyLock::new(|| Config::parse("", None).expect("config/campaignd.toml is valid"));
    &DEFAULTS
}

impl Config {
    /// Reads `path`; without one, [`DEFAULT_PATH`] if it exists, else the compiled-in defaults alone.
    ///
    /// # Errors
    /// Every mistake in the file at once.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let default = Path::new(DEFAULT_PATH);
        match path {
            Some(path) => Self::parse(&read(path)?, Some(path)),
            None if default.exists() => Self::parse(&read(default)?, Some(default)),
            None => Self::parse("", None),
        }
    }

    /// Reads a configuration's text; `path` names it in mistakes and is where relative paths start.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn parse(text: &str, path: Option<&Path>) -> Result<Self, ConfigError> {
        let source = path.map_or_else(|| "built-in defaults".to_owned(), |path| path.display().to_string());
        let mut mistakes = Vec::new();
        let builtin = Layer::parse("config/campaignd.toml", BUILTIN, None, &mut mistakes);
        let own = Layer::parse(&source, text, path.and_then(Path::parent), &mut mistakes);
        let reader = Reader::new(own, builtin, mistakes);
        let config = Self::read(&reader, source.clone());
        reader.finish()?;
        config.ok_or_else(|| {
            let what = "the compiled-in configuration is not whole".into();
            Mistake { place: Place::whole(&source), what, remedy: "this is a mistake in campaignd; please report it".into() }
                .into()
        })
    }

    fn read(reader: &Reader<'_>, source: String) -> Option<Self> {
        let gateway = Gateway::read(reader);
        let config = Self {
            source,
            broker: Broker::read(reader),
            accounts: gateway.as_ref().map(|gateway| Account::read_all(reader, gateway)).unwrap_or_default(),
            state: State::read(reader),
            engine: Engine::read(reader),
            policy: Policy::read(reader),
            alerts: Alerts::read(reader),
            admin: Admin::read(reader),
            log: Log::read(reader),
            gateway: gateway?,
        };
        Some(config)
    }

    /// The sections that differ from a later `other` in what a daemon cannot change while it runs.
    #[must_use]
    pub fn fixed_differences(&self, other: &Self) -> Vec<&'static str> {
        let broker = Broker { prefetch: self.broker.prefetch, ..other.broker.clone() };
        let sections = [
            ("[broker]", self.broker != broker),
            ("[state]", self.state != other.state),
            ("[alerts]", self.alerts != other.alerts),
            ("[admin]", self.admin != other.admin),
            ("[log]", self.log != other.log),
        ];
        sections.into_iter().filter_map(|(section, differs)| differs.then_some(section)).collect()
    }

    /// The account for campaigns that name none: the one marked so, or the only one.
    #[must_use]
    pub fn default_account(&self) -> Option<&AccountName> {
        let marked = self.accounts.iter().find(|(_, account)| account.default).map(|(name, _)| name);
        marked.or_else(|| if self.accounts.len() == 1 { self.accounts.keys().next() } else { None })
    }

    /// RabbitMQ's address with login: `CAMPAIGND_BROKER_URI`, else as `[broker]` says.
    ///
    /// # Errors
    /// When it cannot be read or is no AMQP address.
    pub fn broker_uri(&self, env: Env<'_>) -> Result<SecretString, Mistake> {
        let source = match env(BROKER_URI_VARIABLE) {
            Some(_) => SecretSource::env(BROKER_URI_VARIABLE),
            None => self.broker.uri.clone().ok_or_else(|| Mistake {
                place: Place::whole(&self.source),
                what: "[broker] lacks uri, uri-file or uri-credential".into(),
                remedy: String::new(),
            })?,
        };
        let uri = source.read(env)?;
        // The parser's own message may quote the address, and with it the password.
        match uri.expose_secret().parse::<AMQPUri>() {
            Ok(_) => Ok(uri),
            Err(_) => Err(Mistake {
                place: source.place().clone(),
                what: "the broker's address is no AMQP address".into(),
                remedy: "write amqp://user:password@host:5672/vhost, special characters in user, password and vhost as %XX"
                    .into(),
            }),
        }
    }

    /// The API key of every account.
    ///
    /// # Errors
    /// Every key that cannot be read.
    pub fn keys(&self, env: Env<'_>) -> Result<BTreeMap<AccountName, SecretString>, ConfigError> {
        let mut mistakes = Vec::new();
        let mut keys = BTreeMap::new();
        for (name, account) in &self.accounts {
            match account.key.as_ref().map(|key| key.read(env)) {
                Some(Ok(key)) => drop(keys.insert(name.clone(), key)),
                Some(Err(mistake)) => {
                    mistakes.push(Mistake { what: format!("[accounts.{name}] {}", mistake.what), ..mistake });
                }
                None => {}
            }
        }
        ConfigError::unless_none(mistakes).map(|()| keys)
    }

    /// Where alerts are posted, if anywhere.
    ///
    /// # Errors
    /// When it cannot be read or is no web address.
    pub fn webhook_url(&self, env: Env<'_>) -> Result<Option<SecretString>, Mistake> {
        let Some(source) = &self.alerts.webhook_url else { return Ok(None) };
        let url = source.read(env)?;
        let fine = url.expose_secret().parse::<reqwest::Url>().is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if fine {
            return Ok(Some(url));
        }
        let what = "[alerts] webhook-url is no web address".into();
        Err(Mistake { place: source.place().clone(), what, remedy: "write https://host/path".into() })
    }

    /// Everything secret that the daemon needs; every mistake at once.
    ///
    /// # Errors
    /// What cannot be read, and that there is no account.
    pub fn secrets(&self, env: Env<'_>) -> Result<Secrets, ConfigError> {
        let mut mistakes = Vec::new();
        if self.accounts.is_empty() {
            let what = "there is no account to send by".into();
            let remedy = "add [accounts.main] with key-file = \"…\", the file that holds your gateway API key".into();
            mistakes.push(Mistake { place: Place::whole(&self.source), what, remedy });
        }
        let keys = self.keys(env).unwrap_or_else(|error| {
            mistakes.extend(error.mistakes);
            BTreeMap::new()
        });
        let mut keep = |result: Result<Option<SecretString>, Mistake>| {
            result.unwrap_or_else(|mistake| {
                mistakes.push(mistake);
                None
            })
        };
        let broker_uri = match self.broker.kind {
            BrokerKind::RabbitMq => keep(self.broker_uri(env).map(Some)),
            BrokerKind::Embedded => None,
        };
        let webhook_url = keep(self.webhook_url(env));
        ConfigError::unless_none(mistakes).map(|()| Secrets { keys, broker_uri, webhook_url })
    }

    /// What is allowed but unwise.
    #[must_use]
    pub fn notes(&self) -> Vec<Mistake> {
        let mut notes = Vec::new();
        if self.gateway.base_url.exposes_key() {
            let what = "[gateway] base-url: over http:// the API key can be read on the way".into();
            notes.push(Mistake { place: self.gateway.place.clone(), what, remedy: "use https://".into() });
        }
        let sources = self.accounts.values().filter_map(|account| account.key.as_ref());
        for source in sources.chain(&self.broker.uri).chain(&self.alerts.webhook_url) {
            if let Some(path) = source.file_open_to_all() {
                let what = format!("{} can be read by everybody", path.display());
                let remedy = format!("chmod 0400 {}", path.display());
                notes.push(Mistake { place: source.place().clone(), what, remedy });
            }
        }
        notes
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let mut text = String::new();
    let wrong = |what: String| Mistake {
        place: Place::whole(&path.display().to_string()),
        what,
        remedy: "name the file with --config or CAMPAIGND_CONFIG; without one, the built-in defaults apply".into(),
    };
    let file = std::fs::File::open(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let size =
        file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    if size as u64 > MAX_FILE_BYTES {
        return Err(wrong(format!("is larger than {} KiB, which no configuration is", MAX_FILE_BYTES >> 10)).into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
