//! The service unit: systemd finds nothing wrong with it, and rates its sandbox.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

const UNIT: &str = include_str!("../../deploy/systemd/campaignd.service");

/// systemd's own scale: 0 is closed, 10 is open.
const MOST_EXPOSURE: f64 = 2.0;

fn systemd_analyze() -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/install-systemd.sh");
    let install = Command::new("sh").arg(script).output().unwrap();
    assert!(install.status.success(), "{}", String::from_utf8_lossy(&install.stderr));
    Command::new("systemd-analyze")
}

/// The unit as it is, but for the binary, which must be there.
fn unit(dir: &Path) -> PathBuf {
    let path = dir.join("campaignd.service");
    let unit = UNIT.replace("/usr/bin/campaignd", env!("CARGO_BIN_EXE_campaignd"));
    assert_ne!(unit, UNIT);
    std::fs::write(&path, unit).unwrap();
    path
}

#[test]
fn verify_finds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let output = systemd_analyze().args(["verify", "--man=no"]).arg(unit(dir.path())).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn verify_would_find_something() {
    let dir = tempfile::tempdir().unwrap();
    let path = unit(dir.path());
    std::fs::write(&path, UNIT.replace("ProtectHome=yes", "ProtectHme=yes")).unwrap();
    let output = systemd_analyze().args(["verify", "--man=no"]).arg(&path).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("ProtectHme"));
}

#[test]
fn the_sandbox_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let output = systemd_analyze().args(["security", "--offline=true", "--no-pager"]).arg(unit(dir.path())).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find(|line| line.contains("Overall exposure level")).expect(&said);
    let exposure: f64 = line.split_whitespace().find_map(|word| word.parse().ok()).expect(line);
    assert!(exposure <= MOST_EXPOSURE, "{said}");
}

#[test]
fn the_unit_waits_longer_than_the_daemon_drains() {
    let seconds = |key: &str| -> u64 {
        let line = UNIT.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_end_matches('s').parse().unwrap()
    };
    let drain = campaignd::config::defaults().engine.drain_timeout + campaignd::alert::DRAIN;
    assert!(seconds("TimeoutStopSec=") > drain.as_secs() + 5);
    assert!(seconds("WatchdogSec=") >= 10, "a slow call to the broker must not look like a stuck engine");
    assert!(UNIT.contains("\nStartLimitIntervalSec=0\n") && UNIT.contains("\nRestart=on-failure\n"));
}
