//! The sections of the configuration: what each holds, and how it is read. The words are those of `config/campaignd.toml`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::mistake::Place;
use super::reader::{Reader, Section};
use super::secret::{Keys, SecretSource};
use crate::gateway::connexease::{BaseUrl, BaseUrlError};
use crate::job::AccountName;
use crate::pacer::{Limits, Pace, Plan, Reserve};
use crate::units;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const HOUR: Duration = secs(3600);

/// `[broker]`: where jobs wait.
#[derive(Debug, Clone, PartialEq)]
pub struct Broker {
    /// Which one.
    pub kind: BrokerKind,
    /// Its address with login; read it by [`super::Config::broker_uri`].
    pub(super) uri: Option<SecretSource>,
    /// PEM file with the server's certificate authority; without one those of the system are trusted.
    pub ca_file: Option<PathBuf>,
    /// Unsettled deliveries per campaign.
    pub prefetch: u16,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the answer to one call.
    pub call_timeout: Duration,
    /// Silence for twice this long means the connection is lost. Whole seconds.
    pub heartbeat: Duration,
}

/// Which broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BrokerKind {
    /// RabbitMQ.
    #[default]
    RabbitMq,
    /// On this machine's disk.
    Embedded,
}

impl Broker {
    pub(super) fn read(reader: &Reader<'_>) -> Self {
        let mut section = reader.section("broker");
        let keys = Keys { literal: Some("uri"), file: "uri-file", credential: "uri-credential", env: None };
        let heartbeat = section.required_parsed("heartbeat", |text| {
            let length = units::parse_duration(text).map_err(|error| error.to_string())?;
            let fine = length.subsec_nanos() == 0 && (1..=300).contains(&length.as_secs());
            if fine { Ok(length) } else { Err("must be whole seconds, from 1s to 5m".into()) }
        });
        let broker = Self {
            kind: section.choice("kind", &[("rabbitmq", BrokerKind::RabbitMq), ("embedded", BrokerKind::Embedded)]),
            uri: SecretSource::find(&mut section, &keys),
            ca_file: section.path("ca-file").map(|found| found.value),
            // More would only wait in the process, and 0, which means no limit, is what a quorum queue refuses.
            prefetch: section.number("prefetch", 1..=2000).map_or(1, |found| u16::try_from(found.value).unwrap_or(u16::MAX)),
            connect_timeout: section.duration("connect-timeout", secs(1)..=secs(300)),
            call_timeout: section.duration("call-timeout", secs(1)..=secs(300)),
            heartbeat,
        };
        section.finish();
        broker
    }
}

/// `[gateway]`: the Connexease Gateway.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Its address.
    pub base_url: BaseUrl,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for one answer, from the start of the request.
    pub request_timeout: Duration,
    /// Largest answer that is read, in bytes.
    pub max_answer: usize,
    /// For accounts that do not say otherwise.
    pub limits: Limits,
    /// For accounts that do not say otherwise.
    pub max_in_flight: usize,
    /// Where the address stands.
    pub(super) place: Place,
}

impl Gateway {
    pub(super) fn read(reader: &Reader<'_>) -> Option<Self> {
        let mut section = reader.section("gateway");
        let base_url = section.parsed("base-url", |text| text.parse().map_err(|error: BaseUrlError| error.to_string()));
        let gateway = Self {
            connect_timeout: section.duration("connect-timeout", Duration::from_millis(100)..=secs(60)),
            request_timeout: section.duration("request-timeout", Duration::from_millis(100)..=secs(300)),
            max_answer: section.required_parsed("max-answer", |text| {
                let size = units::parse_size(text).map_err(|error| error.to_string())?;
                if (1024..=16 << 20).contains(&size) { Ok(size) } else { Err("must be from 1KiB to 16MiB".into()) }
            }),
            limits: limits(&mut section)?,
            max_in_flight: max_in_flight(&mut section)?,
            place: section.place("base-url"),
            base_url: base_url?.value,
        };
        section.finish();
        Some(gateway)
    }
}

fn limits(section: &mut Section<'_, '_>) -> Option<Limits> {
    section.parsed("rate", |text| text.parse().map_err(|error: units::UnitError| error.to_string())).map(|found| found.value)
}

fn max_in_flight(section: &mut Section<'_, '_>) -> Option<usize> {
    section.number("max-in-flight", 1..=10_000).and_then(|found| usize::try_from(found.value).ok())
}

/// `[accounts.NAME]`: one gateway API key with its limits.
#[derive(Debug, Clone)]
pub struct Account {
    /// Where the key is; read it by [`super::Config::keys`].
    pub(super) key: Option<SecretSource>,
    /// How it is paced: what the gateway allows this key, what of it is left to others, how requests are spread.
    pub plan: Plan,
    /// Most requests under way at once.
    pub max_in_flight: usize,
    /// For campaigns that name no account.
    pub(super) default: bool,
}

const KEY_REMEDY: &str = "write the key to a file that only the campaignd user can read, and name that file with key-file";

impl Account {
    pub(super) fn read_all(reader: &Reader<'_>, gateway: &Gateway) -> BTreeMap<AccountName, Self> {
        let mut accounts = BTreeMap::new();
        let mut default: Option<AccountName> = None;
        for (name, place, mut section) in reader.sections("accounts") {
            let in_the_open =
                ["key", "api-key"].map(|key| section.never(key, "an API key must not stand in the configuration", KEY_REMEDY));
            let account = Self::read(&mut section, gateway);
            if account.key.is_none() && in_the_open == [false; 2] {
                let what = "lacks key-file, key-credential or key-env";
                section.push(place.clone(), what, KEY_REMEDY);
            }
            match name.parse::<AccountName>() {
                Err(error) => section.push(place, error, "rename the section"),
                Ok(name) => {
                    if account.default
                        && let Some(first) = default.replace(name.clone())
                    {
                        let what = format!("default: account {first} is the default already");
                        section.push(section.place("default"), what, "keep it with one account");
                    }
                    accounts.insert(name, account);
                }
            }
            section.finish();
        }
        accounts
    }

    fn read(section: &mut Section<'_, '_>, gateway: &Gateway) -> Self {
        let keys = Keys { literal: None, file: "key-file", credential: "key-credential", env: Some("key-env") };
        Self {
            key: SecretSource::find(section, &keys),
            plan: plan(section, gateway),
            max_in_flight: max_in_flight(section).unwrap_or(gateway.max_in_flight),
            default: section.flag("default").is_some_and(|found| found.value),
        }
    }
}

fn plan(section: &mut Section<'_, '_>, gateway: &Gateway) -> Plan {
    let limits = limits(section).unwrap_or(gateway.limits);
    let reserve = section.optional("reserve", |value| {
        let found = match (value.as_integer(), value.as_str()) {
            (Some(number), _) => u32::from_str_radix(number.as_str(), number.radix()).ok().map(Reserve::Requests),
            (_, Some(text)) => {
                text.strip_suffix('%').and_then(|text| text.trim().parse().ok()).map(|share: f64| Reserve::Share(share / 100.0))
            }
            _ => None,
        };
        let fine = found.filter(|reserve| (0.0..=MOST_RESERVED).contains(&reserve.share(limits)));
        fine.ok_or_else(|| {
            format!("must be a number of requests, or a share such as \"15%\", and at most 90% of the rate {limits}")
        })
    });
    let pace = section.parsed("pace", |text| match text {
        "smooth" => Ok(Pace::Smooth),
        "burst" => Ok(Pace::Burst),
        _ => Err(r#"must be one of "smooth", "burst""#.into()),
    });
    let reserve = reserve.map(|found| found.value).unwrap_or_default();
    Plan { limits, reserve, pace: pace.map(|found| found.value).unwrap_or_default() }
}

/// Something must be left to send by.
const MOST_RESERVED: f64 = 0.9;

/// `[engine]`: the sending itself.
#[derive(Debug, Clone)]
pub struct Engine {
    /// After SIGTERM, longest wait for requests under way.
    pub drain_timeout: Duration,
    /// How long an outcome may wait for others to share one flush.
    pub commit_linger: Duration,
    /// How long the ledger of a finished campaign is kept.
    pub ledger_retention: Duration,
    /// How often the daemon may die during a job's attempt before the job is parked.
    pub most_lost_attempts: u32,
}

impl Engine {
    pub(super) fn read(reader: &Reader<'_>) -> Self {
        let mut section = reader.section("engine");
        let engine = Self {
            drain_timeout: section.duration("drain-timeout", secs(1)..=HOUR),
            commit_linger: section.duration("commit-linger", Duration::ZERO..=secs(1)),
            ledger_retention: section.duration("ledger-retention", HOUR..=units::MAX_LENGTH),
            most_lost_attempts: section.number("most-lost-attempts", 1..=100).map_or(1, |found| found.value),
        };
        section.finish();
        engine
    }
}

/// `[state]`: what the daemon remembers.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Its directory.
    pub dir: PathBuf,
}

impl State {
    pub(super) fn read(reader: &Reader<'_>) -> Self {
        let mut section = reader.section("state");
        let dir = section.path("dir").map(|found| found.value).unwrap_or_default();
        section.finish();
        Self { dir }
    }
}

/// `[policy]`: what every answer of the gateway means.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The operator's rules; none means the compiled-in ones.
    pub file: Option<PathBuf>,
    /// Where that is said.
    pub place: Place,
}

impl Policy {
    pub(super) fn read(reader: &Reader<'_>) -> Self {
        let mut section = reader.section("policy");
        let policy = Self { file: section.path("file").map(|found| found.value), place: section.place("file") };
        section.finish();
        policy
    }
}

/// `[alerts]`: telling people.
#[derive(Debug, Clone, PartialEq)]
pub struct Alerts {
    /// The same rule and account alerts once within this time.
    pub window: Duration,
    /// Read it by [`super::Config::webhook_url`].
    pub(super) webhook_url: Option<SecretSource>,
    /// Longest wait for the webhook's answer.
    pub webhook_timeout: Duration,
}

impl Alerts {
    pub(super) fn read(reader: &Reader<'_>) -> Self {
        let mut section = reader.section("alerts");
        let (file, credential) = ("webhook-url-file", "webhook-url-credential");
        let alerts = Self {
            window: section.duration("window", Duration::ZERO..=24 * HOUR),
            webhook_url: SecretSource::find(&mut section, &Keys { literal: Some("webhook-url"), file, credential, env: None }),
            webhook_timeout: section.duration("webhook-timeout", Duration::from_millis(100)..=secs(60)),
        };
        section.finish();
        alerts
    }
}

/// `[admin]`: the admin API.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Admin {
    /// Where it listens; always loopback.
    pub listen: SocketAddr,
}

impl Admin {
    pub(super) fn read(reader: &Reader<'_>) -> Self {
        let mut section = reader.section("admin");
        let listen = section.address("listen");
        if let Some(found) = &listen
            && !found.value.ip().is_loopback()
        {
            let remedy = "listen on 127.0.0.1 or [::1]; from other machines, come through ssh -L";
            section.push(found.place.clone(), "listen: must be a loopback address, since the admin API has no login", remedy);
        }
        section.finish();
        Self { listen: listen.map_or_else(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0), |found| found.value) }
    }
}

/// `[log]`: logs go to standard error.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// In which form.
    pub format: LogFormat,
    /// `info`, or by module: `info,campaignd::broker=debug`.
    pub level: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `Journal` when standard error is the journal, else `Text`.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
    /// To journald, with fields.
    Journal,
}

impl Log {
    pub(super) fn read(reader: &Reader<'_>) -> Self {
        use LogFormat::{Auto, Journal, Json, Text};
        let mut section = reader.section("log");
        let formats = [("auto", Auto), ("text", Text), ("json", Json), ("journal", Journal)];
        let format = section.choice("format", &formats);
        let level = section.required_parsed("level", |text| {
            let fine = crate::logging::is_level(text);
            if fine {
                Ok(text.to_owned())
            } else {
                Err("must be a level (error, warn, info, debug, trace), or module=level pairs".into())
            }
        });
        section.finish();
        Self { format, level }
    }
}
