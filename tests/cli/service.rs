//! The daemon as systemd runs it: ready, watchdog, stop, signals, and what it says when it cannot start.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{Process, Simulator, campaignd, free_port, get, until};

/// A daemon's surroundings: directory, configuration, and the socket systemd would listen on.
struct Place {
    dir: tempfile::TempDir,
    config: PathBuf,
    admin: SocketAddr,
    notify: UnixDatagram,
}

impl Place {
    fn new(base_url: &str, broker: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        let admin: SocketAddr = format!("127.0.0.1:{}", free_port()).parse().unwrap();
        std::fs::write(at.join("key"), "sk_test\n").unwrap();
        let text = format!(
            "[broker]\n{broker}\n[gateway]\nbase-url = {base_url:?}\n[accounts.main]\nkey-file = \"key\"\nrate = \"unlimited\"\n\
             [state]\ndir = \"state\"\n[admin]\nlisten = \"{admin}\"\n{more}"
        );
        let config = at.join("campaignd.toml");
        std::fs::write(&config, text).unwrap();
        let notify = UnixDatagram::bind(at.join("notify")).unwrap();
        notify.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { dir, config, admin, notify }
    }

    fn embedded(base_url: &str, more: &str) -> Self {
        Self::new(base_url, "kind = \"embedded\"", more)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn run(&self) -> Process {
        let mut command = self.command("run");
        command.env("NOTIFY_SOCKET", self.path().join("notify")).env("WATCHDOG_USEC", "900000").env("CAMPAIGND_LOG", "debug");
        Process::start(&mut command, self.path())
    }

    fn command(&self, name: &str) -> Command {
        let mut command = campaignd();
        command.arg(name).arg("--config").arg(&self.config);
        command
    }

    /// Reads what systemd is told until a line begins with `sign`; gives all lines so far.
    fn told(&self, sign: &str) -> Vec<String> {
        let mut all = Vec::new();
        let mut buffer = [0; 4096];
        while !all.iter().any(|line: &String| line.starts_with(sign)) {
            let length = self.notify.recv(&mut buffer).unwrap_or_else(|error| panic!("no {sign}: {error}; {all:?}"));
            all.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
        }
        all
    }

    /// Enqueues a campaign for these recipients.
    fn enqueue(&self, recipients: &[u64]) {
        let lines: String = recipients.iter().map(|to| format!("{to}\n")).collect();
        std::fs::write(self.path().join("to.csv"), format!("to\n{lines}")).unwrap();
        std::fs::write(self.path().join("message.json"), r#"{"type":"text","text":{"body":"hi"}}"#).unwrap();
        let mut command = self.command("enqueue");
        command.args(["--campaign", "spring"]).arg("--recipients").arg(self.path().join("to.csv"));
        let output = command.arg("--message").arg(self.path().join("message.json")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Waits until the campaign's counts say so.
    fn counts(&self, what: &str, number: u64) {
        until(&format!("{number} {what}"), || {
            let answer = get(self.admin, "/v1/campaigns/spring")?;
            let body = answer.split_once("\r\n\r\n")?.1.to_owned();
            let view: serde_json::Value = serde_json::from_str(&body).ok()?;
            (view[what] == number).then_some(())
        });
    }
}

#[test]
fn it_tells_systemd_when_it_is_ready_alive_reloading_and_stopping() {
    let place = Place::embedded("http://127.0.0.1:1", "");
    let mut daemon = place.run();
    let before = place.told("READY=1");
    assert!(!before.iter().any(|line| line.starts_with("STOPPING")), "{before:?}");
    for _ in 0..3 {
        place.told("WATCHDOG=1");
    }
    assert!(get(place.admin, "/healthz").unwrap().starts_with("HTTP/1.1 200"));
    daemon.signal("HUP");
    let reloading = place.told("RELOADING=1");
    assert!(reloading.iter().any(|line| line.starts_with("MONOTONIC_USEC=")), "{reloading:?}");
    place.told("READY=1");
    daemon.logs("reloaded");
    daemon.signal("TERM");
    let stopping = place.told("STOPPING=1");
    assert!(stopping.iter().any(|line| line.starts_with("EXTEND_TIMEOUT_USEC=")), "{stopping:?}");
    assert_eq!(daemon.ended().code(), Some(0));
    daemon.logs("stopped, everything settled");
}

#[test]
fn while_the_broker_is_away_it_waits_says_so_and_can_be_stopped() {
    let broker = format!("uri = \"amqp://u:hunter2@127.0.0.1:{}/v\"", free_port());
    let place = Place::new("http://127.0.0.1:1", &broker, "");
    let mut daemon = place.run();
    let said = place.told("STATUS=waiting for the broker");
    assert!(!said.iter().any(|line| line == "READY=1" || line.contains("hunter2")), "{said:?}");
    place.told("EXTEND_TIMEOUT_USEC=");
    place.told("WATCHDOG=1");
    daemon.signal("INT");
    assert_eq!(daemon.ended().code(), Some(0));
    assert!(!daemon.log().contains("hunter2"));
}

#[test]
fn a_drain_finishes_what_is_in_flight() {
    let here = tempfile::tempdir().unwrap();
    let simulator = Simulator::start(here.path(), &["--latency", "1500ms", "--rate", "unlimited"]);
    let place = Place::embedded(&simulator.base_url, "");
    let mut daemon = place.run();
    place.told("READY=1");
    place.enqueue(&[905_321_234_567, 905_321_234_568]);
    place.counts("in_flight", 2);
    daemon.signal("TERM");
    assert_eq!(daemon.ended().code(), Some(0));
    let mut daemon = place.run();
    place.counts("sent", 2);
    daemon.signal("TERM");
    assert_eq!(daemon.ended().code(), Some(0));
}

/// Takes a request, as a gateway would that never answers it.
fn taken(gateway: &TcpListener) -> TcpStream {
    gateway.set_nonblocking(true).unwrap();
    let mut socket = until("a request reaches the gateway", || gateway.accept().ok()).0;
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_ne!(std::io::Read::read(&mut socket, &mut [0; 4096]).unwrap(), 0);
    socket
}

#[test]
fn the_drain_limit_and_a_second_signal_end_it_and_lose_nothing() {
    let gateway = TcpListener::bind("127.0.0.1:0").unwrap();
    let base_url = format!("http://{}", gateway.local_addr().unwrap());
    let place = Place::embedded(&base_url, "[engine]\ndrain-timeout = \"1h\"\n");
    let mut daemon = place.run();
    place.told("READY=1");
    // From here on nobody reads what systemd is told; that must hold nothing up.
    daemon.logs("systemd does not listen");
    place.enqueue(&[905_321_234_567]);
    let _silent = taken(&gateway);
    daemon.signal("TERM");
    daemon.logs("stopping: finishing what is in flight");
    daemon.signal("TERM");
    assert_eq!(daemon.ended().code(), Some(130));
    daemon.logs("stopped at once");

    let text = std::fs::read_to_string(&place.config).unwrap();
    std::fs::write(&place.config, text.replace("\"1h\"", "\"1s\"")).unwrap();
    let mut daemon = place.run();
    // It was sent or not, nobody knows: a person decides.
    place.counts("dead", 1);
    place.enqueue(&[905_321_234_568]);
    let _silent = taken(&gateway);
    daemon.signal("TERM");
    assert_eq!(daemon.ended().code(), Some(130));
    daemon.logs("stopped at the drain limit");
}

#[test]
fn a_damaged_ledger_is_moved_aside_and_a_person_is_told() {
    let hook = TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!("[alerts]\nwebhook-url = \"http://{}/hook\"\n", hook.local_addr().unwrap());
    let place = Place::embedded("http://127.0.0.1:1", &more);
    // A database that somebody else wrote: it opens, and nothing in it makes sense.
    let database = sled::open(place.path().join("state/ledger")).unwrap();
    database.insert(b"nonsense", b"nonsense").unwrap();
    database.flush().unwrap();
    drop(database);
    let mut daemon = place.run();
    place.told("READY=1");
    daemon.logs("moved aside");
    let (mut socket, _) = hook.accept().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&request).contains("\"swallowed\":") {
        let length = std::io::Read::read(&mut socket, &mut buffer).unwrap();
        assert_ne!(length, 0, "{}", String::from_utf8_lossy(&request));
        request.extend_from_slice(&buffer[..length]);
    }
    let request = String::from_utf8(request).unwrap();
    assert!(request.contains("state-damaged") && request.contains("\"critical\""), "{request}");
    drop(socket);
    daemon.signal("TERM");
    assert!(daemon.ended().success());
}

#[test]
fn a_second_daemon_says_why_it_does_not_start() {
    let place = Place::embedded("http://127.0.0.1:1", "");
    let first = place.run();
    place.told("READY=1");
    let mut second = Process::start(&mut place.command("run"), place.path());
    assert_eq!(second.ended().code(), Some(73));
    second.logs(&format!("in use by another campaignd (process {})", first.pid()));
    let text = std::fs::read_to_string(&place.config).unwrap();
    let elsewhere = place.path().join("second.toml");
    std::fs::write(&elsewhere, text.replace("dir = \"state\"", "dir = \"other-state\"")).unwrap();
    let mut third = Process::start(campaignd().args(["run", "--config"]).arg(&elsewhere), place.path());
    assert_eq!(third.ended().code(), Some(69));
    third.logs("is another campaignd running?");
}
