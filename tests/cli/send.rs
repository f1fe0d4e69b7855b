//! `campaignd send` and `campaignd demo`: killed, paused, finished; the gateway's books decide.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::Stdio;
use std::time::Duration;

use campaignd::gateway::simulator::{DEFAULT_KEY, Fault, Key, Options};

use crate::live::{Scene, Started, binary, exits, out, unlimited};

const FIRST: u64 = 905_320_000_000;

fn args<'a>(gateway: &'a str, rate: &'a str) -> [&'a str; 15] {
    [
        "send",
        "--campaign",
        "c",
        "--recipients",
        "recipients.csv",
        "--message",
        "message.json",
        "--state-dir",
        "state",
        "--gateway",
        gateway,
        "--key-env",
        "TEST_KEY",
        "--rate",
        rate,
    ]
}

/// The number in the row `name` of the table of outcomes.
fn row(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_else(|| panic!("no {name} in\n{text}"));
    line.trim_start().trim_start_matches(name).split_whitespace().next().unwrap().replace(',', "").parse().unwrap()
}

#[test]
fn killed_again_and_again_nobody_gets_it_twice_and_nobody_is_forgotten() {
    const JOBS: u64 = 1_200;
    let scene = Scene::new(Options { latency: Duration::from_millis(20), ..unlimited() });
    scene.recipients((0..JOBS).map(|n| FIRST + n));
    let url = scene.gateway.base_url();
    let mut kills = 0;
    let last = (0..60_u64).find_map(|round| {
        let mut command = scene.command(&args(&url, "250/s"));
        let mut child = Started(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
        // Odd lengths, so that it dies while it opens, publishes, sends and settles; never after the tenth death.
        let life = Duration::from_millis(if kills < 10 { 150 + round * 137 % 900 } else { 60_000 });
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < life {
            if child.0.try_wait().unwrap().is_some() {
                let mut text = String::new();
                std::io::Read::read_to_string(&mut child.0.stdout.take().unwrap(), &mut text).unwrap();
                assert_eq!(child.0.wait().unwrap().code(), Some(0), "{text}");
                return Some(text);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        kills += 1;
        None
    });
    let text = last.expect("it finishes when it is let live");
    let books = scene.gateway.books();
    assert!(kills >= 5, "only {kills} kills prove nothing");
    assert_eq!(books.more_than_once(), Vec::<u64>::new(), "after {kills} kills");
    let (sent, failed, reached) = (row(&text, "sent"), row(&text, "failed"), books.recipients().len() as u64);
    assert_eq!(sent + failed, JOBS, "{text}");
    // Whoever was in flight at a kill is parked as outcome unknown, whether or not it arrived.
    assert!(sent <= reached && reached + failed >= JOBS, "{sent} sent, {failed} failed, {reached} reached");
}

#[test]
fn an_empty_balance_pauses_with_75_and_the_same_command_goes_on() {
    let key = Key { balance: 20, ..unlimited().keys.remove(0) };
    let scene = Scene::new(Options { keys: vec![key], ..unlimited() });
    scene.recipients((0..100).map(|n| FIRST + n));
    let url = scene.gateway.base_url();
    let paused = scene.run(&args(&url, "unlimited"));
    exits(&paused, 75);
    let text = out(&paused);
    assert!(text.contains("BILL_001") && text.contains("what to do:") && text.contains("run the same command again"), "{text}");
    assert!(!text.contains("campaignd account resume"), "there is no daemon here:\n{text}");
    assert_eq!(row(&text, "sent"), 20, "{text}");
    scene.gateway.controls().add_balance(Some(DEFAULT_KEY), 1_000).unwrap();
    let done = scene.run(&args(&url, "unlimited"));
    exits(&done, 0);
    assert_eq!(row(&out(&done), "sent"), 100);
    // Once more, and nothing happens.
    let requests = scene.gateway.books().requests;
    exits(&scene.run(&args(&url, "unlimited")), 0);
    assert_eq!(scene.gateway.books().requests, requests);
    assert_eq!((scene.gateway.books().recipients().len(), scene.gateway.books().more_than_once()), (100, vec![]));
}

#[test]
fn ctrl_c_drains_and_says_how_to_go_on() {
    let scene = Scene::new(Options { latency: Duration::from_millis(100), ..unlimited() });
    scene.recipients((0..400).map(|n| FIRST + n));
    let url = scene.gateway.base_url();
    let child = scene.command(&args(&url, "100/s")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    crate::live::until("messages are accepted", || scene.gateway.books().accepted > 20);
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    exits(&output, 130);
    assert!(out(&output).contains("Run the same command again"), "{}", out(&output));
    let before = scene.gateway.books().accepted;
    exits(&scene.run(&args(&url, "unlimited")), 0);
    assert!(before < 400);
    assert_eq!((scene.gateway.books().recipients().len(), scene.gateway.books().more_than_once()), (400, vec![]));
}

#[test]
fn failed_jobs_are_listed_one_by_one_and_sent_again_when_told() {
    let scene = Scene::new(unlimited());
    let invalid: Fault = "meta:131026".parse().unwrap();
    let refused_once = invalid.recipient_times(1, 0);
    scene.recipients([FIRST, FIRST + 1, refused_once]);
    let url = scene.gateway.base_url();
    let first = scene.run(&args(&url, "unlimited"));
    exits(&first, 0);
    let path = scene.dir.path().join("state/failed.csv");
    assert!(out(&first).contains("state/failed.csv") && out(&first).contains("--retry-failed"), "{}", out(&first));
    let failed = std::fs::read_to_string(&path).unwrap();
    assert_eq!(failed.lines().count(), 2, "{failed}");
    assert!(failed.contains(&format!("\n{refused_once},")) && failed.contains(",GW_001,131026,"), "{failed}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "it holds full recipients");
    let second = scene.run(&[&args(&url, "unlimited")[..], &["--retry-failed"]].concat());
    exits(&second, 0);
    assert_eq!((row(&out(&second), "sent"), row(&out(&second), "failed")), (3, 0), "{}", out(&second));
    assert!(!path.exists(), "nothing is failed any more");
    assert_eq!((scene.gateway.books().recipients().len(), scene.gateway.books().more_than_once()), (3, vec![]));
}

#[test]
fn a_second_file_for_a_finished_campaign_is_sent_before_it_is_finished_again() {
    let scene = Scene::new(unlimited());
    let url = scene.gateway.base_url();
    for people in 1..=4 {
        scene.recipients((0..people * 10).map(|n| FIRST + n));
        let output = scene.run(&args(&url, "unlimited"));
        exits(&output, 0);
        assert_eq!(row(&out(&output), "sent"), people * 10, "{}", out(&output));
    }
    assert_eq!((scene.gateway.books().recipients().len(), scene.gateway.books().more_than_once()), (40, vec![]));
}

#[test]
fn what_may_have_been_sent_before_the_ledger_was_lost_is_parked_when_the_same_file_is_published_again() {
    let scene = Scene::new(unlimited());
    let url = scene.gateway.base_url();
    scene.recipients((0..20).map(|n| FIRST + n));
    exits(&scene.run(&args(&url, "unlimited")), 0);
    // As if the process had died before it took down that all was published, and the ledger were gone.
    std::fs::remove_file(scene.dir.path().join("state/published")).unwrap();
    std::fs::remove_dir_all(scene.dir.path().join("state/ledger")).unwrap();
    let output = scene.run(&args(&url, "unlimited"));
    exits(&output, 0);
    assert!(out(&output).contains("unknown-outcome"), "{}", out(&output));
    assert_eq!((scene.gateway.books().recipients().len(), scene.gateway.books().more_than_once()), (20, vec![]));
}

#[test]
fn a_rehearsal_needs_nothing_but_the_files() {
    let scene = Scene::new(unlimited());
    scene.recipients([FIRST, FIRST + 1, 436_701_310_260_001]);
    let args = [
        "send",
        "--campaign",
        "c",
        "--recipients",
        "recipients.csv",
        "--message",
        "message.json",
        "--state-dir",
        "s",
        "--simulate",
    ];
    let output = scene.run(&args);
    exits(&output, 0);
    assert!(out(&output).contains("finished, 1 failed") && out(&output).contains("131026"), "{}", out(&output));
    assert_eq!(scene.gateway.books().requests, 0);
}

#[test]
fn the_demo_ends_with_books_that_agree() {
    let dir = tempfile::tempdir().unwrap();
    let output = binary(dir.path()).args(["demo", "--fast", "--recipients", "400"]).output().unwrap();
    exits(&output, 0);
    let text = out(&output);
    for says in ["paused by rule balance-gone", "topped up by 400", "Why they failed:", "The books agree."] {
        assert!(text.contains(says), "no {says:?} in\n{text}");
    }
}
