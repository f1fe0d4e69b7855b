//! State that will not open, was put back from a backup, or is gone: people are told, nobody gets it twice, and everybody is accounted for.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use campaignd::campaign::Options;
use campaignd::engine::{CampaignState, CampaignView};
use campaignd::gateway::simulator::Options as SimulatorOptions;

use crate::stage::{Setup, Stage, people};

const JOBS: u64 = 300;

/// Slow enough to be in the middle of it whenever something happens.
fn steady() -> Setup {
    let simulator = SimulatorOptions { latency: Duration::from_millis(40), ..SimulatorOptions::default() };
    Setup { simulator, rate: "60/s", max_in_flight: 16, ..Setup::default() }
}

/// The campaign runs to its end: everybody has the message once, or is in the dead letters as unknown.
async fn everybody_is_accounted_for(stage: &Stage, id: &str) -> CampaignView {
    let view = stage.until_state(id, CampaignState::Finished).await;
    assert!(view.counts_since.is_some(), "{view:?}");
    let books = stage.books();
    assert!(books.values().all(|times| *times == 1), "somebody got it twice");
    let letters = stage.until("the letters", async || Some(stage.dead(id).await).filter(|l| l.len() as u64 == view.dead)).await;
    assert!(letters.iter().all(|letter| letter.death.reason == "unknown-outcome"), "{letters:#?}");
    assert!(books.len() as u64 + view.dead >= JOBS, "{} got it, {} are dead: somebody is forgotten", books.len(), view.dead);
    view
}

/// A file system of its own; gone when dropped.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// None where mounting is not allowed.
    fn mount(at: &'a Path) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m", "campaignd-test"]).arg(at).status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(at))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_ledger_is_moved_aside_and_its_campaign_runs_to_its_end() {
    let mut stage = Stage::open(steady()).await;
    stage.enqueue("damaged", "main", Options::default(), &people(JOBS)).await;
    stage.until_campaign("damaged", "begin", |v| v.sent > 60).await;
    stage.kill9();
    for name in ["db", "conf"] {
        fs::write(stage.state().join("ledger").join(name), [0x5a; 4000]).unwrap();
    }
    stage.start();
    stage.logged("moved aside to").await;
    stage.logged("it lacks 1 campaigns that the broker knows").await;
    let view = everybody_is_accounted_for(&stage, "damaged").await;
    assert!(view.enqueued < JOBS, "those settled before the loss are not in its counts: {view:?}");
    let entries = fs::read_dir(stage.state()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: BTreeSet<String> = entries.collect();
    assert!(names.iter().any(|name| name.starts_with("ledger.damaged-20")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pauses_outlive_a_state_directory_that_is_gone() {
    let mut stage = Stage::open(steady()).await;
    stage.enqueue("gone", "main", Options::default(), &people(JOBS)).await;
    stage.until_campaign("gone", "begin", |v| v.sent > 30).await;
    let (status, answer) = stage.post("accounts/main/pause", r#"{"cause":"lunch"}"#).await;
    assert_eq!(status, 204, "{answer}");
    stage.until_campaign("gone", "come to rest", |v| v.in_flight == 0).await;
    let before = stage.simulator.books().requests;
    stage.stop().await;
    fs::remove_dir_all(stage.state()).unwrap();
    stage.start();
    let view = stage.until_state("gone", CampaignState::Paused).await;
    assert_eq!(view.account_pause.expect("the account's").pause.cause, "lunch");
    assert_eq!(stage.simulator.books().requests, before, "a request started while the account was paused");
    let (status, answer) = stage.post("accounts/main/resume", "{}").await;
    assert_eq!((status, answer["lifted"].as_bool()), (200, Some(true)), "{answer}");
    everybody_is_accounted_for(&stage, "gone").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_put_back_from_a_backup_is_noticed() {
    let mut stage = Stage::open(steady()).await;
    stage.enqueue("older", "main", Options::default(), &people(JOBS)).await;
    stage.until_campaign("older", "begin", |v| v.sent > 20).await;
    stage.stop().await;
    let backup = stage.dir.path().join("backup");
    copy(&stage.state(), &backup);
    stage.start();
    stage.until_campaign("older", "go on", |v| v.sent > 80).await;
    stage.stop().await;
    stage.start();
    stage.until_campaign("older", "go on again", |v| v.sent > 140).await;
    stage.kill9();
    fs::remove_dir_all(stage.state()).unwrap();
    copy(&backup, &stage.state());
    stage.start();
    stage.logged("the end of 1;").await;
    everybody_is_accounted_for(&stage, "older").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_did_after_the_backup_still_holds_once_it_is_put_back() {
    let mut stage = Stage::open(steady()).await;
    for id in ["held", "off"] {
        stage.enqueue(id, "main", Options::default(), &people(JOBS)).await;
        stage.until_campaign(id, "begin", |v| v.sent > 10).await;
    }
    stage.stop().await;
    let backup = stage.dir.path().join("backup");
    copy(&stage.state(), &backup);
    stage.start();
    stage.until_ready().await;
    let (status, answer) = stage.post("campaigns/held/pause", r#"{"cause":"lunch"}"#).await;
    assert_eq!(status, 204, "{answer}");
    let (status, answer) = stage.post("campaigns/off/cancel", "{}").await;
    assert_eq!(status, 204, "{answer}");
    stage.until_campaign("held", "come to rest", |v| v.in_flight == 0).await;
    stage.until_campaign("off", "be taken off its queue", |v| v.in_flight + v.waiting == 0).await;
    let before = stage.simulator.books().requests;
    stage.stop().await;
    stage.start();
    stage.until_ready().await;
    stage.kill9();
    fs::remove_dir_all(stage.state()).unwrap();
    copy(&backup, &stage.state());
    stage.start();
    stage.logged("the end of 2;").await;
    stage.until_state("off", CampaignState::Cancelled).await;
    let view = stage.until_state("held", CampaignState::Paused).await;
    assert_eq!(view.pause.expect("its own").pause.cause, "lunch");
    assert_eq!(stage.simulator.books().requests, before, "a request started that a person had held or called off");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_nothing_is_sent_and_it_goes_on_by_itself_when_there_is_room() {
    let mut stage = Stage::open(steady()).await;
    stage.stop().await;
    let state = stage.state();
    fs::remove_dir_all(&state).unwrap();
    fs::create_dir(&state).unwrap();
    let Some(disk) = SmallDisk::mount(&state) else {
        return println!("mounting a small disk is not allowed here; not tried");
    };
    stage.start();
    stage.enqueue("full", "main", Options::default(), &people(JOBS)).await;
    stage.until_campaign("full", "begin", |v| v.sent > 30).await;
    let filler = state.join("filler");
    let filled = Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", filler.display())).status().unwrap();
    assert!(!filled.success(), "the disk is full now");
    let failures = |stage: &Stage| stage.log_count("nothing is sent until the state directory takes writes");
    stage.until("writes to fail", async || (failures(&stage) >= 2).then_some(())).await;
    let requests = stage.simulator.books().requests;
    stage.until("writes to fail again", async || (failures(&stage) >= 5).then_some(())).await;
    assert_eq!(stage.simulator.books().requests, requests, "a request left whose attempt was not durable");
    assert_eq!(stage.log_count("nothing is sent: no space left"), 1, "one alert: {}", stage.log());
    fs::remove_file(&filler).unwrap();
    let view = stage.until_state("full", CampaignState::Finished).await;
    assert_eq!((view.sent, view.dead), (JOBS, 0));
    assert!(stage.books().values().all(|times| *times == 1));
    stage.kill9();
    drop(disk);
}
