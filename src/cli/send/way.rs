//! How `send` reaches the gateway: by an account of the configuration, by an address and a key, or a simulated one in this process.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;

use crate::config::{Config, process_env};
use crate::daemon;
use crate::engine::Account;
use crate::exit::{Exit, Failure};
use crate::gateway::connexease::{BaseUrlError, Connexease};
use crate::gateway::simulator::{self, DEFAULT_KEY, Key, Running, Simulator};
use crate::job::AccountName;
use crate::pacer::{Limits, Plan};

/// No key is longer.
const MAX_KEY_BYTES: u64 = 4096;

/// Which gateway, which key, how fast.
#[derive(Debug, clap::Args)]
pub(super) struct WayArgs {
    /// The gateway's address, instead of an account of the configuration; needs --key-file or --key-env
    #[arg(long, value_name = "URL", requires = "key")]
    gateway: Option<String>,
    /// A file that holds the API key and nothing else
    #[arg(long, value_name = "FILE", group = "key")]
    key_file: Option<PathBuf>,
    /// The environment variable that holds the API key
    #[arg(long, value_name = "NAME", group = "key")]
    key_env: Option<String>,
    /// What the gateway allows per second: 80/s, or unlimited [default: the account's, else 80/s, 4800/min]
    #[arg(long, value_name = "RATE")]
    rate: Option<Limits>,
    /// What the gateway allows per minute, for example 4800
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    per_minute: Option<u32>,
    /// Send to a simulated gateway in this process: a rehearsal, nothing leaves this machine
    #[arg(long, conflicts_with_all = ["gateway", "key"])]
    simulate: bool,
}

/// The way to one gateway with one key.
pub(super) struct Way {
    pub(super) account: AccountName,
    /// The configuration with this account in it, for estimates.
    pub(super) config: Config,
    key: SecretString,
    plan: Plan,
    max_in_flight: usize,
    simulator: Option<Running>,
}

impl Way {
    pub(super) async fn open(args: &WayArgs, asked: Option<&AccountName>, config: &Config) -> Result<Self, Failure> {
        let mut config = config.clone();
        let named = |name: &str| asked.cloned().map_or_else(|| name.parse().map_err(|e| Failure::new(Exit::Usage, e)), Ok);
        if args.simulate {
            let limits = args.limits(config.gateway.limits);
            let key = Key { limits, ..Key::new(DEFAULT_KEY) };
            let options = simulator::Options { keys: vec![key], ..simulator::Options::default() };
            let running = Simulator::start_local(options).await;
            let running = running
                .map_err(|error| Failure::new(Exit::Unavailable, format_args!("cannot start the simulated gateway: {error}")))?;
            set_base(&mut config, &running.base_url())?;
            let max_in_flight = config.gateway.max_in_flight;
            let key = DEFAULT_KEY.to_owned().into();
            return Ok(Self {
                account: named("simulated")?,
                config,
                key,
                plan: limits.into(),
                max_in_flight,
                simulator: Some(running),
            });
        }
        if let Some(key) = args.key()? {
            if let Some(url) = &args.gateway {
                set_base(&mut config, url)?;
            }
            let (plan, max_in_flight) = (args.limits(config.gateway.limits).into(), config.gateway.max_in_flight);
            return Ok(Self { account: named("main")?, config, key, plan, max_in_flight, simulator: None });
        }
        Self::configured(args, asked, config)
    }

    fn configured(args: &WayArgs, asked: Option<&AccountName>, mut config: Config) -> Result<Self, Failure> {
        let account = asked.or_else(|| config.default_account()).cloned().ok_or_else(|| {
            let what = "say by which account to send: --account NAME of the configuration, or --gateway URL with --key-file FILE, or --simulate";
            Failure::new(Exit::Usage, what)
        })?;
        // Only this key is needed, so only this one must be readable.
        config.accounts.retain(|name, _| *name == account);
        let Some(settings) = config.accounts.get(&account) else {
            let names =
                format!("{} has no [accounts.{account}]; name one that it has, or use --gateway with --key-file", config.source);
            return Err(Failure::new(Exit::Config, names));
        };
        let plan = Plan { limits: args.limits(settings.plan.limits), ..settings.plan };
        let max_in_flight = settings.max_in_flight;
        let key = config.keys(&process_env)?.remove(&account);
        let key = key.ok_or_else(|| Failure::new(Exit::Config, format_args!("[accounts.{account}] names no key")))?;
        Ok(Self { account, config, key, plan, max_in_flight, simulator: None })
    }

    /// The account as the engine wants it.
    pub(super) fn sender(&self) -> Result<Account, Failure> {
        let settings = daemon::gateway_settings(&self.config, self.key.clone(), self.max_in_flight);
        let gateway = Connexease::new(settings).map_err(|error| Failure::new(Exit::Config, error))?;
        Ok(Account { gateway: Arc::new(gateway), plan: self.plan, max_in_flight: self.max_in_flight })
    }

    /// It is a rehearsal.
    pub(super) const fn is_simulated(&self) -> bool {
        self.simulator.is_some()
    }
}

impl WayArgs {
    /// What is not named stays as it is; `unlimited` names both.
    fn limits(&self, default: Limits) -> Limits {
        let unlimited = Limits { second: None, minute: None };
        let Limits { second, minute } = match self.rate {
            None => default,
            Some(rate) if rate == unlimited => unlimited,
            Some(rate) => Limits { second: rate.second.or(default.second), minute: rate.minute.or(default.minute) },
        };
        Limits { second, minute: self.per_minute.or(minute) }
    }

    fn key(&self) -> Result<Option<SecretString>, Failure> {
        let (key, from) = match (&self.key_file, &self.key_env) {
            (Some(path), _) => (read_key(path)?, format!("--key-file {}", path.display())),
            (None, Some(name)) => {
                let missing = || Failure::new(Exit::Usage, format_args!("--key-env: the environment has no {name}"));
                (std::env::var(name).map_err(|_| missing())?, format!("--key-env {name}"))
            }
            (None, None) => return Ok(None),
        };
        let key = key.trim();
        if key.is_empty() {
            return Err(Failure::new(Exit::NoInput, format_args!("{from}: the key is empty")));
        }
        Ok(Some(key.to_owned().into()))
    }
}

fn read_key(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_KEY_BYTES).read_to_string(&mut text));
    read.map_err(|error| Failure::new(Exit::NoInput, format_args!("cannot read the key from {}: {error}", path.display())))?;
    Ok(text)
}

fn set_base(config: &mut Config, url: &str) -> Result<(), Failure> {
    let parsed = url.parse().map_err(|error: BaseUrlError| Failure::new(Exit::Usage, format_args!("--gateway {error}")));
    config.gateway.base_url = parsed?;
    Ok(())
}
