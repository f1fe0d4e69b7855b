//! One round's world: the process under test with its state, a simulated gateway, and the proxies through which it sees the others.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;

use campaignd::engine::CampaignState;
use campaignd::gateway::simulator::{DEFAULT_KEY, Key, Options, Running, Simulator};
use campaignd::pacer::Limits;
use regex::Regex;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::daemon::Daemon;
use crate::disk::SmallDisk;
use crate::plan::{Fault, Plan};
use crate::process::free_port;
use crate::proxy::Proxy;
use crate::support::{RabbitNode, User};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// How long a share of the messages is waited for; disturbed campaigns may not get there.
const MOMENT: Duration = Duration::from_secs(6);
/// Longer than any round takes that goes on by itself.
const WHOLE: Duration = Duration::from_secs(150);
/// A virtual host's own queues are safe from a kill of the node after that: see `RabbitNode::kill9`.
const CRASH_SAFE: Duration = Duration::from_secs(3);
/// Between the end of a process by itself and its next start.
const START_AGAIN: Duration = Duration::from_millis(300);
const HEARTBEAT: &str = "1s";
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// What happened, counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    /// kill -9 of the process under test.
    pub(crate) kills: u64,
    /// kill -9 of RabbitMQ.
    pub(crate) broker_kills: u64,
    /// kill -9 of `enqueue`.
    pub(crate) enqueue_kills: u64,
    /// Faults, these and all others.
    pub(crate) strikes: u64,
    /// Disturbances after which requests under way may have an outcome that nobody knows.
    pub(crate) unknowing: u64,
    /// It ended by itself, for want of disk, and was started again.
    pub(crate) ended: u64,
}

impl Tally {
    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            kills: self.kills + other.kills,
            broker_kills: self.broker_kills + other.broker_kills,
            enqueue_kills: self.enqueue_kills + other.enqueue_kills,
            strikes: self.strikes + other.strikes,
            unknowing: self.unknowing + other.unknowing,
            ended: self.ended + other.ended,
        }
    }
}

/// Where jobs wait.
pub(crate) struct Rabbit {
    pub(crate) node: &'static RabbitNode,
    pub(crate) proxy: Proxy,
    vhost: String,
}

impl Rabbit {
    /// The address at which `user` finds it, by way of the proxy.
    pub(crate) fn uri(&self, user: User) -> String {
        self.node.uri_at(self.proxy.port(), &self.vhost, user)
    }

    /// Asks the management API about something of this virtual host; null when there is no proper answer.
    pub(crate) fn management(&self, method: &str, kind: &str, name: &str, body: &str) -> serde_json::Value {
        let (_, answer) = self.node.http(method, &format!("/api/{kind}/{}/{name}", self.vhost), body);
        serde_json::from_str(&answer).unwrap_or_default()
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.node.drop_vhost(&self.vhost);
        }
    }
}

pub(crate) struct World {
    pub(crate) daemon: Daemon, // the first to go
    pub(crate) simulator: Running,
    pub(crate) tally: Tally,
    pub(crate) dir: TempDir,
    pub(crate) left_out: Option<String>,
    pub(crate) gateway: Proxy,
    pub(crate) rabbit: Option<Rabbit>,
    pub(crate) disk: Option<SmallDisk>,
    /// `send` has done its work and ended.
    pub(crate) done: bool,
    /// It has been asked to end.
    pub(crate) asked: bool,
    /// It may end for want of disk.
    pub(crate) full_until: Option<Instant>,
    /// Those that have anybody.
    pub(crate) campaigns: Vec<&'static str>,
    sending: bool,
    expected: u64,
    began: Instant,
}

impl World {
    /// The daemon on this node, or `send` on the embedded broker; not started yet.
    pub(crate) async fn new(plan: &Plan, node: Option<&'static RabbitNode>) -> Self {
        drop(rustls::crypto::ring::default_provider().install_default()); // the first to come installs it
        let limits = Limits { second: None, minute: None };
        let keys = vec![Key { limits, ..Key::new(DEFAULT_KEY) }];
        let options = Options { keys, latency: plan.latency, jitter: plan.latency / 2, seed: plan.seed, ..Options::default() };
        let simulator = Simulator::start_local(options).await.unwrap();
        let gateway = Proxy::start(simulator.addr().port()).await;
        let dir = tempfile::Builder::new().prefix(&format!("campaignd-chaos-{}-", plan.seed)).tempdir().unwrap();
        let at = dir.path().join("disk");
        fs::create_dir(&at).unwrap();
        let (disk, left_out) = match plan.has(Fault::DiskFull).then(|| SmallDisk::mount(&at)) {
            Some(Ok(disk)) => (Some(disk), None),
            Some(Err(why)) => (None, Some(format!("disk-full left out: {why}"))),
            None => (None, None),
        };
        let rabbit = match node {
            Some(node) => Some(Rabbit { node, vhost: node.vhost(), proxy: Proxy::start(node.port()).await }),
            None => None,
        };
        if plan.has(Fault::BrokerKill) {
            sleep(CRASH_SAFE).await;
        }
        let admin = format!("127.0.0.1:{}", free_port());
        let daemon = Daemon::new(dir.path(), &admin);
        let expected = (plan.park.len() + plan.resend.len()) as u64;
        let campaigns = [("park", &plan.park), ("resend", &plan.resend)];
        let campaigns = campaigns.iter().filter(|(_, people)| !people.is_empty()).map(|(name, _)| *name).collect();
        let tally = Tally::default();
        let world = Self {
            daemon,
            simulator,
            tally,
            dir,
            left_out,
            gateway,
            rabbit,
            disk,
            done: false,
            asked: false,
            full_until: None,
            campaigns,
            sending: node.is_none(),
            expected,
            began: Instant::now(),
        };
        world.configure(plan, &admin);
        world
    }

    fn configure(&self, plan: &Plan, admin: &str) {
        let file = |name: &str, text: &str| fs::write(self.dir.path().join(name), text).unwrap();
        let mut text = format!(
            "[gateway]\nbase-url = \"http://127.0.0.1:{}\"\nrequest-timeout = \"2s\"\nrate = \"{}/s\"\nmax-in-flight = {}\n\
             [state]\ndir = \"{}\"\n[engine]\ndrain-timeout = \"3s\"\n[policy]\nfile = \"policy.toml\"\n\
             [admin]\nlisten = \"{admin}\"\n[log]\nformat = \"text\"\nlevel = \"info\"\n[accounts.main]\nkey-file = \"main.key\"\n",
            self.gateway.port(),
            plan.rate,
            plan.in_flight,
            self.state().display(),
        );
        match &self.rabbit {
            Some(rabbit) => {
                let _ = write!(text, "[broker]\nuri-file = \"broker-uri\"\nheartbeat = \"{HEARTBEAT}\"\n");
                file("broker-uri", &rabbit.uri(User::Daemon));
            }
            None => text.push_str("[broker]\nkind = \"embedded\"\n"),
        }
        file("campaignd.toml", &text);
        file("main.key", DEFAULT_KEY);
        file("message.json", r#"{"type": "text", "text": {"body": "Hi"}}"#);
        // Minutes and hours of waiting become a second; nothing else about the rules changes.
        let lengths = Regex::new(r#""\d+[smh]""#).unwrap();
        file("policy.toml", &lengths.replace_all(include_str!("../../config/policy.toml"), r#""1s""#));
        for (name, people) in [("park", &plan.park), ("resend", &plan.resend)] {
            file(&format!("{name}.csv"), &people.iter().fold("to\n".to_owned(), |text, number| format!("{text}{number}\n")));
        }
    }

    /// Leaves the directory with the logs where it is, and says where.
    pub(crate) fn keep(&mut self) {
        self.dir.disable_cleanup(true);
        println!("configuration, logs and story of the round: {}", self.dir.path().display());
    }

    /// Writes down what is done to it, for whoever looks into a round that failed.
    pub(crate) fn note(&self, what: &str) {
        let mut story = fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("story")).unwrap();
        let accepted = self.simulator.controls().read_books(|books| books.accepted);
        writeln!(story, "{:6.2} s, {accepted} accepted: {what}", self.began.elapsed().as_secs_f32()).unwrap();
    }

    /// Where the state is.
    pub(crate) fn state(&self) -> PathBuf {
        self.disk.as_ref().map_or_else(|| self.dir.path().to_owned(), |disk| disk.path().to_owned()).join("state")
    }

    /// The broker's address for a producer.
    pub(crate) fn producer_uri(&self) -> String {
        self.rabbit.as_ref().unwrap().uri(User::Producer)
    }

    /// Databases that would not open and were moved aside.
    pub(crate) fn moved_aside(&self) -> u64 {
        let entries = fs::read_dir(self.state()).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().contains(".damaged-")).count() as u64
    }

    /// Starts it again if it has ended: as it was asked to, or for want of disk, or because `send` is paused.
    pub(crate) async fn look_after(&mut self) {
        let Some(status) = self.daemon.ended() else { return };
        if self.sending && status.code() == Some(0) {
            self.done = true;
            return;
        }
        let fine = match status.code() {
            Some(0 | 130) => self.asked,
            Some(70 | 73 | 74) => self.full_until.is_some_and(|end| Instant::now() < end),
            Some(75) => self.sending,
            // asked before it listened
            None => self.asked && matches!(status.signal(), Some(SIGINT | SIGTERM)),
            Some(_) => false,
        };
        assert!(fine, "it ended by itself with {status}; its log:\n{}", self.daemon.log());
        self.note(&format!("it has ended with {status}, and is started"));
        if !self.asked {
            self.tally.ended += 1;
            sleep(START_AGAIN).await;
        }
        self.asked = false;
        self.daemon.start();
    }

    /// Does as a person would: whatever is paused is resumed.
    pub(crate) async fn resume_all(&self) {
        if self.daemon.account("main").await.is_some_and(|account| account.pause.is_some()) {
            self.daemon.try_post("accounts/main/resume", "{}").await;
        }
        for name in &self.campaigns {
            if self.daemon.campaign(name).await.is_some_and(|view| view.pause.is_some()) {
                self.daemon.try_post(&format!("campaigns/{name}/resume"), "{}").await;
            }
        }
    }

    /// Waits while looking after it.
    pub(crate) async fn wait(&mut self, length: Duration) {
        let end = Instant::now() + length;
        while Instant::now() < end {
            self.look_after().await;
            sleep(LOOK.min(end.saturating_duration_since(Instant::now()))).await;
        }
    }

    /// Waits until it is so, but not for ever; whether it is.
    pub(crate) async fn wait_for(&mut self, limit: Duration, mut so: impl AsyncFnMut(&Self) -> bool) -> bool {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if so(self).await || self.done {
                return true;
            }
            self.wait(LOOK).await;
        }
        false
    }

    /// Waits until this share of the messages is accepted.
    pub(crate) async fn reach(&mut self, share: u64) {
        let goal = (self.expected * share / 100).min(self.expected * 24 / 25 - 8);
        self.wait_for(MOMENT, async |world| world.simulator.controls().read_books(|books| books.accepted) >= goal).await;
    }

    /// Waits until all is over: `send` has ended, or the daemon's campaigns are finished.
    pub(crate) async fn finish(&mut self) {
        let mut round = 0;
        let over = self
            .wait_for(WHOLE, async |world| {
                round += 1;
                if round % 16 == 0 && !world.sending {
                    world.resume_all().await;
                }
                for id in &world.campaigns {
                    if world.sending || world.daemon.campaign(id).await.is_none_or(|view| view.state != CampaignState::Finished) {
                        return false;
                    }
                }
                true
            })
            .await;
        if !over {
            let campaigns: Option<serde_json::Value> = self.daemon.get("campaigns").await;
            panic!("it does not finish: {campaigns:#?}\nlog:\n{}", self.daemon.log());
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep();
        }
    }
}
