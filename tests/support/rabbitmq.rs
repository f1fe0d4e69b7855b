//! A private RabbitMQ node for one test program: free ports, own data, cookie and epmd, gone with the program.
//!
//! Tests share [`RabbitNode::shared`] and take a virtual host each; a test that stops or starves its node starts its own.
//! All calls block; a node takes about five seconds to start.
#![allow(
    clippy::allow_attributes,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    dead_code,
    unreachable_pub,
    reason = "included by several test programs, each with its own part of it in use; a test fails by panicking"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::Instant;

static IMPORTS: Mutex<()> = Mutex::new(());

const BIN: &str = "/usr/lib/rabbitmq/bin";
const SUPPORT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support");
const DEFINITIONS: &str = include_str!("../../deploy/rabbitmq/definitions.json");
/// Long, because several test programs may start nodes on few cores.
const START_LIMIT: Duration = Duration::from_secs(90);

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// The daemon's user of `deploy/rabbitmq/definitions.json`.
    Daemon,
    /// The producers' user of `deploy/rabbitmq/definitions.json`.
    Producer,
    /// May do anything; for looking at what the others did.
    Admin,
}

impl User {
    fn name(self) -> &'static str {
        match self {
            Self::Daemon => "campaignd",
            Self::Producer => "campaignd-producer",
            Self::Admin => "fixture",
        }
    }

    fn password(self) -> &'static str {
        match self {
            Self::Daemon => "daemon-secret",
            Self::Producer => "producer-secret",
            Self::Admin => "fixture-secret",
        }
    }
}

/// A running node.
pub struct RabbitNode {
    dir: PathBuf,
    ports: Ports,
    keeper: Mutex<Keeper>,
    vhosts: AtomicU32,
}

struct Keeper {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    amqp: u16,
    distribution: u16,
    epmd: u16,
    management: u16,
}

impl RabbitNode {
    /// The node that the tests of this program share. Never stop it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<RabbitNode> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a node of one's own.
    pub fn start() -> Self {
        install();
        let mut why = String::new();
        for _ in 0..3 {
            match Self::try_start() {
                Ok(node) => return node,
                Err(reason) => why = reason, // another program may have been faster on one of the ports
            }
        }
        panic!("RabbitMQ does not start: {why}");
    }

    fn try_start() -> Result<Self, String> {
        static NODES: AtomicU32 = AtomicU32::new(0);
        let number = NODES.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("campaignd-rabbitmq-{}-{number}", std::process::id()));
        let ports = Ports { amqp: free_port(), distribution: free_port(), epmd: free_port(), management: free_port() };
        write_files(&dir, ports);
        let mut child = keeper(&dir, ports).spawn().map_err(|e| format!("tests/support/rabbit-keeper.sh: {e}"))?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().ok_or("no output of the keeper")?);
        let keeper = Mutex::new(Keeper { child, orders, answers });
        let node = Self { dir, ports, keeper, vhosts: AtomicU32::new(0) };
        node.order("start");
        node.wait_ready()?;
        Ok(node)
    }

    /// Makes a virtual host with everything from `deploy/rabbitmq/definitions.json` and returns its name.
    pub fn vhost(&self) -> String {
        let vhost = format!("test-{}", self.vhosts.fetch_add(1, Ordering::Relaxed));
        self.import(&vhost, DEFINITIONS);
        vhost
    }

    /// Makes a virtual host with the users and permissions only: the daemon has to declare the rest.
    pub fn bare_vhost(&self) -> String {
        let vhost = format!("bare-{}", self.vhosts.fetch_add(1, Ordering::Relaxed));
        let mut all: serde_json::Value = serde_json::from_str(DEFINITIONS).unwrap();
        let object = all.as_object_mut().unwrap();
        object.retain(|key, _| matches!(key.as_str(), "users" | "vhosts" | "permissions"));
        self.import(&vhost, &all.to_string());
        vhost
    }

    /// Deletes a virtual host and all that is in it.
    pub fn drop_vhost(&self, vhost: &str) {
        self.http("DELETE", &format!("/api/vhosts/{vhost}"), "");
    }

    fn import(&self, vhost: &str, definitions: &str) {
        let mut all: serde_json::Value = serde_json::from_str(definitions).unwrap();
        for list in all.as_object_mut().unwrap().values_mut() {
            for entry in list.as_array_mut().unwrap() {
                if entry.get("vhost").is_some() {
                    entry["vhost"] = vhost.into();
                }
            }
        }
        all["vhosts"] = serde_json::json!([{ "name": vhost }]);
        let admin =
            serde_json::json!({ "user": User::Admin.name(), "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*" });
        all["permissions"].as_array_mut().unwrap().push(admin);
        let body = all
            .to_string()
            .replace("@DAEMON_PASSWORD_HASH@", &password_hash(User::Daemon.password()))
            .replace("@PRODUCER_PASSWORD_HASH@", &password_hash(User::Producer.password()));
        // Two imports at the same time may both want to create the users.
        let _alone = IMPORTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (status, answer) = self.http("POST", "/api/definitions", &body);
        assert!(status.contains(" 20"), "importing definitions: {status} {answer}");
    }

    /// The URI by which `user` enters `vhost`.
    pub fn uri(&self, vhost: &str, user: User) -> String {
        format!("amqp://{}:{}@127.0.0.1:{}/{vhost}", user.name(), user.password(), self.ports.amqp)
    }

    /// The same through another port, for a proxy.
    pub fn uri_at(&self, port: u16, vhost: &str, user: User) -> String {
        format!("amqp://{}:{}@127.0.0.1:{port}/{vhost}", user.name(), user.password())
    }

    /// The AMQP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.ports.amqp
    }

    /// Kills the node with SIGKILL. Not within two seconds of declaring a queue (see `Broker::prepare`).
    pub fn kill9(&self) {
        self.order("kill");
    }

    /// Stops the node in an orderly way.
    pub fn stop(&self) {
        self.order("stop");
    }

    /// Starts a stopped or killed node on its old data, and waits until it takes connections.
    pub fn boot(&self) {
        self.order("start");
        self.wait_ready().unwrap();
    }

    /// Stops and starts the node.
    pub fn restart(&self) {
        self.stop();
        self.boot();
    }

    /// Raises or lifts the memory alarm, under which RabbitMQ takes no publishes.
    pub fn memory_alarm(&self, on: bool) {
        self.ctl(&["set_vm_memory_high_watermark", if on { "0.00001" } else { "0.6" }]);
    }

    /// Closes every client connection from the broker's side.
    pub fn close_connections(&self) {
        self.ctl(&["close_all_connections", "test"]);
    }

    /// Runs `rabbitmqctl`; about a second.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let output = environment(Command::new(format!("{BIN}/rabbitmqctl")), &self.dir, self.ports)
            .arg("-q")
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "rabbitmqctl {arguments:?}: {text}");
        text
    }

    fn order(&self, order: &str) {
        let mut keeper = self.keeper.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        writeln!(keeper.orders.as_mut().unwrap(), "{order}").unwrap();
        let mut answer = String::new();
        keeper.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim(), "done", "the keeper of the RabbitMQ node has died");
    }

    fn wait_ready(&self) -> Result<(), String> {
        let end = Instant::now() + START_LIMIT;
        while Instant::now() < end {
            if speaks_amqp(self.ports.amqp) && TcpStream::connect(("127.0.0.1", self.ports.management)).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let log = std::fs::read_to_string(self.dir.join("console.log")).unwrap_or_default();
        Err(format!("not ready after {START_LIMIT:?}: {}", log.get(log.len().saturating_sub(2_000)..).unwrap_or_default()))
    }

    /// One request to the management API.
    pub fn http(&self, method: &str, path: &str, body: &str) -> (String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports.management)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let login = base64(format!("{}:{}", User::Admin.name(), User::Admin.password()).as_bytes());
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic {login}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.lines().next().unwrap_or_default().to_owned();
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        (status, body)
    }
}

impl Drop for RabbitNode {
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        keeper.orders = None; // the keeper sees the end of its input and cleans up
        let _ = keeper.child.wait();
    }
}

/// RabbitMQ's own form of a password: base64(salt + sha256(salt + password)).
fn password_hash(password: &str) -> String {
    let salt = [7, 7, 7, 7];
    let digest = Sha256::new().chain_update(salt).chain_update(password).finalize();
    base64(&[&salt[..], &digest[..]].concat())
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, &b| word << 8 | u32::from(b)) << (8 * (3 - chunk.len()));
        for i in 0..4 {
            let sextet = usize::try_from(word >> (18 - 6 * i) & 63).unwrap();
            text.push(if i <= chunk.len() { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
    text
}

fn speaks_amqp(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    stream.write_all(b"AMQP\0\0\x09\x01").is_ok() && stream.read_exact(&mut [0; 8]).is_ok()
}

/// Below the range from which the system takes ports for outgoing connections.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..10_000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 12_000 + (std::process::id().wrapping_mul(97) + step) % 10_000; // above are those of other processes
        let port = u16::try_from(port).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

fn write_files(dir: &Path, ports: Ports) {
    std::fs::create_dir_all(dir).unwrap();
    let conf = format!(
        "listeners.tcp.1 = 127.0.0.1:{}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {}\n\
         default_user = {}\ndefault_pass = {}\ndefault_user_tags.administrator = true\n\
         log.console = false\nlog.file.level = warning\ndisk_free_limit.absolute = 10MB\n",
        ports.amqp,
        ports.management,
        User::Admin.name(),
        User::Admin.password(),
    );
    std::fs::write(dir.join("rabbitmq.conf"), conf).unwrap();
    std::fs::write(dir.join("enabled_plugins"), "[rabbitmq_management].\n").unwrap();
    std::fs::write(dir.join("advanced.config"), "[].\n").unwrap();
}

fn keeper(dir: &Path, ports: Ports) -> Command {
    let mut command = environment(Command::new("sh"), dir, ports);
    command.arg(format!("{SUPPORT}/rabbit-keeper.sh")).env("KEEPER_DIR", dir);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.process_group(0); // a Ctrl-C meant for the tests must not end it before it has cleaned up
    command
}

fn environment(mut command: Command, dir: &Path, ports: Ports) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RABBITMQ_") || name.to_string_lossy().starts_with("ERL_") {
            command.env_remove(name);
        }
    }
    command
        .env("HOME", dir)
        .env("ERL_EPMD_PORT", ports.epmd.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODENAME", "campaignd-test@localhost")
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", ports.amqp.to_string())
        .env("RABBITMQ_DIST_PORT", ports.distribution.to_string())
        .env("RABBITMQ_MNESIA_BASE", dir.join("data"))
        .env("RABBITMQ_MNESIA_DIR", dir.join("data/node"))
        .env("RABBITMQ_LOG_BASE", dir.join("log"))
        .env("RABBITMQ_PID_FILE", dir.join("pid"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", dir.join("enabled_plugins"))
        .env("RABBITMQ_CONFIG_FILE", dir.join("rabbitmq.conf"))
        .env("RABBITMQ_ADVANCED_CONFIG_FILE", dir.join("advanced.config"))
        .env("RABBITMQ_CONF_ENV_FILE", "/nonexistent")
        .env("RABBITMQ_GENERATED_CONFIG_DIR", dir.join("config"))
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1}");
    command
}

fn install() {
    if Path::new(BIN).join("rabbitmq-server").exists() {
        return;
    }
    let done = Command::new("sh").arg(format!("{SUPPORT}/install-rabbitmq.sh")).status().unwrap();
    assert!(done.success(), "tests/support/install-rabbitmq.sh could not install RabbitMQ; its message is above");
}
