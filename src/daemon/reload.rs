//! The configuration, keys and rules are read again while the daemon runs. If anything in them is wrong, it says so and goes on as it was.

use std::path::PathBuf;
use std::sync::Arc;

use super::{accounts, settings};
use crate::config::{Config, process_env};
use crate::engine::{Handle, Reload};
use crate::exit::{Exit, Failure};
use crate::notify;
use crate::policy::Rules;

/// Reads the configuration again, and hands the running engine what can change.
#[derive(Debug)]
pub struct Reloader {
    path: Option<PathBuf>,
    /// As it was read last.
    config: Config,
    handle: Handle,
    /// The service manager was told that it reloads, and not yet that it is done.
    announced: bool,
}

impl Reloader {
    pub(super) const fn new(path: Option<PathBuf>, config: Config, handle: Handle) -> Self {
        Self { path, config, handle, announced: false }
    }

    /// The configuration as it was read last.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Reloads, and tells the log and the service manager how it went.
    pub async fn reload(&mut self) {
        if self.handle.pulse().borrow().ready {
            self.announced = true; // before it is ready, it will say so when it is
            notify::reloading();
        }
        match self.try_reload().await {
            Ok(()) => tracing::info!(config = self.config.source, "reloaded"),
            Err(failure) => tracing::error!("not reloaded, everything goes on as before: {failure}"),
        }
        if std::mem::take(&mut self.announced) {
            notify::reloaded();
        }
    }

    async fn try_reload(&mut self) -> Result<(), Failure> {
        let config = Config::load(self.path.as_deref())?;
        let secrets = config.secrets(&process_env)?;
        let rules = Arc::new(Rules::load(config.policy.file.as_deref())?);
        let reload = Reload { accounts: accounts(&config, &secrets.keys)?, rules, settings: settings(&config) };
        self.handle.reload(reload).await.map_err(|error| Failure::new(Exit::Unavailable, error))?;
        for note in config.notes() {
            tracing::warn!("{note}");
        }
        for section in self.config.fixed_differences(&config) {
            tracing::warn!("{section} has changed: that takes effect at the next start");
        }
        self.config = config;
        Ok(())
    }
}
