//! The binary as a child process that is gone with its owner, and waiting with a deadline instead of sleeping.

#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "included by several test programs, each with its own part of it in use; a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

/// Longest wait for anything. Machines that run tests are slow at times.
const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(20);

/// `campaignd` without what the machine around it may have configured.
pub(crate) fn campaignd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_campaignd"));
    for name in ["CAMPAIGND_CONFIG", "CAMPAIGND_LOG", "CAMPAIGND_BROKER_URI", "NOTIFY_SOCKET", "WATCHDOG_USEC", "JOURNAL_STREAM"]
    {
        command.env_remove(name);
    }
    command
}

/// Waits until `look` finds something.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within_patience(look).unwrap_or_else(|| panic!("waited in vain for {what}"))
}

fn within_patience<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
        if let Some(found) = look() {
            return Some(found);
        }
        sleep(STEP);
    }
    None
}

/// A port nobody listens on, below the range from which the system takes ports for outgoing connections.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let numbers = std::iter::repeat_with(|| std::process::id().wrapping_mul(97) + NEXT.fetch_add(1, Ordering::Relaxed));
    let mut ports = numbers.take(10_000).map(|number| u16::try_from(22_000 + number % 10_000).unwrap());
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}

/// A child process; killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it with its standard error in `dir`.
    pub(crate) fn start(command: &mut Command, dir: &Path) -> Self {
        let log = dir.join(format!("{}.log", free_port()));
        let file = std::fs::File::create(&log).unwrap();
        let child = command.stdin(Stdio::null()).stderr(file).spawn().unwrap();
        Self { child, log }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has logged `text`.
    pub(crate) fn logs(&self, text: &str) {
        within_patience(|| self.log().contains(text).then_some(()))
            .unwrap_or_else(|| panic!("no {text:?} in the log:\n{}", self.log()));
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, as `kill -NAME` does.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let ended = within_patience(|| self.child.try_wait().unwrap());
        ended.unwrap_or_else(|| panic!("it does not end; its log:\n{}", self.log()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A simulated gateway of its own.
pub(crate) struct Simulator {
    _process: Process,
    /// Its address, as `[gateway] base-url` wants it.
    pub(crate) base_url: String,
}

impl Simulator {
    /// Starts one with these further options, and the API key `sk_test`.
    pub(crate) fn start(dir: &Path, options: &[&str]) -> Self {
        let mut command = campaignd();
        command.args(["simulate", "--listen", "127.0.0.1:0", "--key", "sk_test"]).args(options).stdout(Stdio::piped());
        let mut process = Process::start(&mut command, dir);
        let mut line = String::new();
        let mut out = BufReader::new(process.child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let base_url = line.split_whitespace().find(|word| word.starts_with("http://")).expect(&line).to_owned();
        // Its last words must find a reader.
        process.child.stdout = Some(out.into_inner());
        Self { _process: process, base_url }
    }
}

/// A GET to `path`; the whole answer, none while nobody listens.
pub(crate) fn get(address: SocketAddr, path: &str) -> Option<String> {
    use std::io::Write;
    let mut socket = std::net::TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    Some(answer)
}
