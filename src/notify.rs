//! Tells systemd how it stands: ready, status, watchdog, stopping. Fed by the engine's own progress; without systemd it does nothing.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::engine::Pulse;

/// How often progress is looked at when the unit has no watchdog.
const DEFAULT_TICK: Duration = Duration::from_secs(10);

/// A start or stop that makes progress gets this much more time at each tick; several ticks long, so that one may come late.
const EXTENSION: Duration = Duration::from_secs(60);

/// Follows the engine until it is gone. Never fails: a daemon that cannot reach systemd still sends.
pub async fn follow(mut pulses: watch::Receiver<Pulse>) {
    let watchdog = sd_notify::watchdog_enabled();
    // systemd wants a sign well within its limit (sd_watchdog_enabled(3): half of it).
    let mut ticks = interval(watchdog.map_or(DEFAULT_TICK, |limit| limit / 3).max(Duration::from_millis(100)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let line = Line::open();
    let mut voice = Voice::default();
    loop {
        let changed = tokio::select! {
            biased;
            changed = pulses.changed() => changed,
            _ = ticks.tick() => {
                let pulse = pulses.borrow().clone();
                line.say(&mut voice, |voice| voice.tick(&pulse));
                continue;
            }
        };
        if changed.is_err() {
            return;
        }
        let pulse = pulses.borrow_and_update().clone();
        line.say(&mut voice, |voice| voice.hear(&pulse));
    }
}

/// Says that the daemon stops, and that it may take `limit`.
pub fn stopping(limit: Duration) {
    let time = limit + EXTENSION;
    let mut says = vec![Say::Stopping, Say::More(time), Say::Status("stopping: finishing what is in flight".into())];
    // The stop has a limit of its own, and the engine has nothing left that would beat.
    says.extend(sd_notify::watchdog_enabled().map(|_| Say::WatchdogLimit(time)));
    Line::open().say(&mut Voice::default(), |_| says);
}

/// Says that the configuration is being read again.
pub fn reloading() {
    // systemd takes the word only with the time it was said, so that it knows which reload is meant.
    let Ok(NotifyState::MonotonicUsec(since)) = NotifyState::monotonic_usec_now() else { return };
    Line::open().say(&mut Voice::default(), |_| vec![Say::Reloading, Say::Since(since)]);
}

/// Says that the daemon goes on after that.
pub fn reloaded() {
    Line::open().say(&mut Voice::default(), |_| vec![Say::Ready]);
}

/// What systemd can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Say {
    Ready,
    Reloading,
    Since(i128),
    Status(String),
    Watchdog,
    WatchdogLimit(Duration),
    More(Duration),
    Stopping,
}

/// What was said, so that nothing is said twice and the watchdog is fed only by progress.
#[derive(Debug, Default)]
struct Voice {
    ready: bool,
    status: String,
    beat: Option<u64>,
}

impl Voice {
    fn hear(&mut self, pulse: &Pulse) -> Vec<Say> {
        let mut says = Vec::new();
        if pulse.ready && !self.ready {
            self.ready = true;
            says.push(Say::Ready);
        }
        if pulse.status != self.status {
            self.status.clone_from(&pulse.status);
            says.push(Say::Status(pulse.status.clone()));
        }
        says
    }

    fn tick(&mut self, pulse: &Pulse) -> Vec<Say> {
        let mut says = self.hear(pulse);
        if self.beat.replace(pulse.beat) != Some(pulse.beat) {
            says.push(Say::Watchdog);
            if !self.ready {
                says.push(Say::More(EXTENSION));
            }
        }
        says
    }
}

/// The socket to systemd, if there is one. Never waits: sd-notify's own call would, for as long as systemd reads nothing.
struct Line(Option<UnixDatagram>);

impl Line {
    fn open() -> Self {
        let path = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty());
        let opened = path.map(|path| connect(path.as_bytes())).transpose();
        Self(opened.unwrap_or_else(|error| {
            tracing::warn!(%error, "systemd cannot be told how it stands: $NOTIFY_SOCKET does not open");
            None
        }))
    }

    /// Says what `choose` chooses. What does not get through is chosen again next time: the voice forgets what it said.
    fn say(&self, voice: &mut Voice, choose: impl FnOnce(&mut Voice) -> Vec<Say>) {
        let says = choose(voice);
        let Some(socket) = self.0.as_ref().filter(|_| !says.is_empty()) else { return };
        let text: String = says.iter().map(|say| format!("{}\n", say.state())).collect();
        if let Err(error) = socket.send(text.as_bytes()) {
            tracing::debug!(%error, "systemd does not listen; saying it again later");
            *voice = Voice::default();
        }
    }
}

/// `sd_notify(3)`: a path, or `@` and the name of an abstract socket.
fn connect(path: &[u8]) -> io::Result<UnixDatagram> {
    let address = match path.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

impl Say {
    fn state(&self) -> NotifyState<'_> {
        match self {
            Self::Ready => NotifyState::Ready,
            Self::Reloading => NotifyState::Reloading,
            Self::Since(time) => NotifyState::MonotonicUsec(*time),
            Self::Status(text) => NotifyState::Status(text.lines().next().unwrap_or_default()),
            Self::Watchdog => NotifyState::Watchdog,
            Self::WatchdogLimit(time) => NotifyState::WatchdogUsec(micros(*time)),
            Self::More(time) => NotifyState::ExtendTimeoutUsec(micros(*time)),
            Self::Stopping => NotifyState::Stopping,
        }
    }
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse(ready: bool, status: &str, beat: u64) -> Pulse {
        Pulse { ready, status: status.into(), beat }
    }

    #[test]
    fn ready_and_status_are_said_once() {
        let mut voice = Voice::default();
        assert_eq!(voice.hear(&pulse(false, "waiting for the broker", 1)), [Say::Status("waiting for the broker".into())]);
        assert_eq!(voice.hear(&pulse(false, "waiting for the broker", 2)), []);
        assert_eq!(voice.hear(&pulse(true, "sending", 3)), [Say::Ready, Say::Status("sending".into())]);
        assert_eq!(voice.hear(&pulse(true, "sending", 4)), []);
        assert_eq!(voice.hear(&pulse(false, "waiting for the broker", 5)), [Say::Status("waiting for the broker".into())]);
        assert_eq!(voice.hear(&pulse(true, "waiting for the broker", 6)), []);
    }

    #[test]
    fn only_progress_feeds_the_watchdog() {
        let mut voice = Voice::default();
        assert_eq!(voice.tick(&pulse(false, "", 0)), [Say::Watchdog, Say::More(EXTENSION)]);
        assert_eq!(voice.tick(&pulse(false, "", 0)), []);
        assert_eq!(voice.tick(&pulse(true, "", 1)), [Say::Ready, Say::Watchdog]);
        assert_eq!(voice.tick(&pulse(true, "", 1)), []);
        assert_eq!(voice.tick(&pulse(true, "", 9)), [Say::Watchdog]);
    }

    #[test]
    fn a_status_is_one_line() {
        let status = Say::Status("one\nMAINPID=1".into());
        assert_eq!(status.state().to_string(), "STATUS=one");
    }

    #[test]
    fn a_systemd_that_reads_nothing_is_not_waited_for_and_hears_it_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let systemd = UnixDatagram::bind(&path).unwrap();
        let line = Line(Some(connect(path.as_os_str().as_bytes()).unwrap()));
        let mut full = Voice::default();
        for beat in 0..10_000 {
            line.say(&mut full, |voice| voice.tick(&pulse(true, "", beat)));
        }
        let mut voice = Voice::default();
        line.say(&mut voice, |voice| voice.hear(&pulse(true, "sending", 1)));
        systemd.set_nonblocking(true).unwrap();
        while systemd.recv(&mut [0; 100]).is_ok() {}
        line.say(&mut voice, |voice| voice.hear(&pulse(true, "sending", 1)));
        let mut heard = [0; 100];
        let length = systemd.recv(&mut heard).unwrap();
        assert_eq!(heard[..length], *b"READY=1\nSTATUS=sending\n");
    }

    #[test]
    fn an_abstract_socket_has_a_name_with_an_at() {
        let name = format!("campaignd-test-{}", std::process::id());
        let systemd = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let line = Line(Some(connect(format!("@{name}").as_bytes()).unwrap()));
        line.say(&mut Voice::default(), |_| vec![Say::Stopping]);
        let mut heard = [0; 100];
        assert_eq!(systemd.recv(&mut heard).unwrap(), "STOPPING=1\n".len());
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_the_engine() {
        let (sender, pulses) = watch::channel(pulse(true, "sending", 1));
        drop(sender);
        follow(pulses).await;
    }
}
