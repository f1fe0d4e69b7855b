//! The one place where the daemon's real parts are built. Build binds and opens, run starts, and at the end drains.

mod reload;

use std::collections::BTreeMap;
use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::alert::{self, Alert, Alerts, Dispatcher, LogSink, Status, Webhook};
use crate::broker::Broker;
use crate::broker::embedded::Embedded;
use crate::broker::rabbitmq::{self, RabbitMq};
use crate::clock::Clock;
use crate::config::{BrokerKind, Config, Secrets};
use crate::engine::{self, Engine, Handle};
use crate::exit::{Exit, Failure};
use crate::gateway::connexease::{self, Connexease};
use crate::job::AccountName;
use crate::policy::{Rules, Severity};
use crate::store::Store;
use crate::store::sled::SledStore;
use crate::{admin, dice, notify};
pub use reload::Reloader;

/// After the engine: longest wait for the broker to take its goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// Every part, built and not yet started.
pub struct Daemon {
    engine: Engine,
    handle: Handle,
    broker: RealBroker,
    dispatcher: Dispatcher,
    admin: TcpListener,
}

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// As asked, with everything settled.
    Drained,
    /// As asked, at the drain limit; what was in flight comes again and is recognised.
    LimitReached,
    /// By itself: a part died.
    ByItself,
}

impl Daemon {
    /// Opens the state directory, binds the admin address, builds every part. RabbitMQ is not waited for.
    ///
    /// # Errors
    /// Whatever a person has to mend first, with its exit code.
    pub async fn build(config: &Config, secrets: Secrets) -> Result<Self, Failure> {
        let clock = Clock::system();
        let rules = Rules::load(config.policy.file.as_deref())?;
        let accounts = accounts(config, &secrets.keys)?;
        let (alerts, alerted) = Alerts::channel();
        let mut dispatcher = Dispatcher::new(alerted, config.alerts.window, clock.clone()).with(LogSink);
        if let Some(url) = secrets.webhook_url {
            let webhook = Webhook::new(url, config.alerts.webhook_timeout);
            dispatcher = dispatcher.with(webhook.map_err(|error| Failure::new(Exit::Config, error))?);
        }
        // before the admin address: who holds the directory can be named, who holds a port cannot
        let store = store(&config.state.dir, &clock, &alerts)?;
        let admin = TcpListener::bind(config.admin.listen).await.map_err(|error| {
            let at = config.admin.listen;
            Failure::new(
                Exit::Unavailable,
                format_args!("cannot listen on {at} for the admin API: {error}; is another campaignd running? ([admin] listen)"),
            )
        })?;
        let broker = RealBroker::build(config, secrets.broker_uri, &clock)?;
        let parts = engine::Parts {
            broker: broker.shared(),
            store,
            accounts,
            rules: Arc::new(rules),
            alerts,
            clock,
            dice: dice::unforeseen(),
            settings: settings(config),
        };
        let (engine, handle) = Engine::build(parts).map_err(|error| Failure::new(Exit::Io, error))?;
        Ok(Self { engine, handle, broker, dispatcher, admin })
    }

    /// Gives the running daemon its configuration again: `config` is what it was built from, read from `path`.
    #[must_use]
    pub fn reloader(&self, path: Option<PathBuf>, config: Config) -> Reloader {
        Reloader::new(path, config, self.handle.clone())
    }

    /// Where the admin API listens.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.local_addr().unwrap_or_else(|_| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))
    }

    /// Runs until `shutdown`, drains, and takes leave of everybody.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Ended {
        let Self { engine, handle, broker, dispatcher, admin } = self;
        let (stop, stopped) = watch::channel(false);
        let mut beside = JoinSet::new();
        beside.spawn(notify::follow(handle.pulse()));
        beside.spawn(serve_admin(admin, handle, broker.shared(), asked(stopped.clone())));
        let mut telling = JoinSet::new();
        // It ends by itself, after the last alert: the engine holds the other end.
        telling.spawn(dispatcher.run(pending()));
        let was_asked = async {
            shutdown.await;
            stop.send_replace(true);
        };
        let drained = engine.run(was_asked).await;
        let ended = match (*stopped.borrow(), drained.clean) {
            (true, true) => Ended::Drained,
            (true, false) => Ended::LimitReached,
            (false, _) => Ended::ByItself,
        };
        stop.send_replace(true);
        broker.close().await;
        // The admin API answers whoever still asks; the alerts get the time they need.
        let _ = timeout(alert::DRAIN + GOODBYE, async { while telling.join_next().await.is_some() {} }).await;
        ended
    }
}

async fn asked(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// The broker by its real type, which alone knows how to say goodbye.
enum RealBroker {
    RabbitMq(Arc<RabbitMq>),
    Embedded(Arc<Embedded>),
}

impl RealBroker {
    fn build(config: &Config, uri: Option<SecretString>, clock: &Clock) -> Result<Self, Failure> {
        match (config.broker.kind, uri) {
            (BrokerKind::RabbitMq, Some(uri)) => {
                let settings = broker_settings(config, uri);
                settings.check().map_err(|error| Failure::new(Exit::Config, error))?;
                Ok(Self::RabbitMq(Arc::new(RabbitMq::connect(settings, clock.clone()))))
            }
            (BrokerKind::RabbitMq, None) => Err(Failure::new(Exit::Config, "the broker's address is missing")),
            (BrokerKind::Embedded, _) => Ok(Self::Embedded(Arc::new(Embedded::open(&config.state.dir, clock.clone())?))),
        }
    }

    fn shared(&self) -> Arc<dyn Broker> {
        match self {
            Self::RabbitMq(broker) => Arc::clone(broker) as Arc<dyn Broker>,
            Self::Embedded(broker) => Arc::clone(broker) as Arc<dyn Broker>,
        }
    }

    async fn close(&self) {
        // The embedded one closes when it is dropped.
        if let Self::RabbitMq(broker) = self {
            let _ = timeout(GOODBYE, broker.close()).await;
        }
    }
}

/// How the configuration says to reach RabbitMQ.
pub fn broker_settings(config: &Config, uri: SecretString) -> rabbitmq::Settings {
    rabbitmq::Settings {
        ca_file: config.broker.ca_file.clone(),
        connect_timeout: config.broker.connect_timeout,
        call_timeout: config.broker.call_timeout,
        heartbeat: config.broker.heartbeat,
        ..rabbitmq::Settings::new(uri)
    }
}

/// How the configuration says to reach the gateway, for one account.
pub fn gateway_settings(config: &Config, key: SecretString, max_in_flight: usize) -> connexease::Settings {
    connexease::Settings {
        base_url: config.gateway.base_url.clone(),
        connect_timeout: config.gateway.connect_timeout,
        request_timeout: config.gateway.request_timeout,
        max_answer_bytes: config.gateway.max_answer,
        max_in_flight,
        ..connexease::Settings::new(key)
    }
}

/// How the configuration says the engine behaves.
pub fn settings(config: &Config) -> engine::Settings {
    engine::Settings {
        prefetch: config.broker.prefetch,
        default_account: config.default_account().cloned(),
        drain: config.engine.drain_timeout,
        linger: config.engine.commit_linger,
        ledger_retention: config.engine.ledger_retention,
        most_lost_attempts: config.engine.most_lost_attempts,
        ..engine::Settings::default()
    }
}

fn accounts(
    config: &Config,
    keys: &BTreeMap<AccountName, SecretString>,
) -> Result<BTreeMap<AccountName, engine::Account>, Failure> {
    let with_keys = config.accounts.iter().filter_map(|(name, account)| Some((name, account, keys.get(name)?)));
    let built = with_keys.map(|(name, account, key)| {
        let settings = gateway_settings(config, key.clone(), account.max_in_flight);
        let gateway =
            Connexease::new(settings).map_err(|error| Failure::new(Exit::Config, format_args!("[accounts.{name}] {error}")))?;
        let (plan, max_in_flight) = (account.plan, account.max_in_flight);
        Ok((name.clone(), engine::Account { gateway: Arc::new(gateway), plan, max_in_flight }))
    });
    built.collect()
}

/// Opens the ledger. One that will not open has been moved aside, which somebody must hear of.
fn store(dir: &Path, clock: &Clock, alerts: &Alerts) -> Result<Arc<dyn Store>, Failure> {
    let opened = SledStore::open(dir, clock)?;
    if let Some(lost) = opened.lost {
        alerts.raise(Alert {
            status: Status::Firing,
            severity: Severity::Critical,
            rule: "state-damaged".into(),
            account: None,
            campaign: None,
            summary: format!("{lost}; the daemon began with an empty one"),
            advice: "Jobs delivered before count as outcome unknown: look through the dead letters. Do not enqueue the same files again: the \
                     ledger no longer knows who got a message. Keep the moved files for a diagnosis."
                .into(),
            at: clock.wall(),
        });
    }
    Ok(Arc::new(opened.store))
}

/// A daemon that nobody can ask still sends.
async fn serve_admin(
    listener: TcpListener,
    handle: Handle,
    broker: Arc<dyn Broker>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    if let Err(error) = admin::serve(listener, handle, broker, shutdown).await {
        tracing::error!(%error, "the admin API no longer listens; sending goes on, restart to get it back");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// Parts know defaults of their own, for tests and `send`; the documented file must not say otherwise.
    #[test]
    fn the_documented_defaults_are_those_of_the_parts() {
        let defaults = config::defaults();
        let (ours, theirs) = (settings(defaults), engine::Settings::default());
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        let (ours, theirs) = (broker_settings(defaults, "u".into()), rabbitmq::Settings::new("u".into()));
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        let ours = gateway_settings(defaults, "k".into(), defaults.gateway.max_in_flight);
        let theirs = connexease::Settings { base_url: ours.base_url.clone(), ..connexease::Settings::new("k".into()) };
        assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
        assert_eq!(ours.base_url, connexease::BaseUrl::default());
    }
}
