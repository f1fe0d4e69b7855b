//! What the store promises, on real directories: durability, repeats after errors, kill -9; damage in a file of its own.

mod damage;

use std::path::Path;

use super::*;
use crate::campaign::{Campaign, Counts, JobState, Options, Pause, PauseTarget, Record};

fn open(dir: &Path) -> Opened {
    SledStore::open(dir, &Clock::system()).unwrap()
}

fn campaign(id: &str) -> Campaign {
    let created = jiff::Timestamp::from_second(1_800_000_000).unwrap();
    Campaign::new(id.parse().unwrap(), "main".parse().unwrap(), Options::default(), created)
}

fn job(n: u64) -> JobId {
    JobId::derived(&"spring".parse().unwrap(), (905_300_000_000 + n).to_string().parse().unwrap())
}

fn opened(n: u64) -> Record {
    Record::new(job(n), None, 0, JobState::Opened, 1, 0, 0)
}

fn sent(n: u64) -> Record {
    let before = opened(n).now;
    Record::new(job(n), Some(&before), 0, JobState::Sent { wamid: format!("wamid.{n}") }, 1, 0, 0)
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
    let Opened { store, lost } = open(dir.path());
    assert_eq!(lost, None);
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
    store.commit(first.into()).await.unwrap();
    store.commit([ledger((0..40).map(sent))].into()).await.unwrap();
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
    let Opened { store, lost } = open(dir.path());
    assert_eq!(lost, None);
    check(&store);
    store.commit([Change::Resume(target.clone())].into()).await.unwrap();
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

fn on_disk(store: &SledStore) -> usize {
    store.shared.database.read(|db| Ok::<_, Fault>(db.prefixed(b"l").count() + db.prefixed(b"d").count())).unwrap()
}

#[tokio::test]
async fn a_dropped_ledger_leaves_the_counts_and_goes_bit_by_bit() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    store.commit([Change::Campaign(campaign("spring"))].into()).await.unwrap();
    for chunk in 0..300_u64 {
        store.commit([ledger((chunk * 10..chunk * 10 + 10).map(sent))].into()).await.unwrap();
    }
    let mut record = campaign("spring");
    record.counts = counts(&store);
    record.clean_up();
    assert_eq!(record.counts.sent, 3000);
    store.commit([Change::Campaign(record), Change::DropLedger(spring())].into()).await.unwrap();
    assert_eq!(state(&store, 5), None);
    assert_eq!(counts(&store).sent, 3000);
    store.commit([ledger([opened(5)])].into()).await.unwrap();
    assert_eq!(state(&store, 5), Some(JobState::Opened));
    drop(store);
    let Opened { store, lost } = open(dir.path());
    assert_eq!(lost, None);
    assert_eq!(state(&store, 5), Some(JobState::Opened));
    assert_eq!(state(&store, 6), None);
    let limit = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while on_disk(&store) > 1 {
        assert!(tokio::time::Instant::now() < limit, "{} keys left", on_disk(&store));
        store.commit([Change::Campaign(campaign("other"))].into()).await.unwrap();
    }
    drop(store);
    assert_eq!(state(&open(dir.path()).store, 5), Some(JobState::Opened));
}

#[tokio::test]
async fn a_full_disk_is_told_and_the_same_commit_goes_through_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    store.commit([Change::Campaign(campaign("spring"))].into()).await.unwrap();
    store.shared.database.meddle(|db| db.as_mut().unwrap().want_room(u64::MAX));
    let refused = store.commit([ledger([opened(1)])].into()).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    assert_eq!(state(&store, 1), None);
    store.shared.database.meddle(|db| db.as_mut().unwrap().want_room(0));
    store.commit([ledger([opened(1)])].into()).await.unwrap();
    assert_eq!(counts(&store).in_flight, 1);
}

#[tokio::test]
async fn a_commit_repeated_after_an_error_counts_once_wherever_it_failed() {
    for trouble in [crate::disk::InjectedFault::Lost, crate::disk::InjectedFault::Kept] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path()).store;
        store.commit([Change::Campaign(campaign("spring")), ledger([opened(1)])].into()).await.unwrap();
        store.shared.database.meddle(|db| db.as_ref().unwrap().suffer(trouble));
        let commit: Arc<[Change]> = [ledger([sent(1), opened(2)])].into();
        assert!(matches!(store.commit(Arc::clone(&commit)).await, Err(StoreError::Io(_))));
        store.commit(commit).await.unwrap();
        let check = |store: &SledStore| {
            let counts = counts(store);
            assert_eq!((counts.sent, counts.in_flight, counts.batches[0].seen), (1, 1, 2), "{trouble:?}");
            assert_eq!(state(store, 2), Some(JobState::Opened));
        };
        check(&store);
        store.commit([ledger([sent(2)])].into()).await.unwrap();
        drop(store);
        assert_eq!(counts(&open(dir.path()).store).sent, 2, "{trouble:?}");
    }
}

#[tokio::test]
async fn jobs_that_share_a_fingerprint_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    // derived ids whose first 8 bytes agree share a fingerprint
    let twin = |last: &str| -> JobId { format!("r{}{last}", "0123456789abcdef00000000000000").parse().unwrap() };
    let (a, b, c) = (twin("01"), twin("02"), twin("03"));
    let record = |job: &JobId| Record::new(job.clone(), None, 0, JobState::Opened, 1, 0, 0);
    store.commit([Change::Ledger(spring(), vec![record(&a)])].into()).await.unwrap();
    store.commit([Change::Ledger(spring(), vec![record(&b)])].into()).await.unwrap();
    let knows = |job: &JobId| store.find(&spring(), job).unwrap().is_some();
    assert!(knows(&a) && knows(&b));
    assert!(!knows(&c), "a job never heard of must not look sent");
}

/// The database itself. sled lets go of its lock on a thread of its own.
fn raw(dir: &Path) -> sled::Db {
    let mut tries = (0..500).filter_map(|_| {
        let opened = sled::open(dir.join("ledger")).ok();
        opened.or_else(|| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            None
        })
    });
    tries.next().expect("it stays locked")
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    raw(dir.path()).insert("m", &[9]).unwrap();
    let refused = SledStore::open(dir.path(), &Clock::system()).unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 9, supported: 2, .. }), "{refused}");
    assert_eq!(raw(dir.path()).get("m").unwrap().unwrap(), &[9]);
}

#[tokio::test]
async fn a_ledger_of_the_format_before_is_gone_on_with_and_closed_to_older_programs() {
    let dir = tempfile::tempdir().unwrap();
    let unnumbered = |records: &[Record]| {
        let mut value = vec![1];
        records.iter().for_each(|record| ledger::encode(record, &mut value));
        value
    };
    let database = raw(dir.path());
    database.insert(b"m", &[1, 0, 0, 0, 0, 0, 0, 0, 7, 2]).unwrap();
    database.insert(b"cspring", campaign::encode(&campaign("spring")).unwrap()).unwrap();
    database.insert(ledger::key(&spring(), 0), unnumbered(&[opened(1), opened(2)])).unwrap();
    database.insert(ledger::key(&spring(), 1), unnumbered(&[sent(1)])).unwrap();
    drop(database);
    let Opened { store, lost } = open(dir.path());
    assert_eq!((lost, store.mark()), (None, Mark { ledger: 7, commits: 2 }));
    assert_eq!(state(&store, 1), Some(JobState::Sent { wamid: "wamid.1".into() }));
    store.commit([ledger([sent(2)])].into()).await.unwrap();
    store.commit([ledger([opened(3)])].into()).await.unwrap();
    drop(store);
    let store = open(dir.path()).store;
    assert_eq!(store.mark(), Mark { ledger: 7, commits: 4 });
    assert_eq!((counts(&store).sent, counts(&store).in_flight), (2, 1));
    drop(store);
    assert_eq!(raw(dir.path()).get(b"m").unwrap().unwrap().first(), Some(&2));
}

#[tokio::test]
async fn records_alone_are_one_key_that_says_how_far_the_ledger_has_come() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    store.commit([Change::Campaign(campaign("spring"))].into()).await.unwrap();
    let noted = |store: &SledStore| store.shared.database.read(|db| db.get(meta::KEY)).unwrap();
    let before = noted(&store);
    for n in 0..40 {
        store.commit([ledger([opened(n)])].into()).await.unwrap();
    }
    assert_eq!(noted(&store), before);
    let mark = store.mark();
    assert_eq!(mark.commits, 41);
    drop(store);
    let store = open(dir.path()).store;
    assert_eq!((store.mark(), store.load().unwrap().behind), (mark, false));
    store.commit([Change::DropLedger(spring())].into()).await.unwrap();
    drop(store);
    drop(open(dir.path()));
    assert_eq!(open(dir.path()).store.mark().commits, 42, "a ledger that is gone takes nothing along");
}

/// sled would put more into files of their own, which it does not sync.
#[tokio::test]
async fn the_longest_records_stay_within_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    let dead = |n: u64| {
        let mut death = crate::broker::Death::new(jiff::Timestamp::UNIX_EPOCH, "r".repeat(64));
        death.description = "\u{10ffff}".repeat(500);
        Record::new(format!("{n:0>128}").parse().unwrap(), None, 0, JobState::Dead(death), 1, 0, 0)
    };
    for chunk in 0..12 {
        store.commit([ledger((chunk * 20..chunk * 20 + 20).map(dead))].into()).await.unwrap();
    }
    for chunk in 0..8 {
        store.commit([ledger((chunk * 400..chunk * 400 + 400).map(sent))].into()).await.unwrap();
    }
    assert_eq!(dir.path().join("ledger/blobs").read_dir().unwrap().count(), 0);
    assert!(store.find(&spring(), &dead(239).job).unwrap().is_some());
    drop(store);
    let store = open(dir.path()).store;
    assert_eq!((0..240).filter(|n| store.find(&spring(), &dead(*n).job).unwrap().is_some()).count(), 240);
    assert_eq!((0..3200).filter(|n| state(&store, *n).is_some()).count(), 3200);
}

const CHILD: &str = "CAMPAIGND_TEST_KILLED_WRITER";

/// Run by the next test in a process of its own: commits and says so until it is killed.
#[tokio::test]
async fn writer_to_be_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let store = open(Path::new(&dir)).store;
    for n in (0..).skip_while(|n| state(&store, *n).is_some()) {
        store.commit([ledger([opened(n)])].into()).await.unwrap();
        println!("durable {n}");
    }
}

#[test]
fn whatever_was_durable_is_there_after_kill_9() {
    use std::io::BufRead;
    let dir = tempfile::tempdir().unwrap();
    let mut durable = Vec::new();
    for round in 1..=4_usize {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::sled::tests::writer_to_be_killed", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut seen = 0;
        let said = |line: &String| line.split("durable ").nth(1).and_then(|n| n.parse::<u64>().ok());
        for n in lines.by_ref().filter_map(|line| said(&line)) {
            durable.push(n);
            seen += 1;
            if seen == 37 * round {
                child.kill().unwrap();
                break;
            }
        }
        durable.extend(lines.filter_map(|line| said(&line)));
        child.wait().unwrap();
        let Opened { store, lost } = open(dir.path());
        assert_eq!(lost, None, "round {round}");
        assert!(!store.load().unwrap().behind, "round {round}");
        assert!(durable.len() >= seen && seen == 37 * round);
        for n in &durable {
            assert_eq!(state(&store, *n), Some(JobState::Opened), "{n} of {} is gone", durable.len());
        }
    }
}
