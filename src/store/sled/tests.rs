//! What the store promises, on real directories: durability, repeats after errors, damage, kill -9.

use std::path::Path;

use super::*;
use crate::campaign::{Campaign, Counts, JobState, Options, Pause, PauseTarget, Record};

fn open(dir: &Path) -> Opened {
    SledStore::open(dir, &Clock::system()).unwrap()
}

fn campaign(id: &str) -> Campaign {
    let created = jiff::Timestamp::from_second(1_800_000_000).unwrap();
    Campaign::new(id.parse().unwrap(), "main".parse().unwrap(), Options::default(), created, true)
}

fn job(n: u64) -> JobId {
    JobId::derived(&"spring".parse().unwrap(), (905_300_000_000 + n).to_string().parse().unwrap())
}

fn opened(n: u64) -> Record {
    Record::new(job(n), None, 0, JobState::Opened, 1, 0)
}

fn sent(n: u64) -> Record {
    let before = opened(n).now;
    Record::new(job(n), Some(&before), 0, JobState::Sent { wamid: format!("wamid.{n}") }, 1, 0)
}

fn spring() -> CampaignId {
    "spring".parse().unwrap()
}

fn ledger(records: impl IntoIterator<Item = Record>) -> Change {
    Change::Ledger(spring(), records.into_iter().collect())
}

fn state(store: &SledStore, n: u64) -> Option<JobState> {
    store.find(&spring(), &job(n)).unwrap().map(|entry| entry.state)
}

fn counts(store: &SledStore) -> Counts {
    store.load().unwrap().campaigns.into_iter().find(|c| c.id == spring()).unwrap().counts
}

#[tokio::test]
async fn what_was_committed_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { store, moved_aside, fresh } = open(dir.path());
    assert!(fresh && moved_aside.is_none());
    let pause = Pause {
        cause: "BILL_001".into(),
        rule: Some("balance".into()),
        since: jiff::Timestamp::UNIX_EPOCH,
        until: None,
        by: "policy".into(),
        advice: "top up".into(),
        probe: false,
    };
    let target = PauseTarget::Account("main".parse().unwrap());
    let suppressed = ("main".parse().unwrap(), "905321234567".parse().unwrap());
    let mut record = campaign("spring");
    record.counts.announce(None, 100);
    let first = vec![
        Change::Campaign(record),
        Change::Pause(target.clone(), pause.clone()),
        Change::Suppress("main".parse().unwrap(), "905321234567".parse().unwrap()),
        ledger((0..50).map(opened)),
    ];
    store.commit(first).await.unwrap();
    store.commit(vec![ledger((0..40).map(sent))]).await.unwrap();
    let check = |store: &SledStore| {
        assert_eq!(state(store, 0), Some(JobState::Sent { wamid: "wamid.0".into() }));
        assert_eq!(state(store, 45), Some(JobState::Opened));
        assert_eq!(state(store, 50), None);
        let contents = store.load().unwrap();
        assert_eq!(contents.pauses, [(target.clone(), pause.clone())]);
        assert_eq!(contents.suppressed, std::slice::from_ref(&suppressed));
        let counts = counts(store);
        assert_eq!((counts.sent, counts.in_flight, counts.waiting(), counts.enqueued()), (40, 10, 50, 100));
    };
    check(&store);
    drop(store);
    let Opened { store, moved_aside, fresh } = open(dir.path());
    assert!(!fresh && moved_aside.is_none());
    check(&store);
    store.commit(vec![Change::Resume(target.clone())]).await.unwrap();
    assert!(store.load().unwrap().pauses.is_empty());
}

#[tokio::test]
async fn a_second_process_is_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let refused = SledStore::open(dir.path(), &Clock::system()).unwrap_err();
    assert!(matches!(refused, OpenError::Locked { by: Some(pid), .. } if pid == std::process::id()), "{refused}");
    drop(first);
    open(dir.path());
}
