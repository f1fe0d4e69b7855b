//! `campaignd run`: run the daemon. Build, start, drain.

use std::pin::pin;

use tokio::sync::oneshot;

use super::{Exit, Failure};
use crate::config::{Config, process_env};
use crate::daemon::{Daemon, Ended, Reloader};
use crate::signals::{Order, Signals};
use crate::units::show_duration;
use crate::{logging, notify};

/// Arguments of `campaignd run`.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "The daemon runs in the foreground until SIGTERM or Ctrl-C. Then it takes no more jobs, finishes the \
    requests that are in flight (at most [engine] drain-timeout), and exits with 0. A second signal ends it at once; nothing is lost \
    by that either: what was in flight is recognised at the next start.\n\nSIGHUP (`systemctl reload campaignd`) reads \
    the configuration, the keys and the rules again: [accounts], [gateway], [policy], [engine] and [broker] prefetch hold from then on, \
    without interrupting what is in flight; the rest, and keys from credentials or the environment, at the next start. If anything is wrong, the log says what, and everything goes \
    on as before.\n\nWhile the broker is away it waits and says so. \
    `campaignd check` tries everything out beforehand."
)]
pub(super) struct Args {}

/// Runs it.
pub(super) async fn run(_args: Args, globals: &super::Globals) -> Result<Exit, Failure> {
    let signals = Signals::listen()?;
    let config = Config::load(globals.config.as_deref())?;
    logging::start(&config.log)?;
    let secrets = config.secrets(&process_env)?;
    for note in config.notes() {
        tracing::warn!("{note}");
    }
    let daemon = Daemon::build(&config, secrets).await?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = config.source, admin = %daemon.admin_address(), "campaignd starts");
    let reloader = daemon.reloader(globals.config.clone(), config);
    Ok(operate(daemon, reloader, signals).await)
}

/// From the start to the end, which the first signal asks for and the second one forces.
async fn operate(daemon: Daemon, mut reloader: Reloader, mut signals: Signals) -> Exit {
    let (stop, stopped) = oneshot::channel::<()>();
    let mut running = pin!(daemon.run(async { drop(stopped.await) }));
    let signal = tokio::select! {
        ended = &mut running => return ending(ended),
        signal = reload_until_stopped(&mut reloader, &mut signals) => signal,
    };
    let limit = reloader.config().engine.drain_timeout;
    tracing::info!(signal, "stopping: finishing what is in flight, for at most {}", show_duration(limit));
    notify::stopping(limit);
    drop(stop);
    tokio::select! {
        ended = &mut running => ending(ended),
        signal = signals.stop() => {
            tracing::warn!(signal, "stopped at once; what was in flight is recognised at the next start");
            Exit::Interrupted
        }
    }
}

/// Reloads whenever it is asked to; gives the name of the signal that asks to stop.
async fn reload_until_stopped(reloader: &mut Reloader, signals: &mut Signals) -> &'static str {
    let mut reloads = false;
    loop {
        let order = tokio::select! {
            biased;
            order = signals.next() => order,
            () = reloader.reload(), if reloads => {
                reloads = false;
                continue;
            }
        };
        match order {
            Order::Stop(signal) => return signal,
            Order::Reload => reloads = true, // one under way begins again: the files may have changed since
        }
    }
}

fn ending(ended: Ended) -> Exit {
    match ended {
        Ended::Drained => {
            tracing::info!("stopped, everything settled");
            Exit::Ok
        }
        Ended::LimitReached => {
            tracing::warn!("stopped at the drain limit; what was in flight is recognised at the next start");
            Exit::Interrupted
        }
        Ended::ByItself => {
            tracing::error!("stopped without having been asked; the service manager should start it again");
            Exit::Software
        }
    }
}
