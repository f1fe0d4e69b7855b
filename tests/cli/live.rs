//! What the live tests share: files, a simulated gateway, the binary, waiting for a condition.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use campaignd::gateway::simulator::{DEFAULT_KEY, Key, Options, Running, Simulator};
use campaignd::pacer::Limits;
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub(crate) const MESSAGE: &str = r#"{"type": "text", "text": {"body": "Hi {{ name }}"}}"#;

/// A directory with the files of a campaign, and a simulated gateway.
pub(crate) struct Scene {
    pub(crate) dir: TempDir,
    pub(crate) gateway: Running,
    _runtime: Runtime,
}

impl Scene {
    pub(crate) fn new(options: Options) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let gateway = runtime.block_on(Simulator::start_local(options)).unwrap();
        let scene = Self { dir: tempfile::tempdir().unwrap(), gateway, _runtime: runtime };
        scene.file("message.json", MESSAGE);
        scene
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn recipients(&self, numbers: impl IntoIterator<Item = u64>) {
        let rows: String = numbers.into_iter().map(|number| format!("{number},N{number}\n")).collect();
        self.file("recipients.csv", &format!("to,name\n{rows}"));
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = binary(self.dir.path());
        command.args(args).env("TEST_KEY", DEFAULT_KEY);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }
}

/// The binary in `dir`, with nothing of this machine's configuration.
pub(crate) fn binary(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_campaignd"));
    command.current_dir(dir).env_remove("CAMPAIGND_CONFIG").env_remove("CAMPAIGND_BROKER_URI").stdin(Stdio::null());
    command
}

pub(crate) fn unlimited() -> Options {
    let key = Key { limits: Limits { second: None, minute: None }, ..Key::new(DEFAULT_KEY) };
    Options { keys: vec![key], ..Options::default() }
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts the exit code, and shows what was said when it is another.
#[track_caller]
pub(crate) fn exits(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "stdout:\n{}\nstderr:\n{}", out(output), err(output));
}

/// Asks until it is so, for a minute at most.
#[track_caller]
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..600 {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("a minute has passed, and still not: {what}");
}

/// A process that dies with the test.
pub(crate) struct Started(pub(crate) Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
