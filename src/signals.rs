//! What the system asks of a command that runs for long: SIGTERM and SIGINT to stop, SIGHUP to read the configuration again, which only
//! the daemon does.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, Failure};

/// Listens from the moment it is made, so that nothing between build and start is missed.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal tells the command to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// To stop; the signal's name.
    Stop(&'static str),
    /// To read the configuration again.
    Reload,
}

impl Signals {
    /// Starts listening; from now on none of these ends the process by itself.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn listen() -> Result<Self, Failure> {
        let hear =
            |kind| signal(kind).map_err(|error| Failure::new(Exit::Software, format_args!("cannot listen for signals: {error}")));
        Ok(Self {
            terminate: hear(SignalKind::terminate())?,
            interrupt: hear(SignalKind::interrupt())?,
            hangup: hear(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal.
    pub async fn next(&mut self) -> Order {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => Order::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Order::Stop("SIGINT"),
            _ = self.hangup.recv() => Order::Reload,
        }
    }

    /// Waits until somebody asks to stop, and gives the signal's name. A second call waits for the next time.
    pub async fn stop(&mut self) -> &'static str {
        loop {
            match self.next().await {
                Order::Stop(signal) => return signal,
                Order::Reload => tracing::info!("SIGHUP ignored: there is nothing to reload"),
            }
        }
    }
}
