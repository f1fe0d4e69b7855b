//! Files damaged, gone, or put back from an older copy: noticed, and never the end of the process.

use super::*;

/// Everything that can happen to files: none of it may kill or hang the process, none of it may go unnoticed if a record is
/// missing afterwards, and afterwards it works again.
#[tokio::test]
async fn damaged_files_are_noticed_and_never_kill_the_process() {
    let origin = tempfile::tempdir().unwrap();
    let store = open(origin.path()).store;
    store.commit([Change::Campaign(campaign("spring"))].into()).await.unwrap();
    for chunk in 0..400_u64 {
        store.commit([ledger((chunk * 20..chunk * 20 + 20).map(sent))].into()).await.unwrap();
    }
    drop(store);
    drop(open(origin.path()));
    let length = std::fs::metadata(origin.path().join("ledger/db")).unwrap().len();
    let (mut aside, mut behind) = (0, 0);
    for case in 0..27_u64 {
        let dir = tempfile::tempdir().unwrap();
        copy(origin.path(), dir.path());
        damage(&dir.path().join("ledger"), case, length);
        let Opened { store, lost } = open(dir.path());
        let contents = store.load().unwrap();
        let whole = (0..8_000).all(|n| state(&store, n).is_some());
        assert!(whole || lost.is_some() || contents.behind, "case {case}: records are missing and nobody says so");
        aside += usize::from(lost.is_some());
        behind += usize::from(contents.behind);
        if let Some(Lost { moved_to, reason }) = lost {
            assert_eq!(contents, Contents::default(), "case {case}: {reason}");
            let moved =
                moved_to.map(|to| to.file_name().unwrap().to_str().unwrap().starts_with("ledger.damaged-20") && to.is_dir());
            assert!(moved.unwrap_or(case == 24), "case {case}: {reason}");
        }
        store.commit([Change::Campaign(campaign("after"))].into()).await.unwrap();
        drop(store);
        let Opened { store, lost } = open(dir.path());
        assert_eq!(lost, None, "case {case}: opened once, it opens again");
        assert!(store.load().unwrap().campaigns.iter().any(|c| c.id.as_str() == "after"), "case {case}");
    }
    assert!(aside > 6, "only {aside} of the damages were noticed");
    println!("moved aside: {aside} of 27, behind: {behind}");
}

#[tokio::test]
async fn an_older_copy_of_the_ledger_is_noticed_until_it_has_been_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger_dir, backup) = (dir.path().join("ledger"), dir.path().join("backup"));
    let store = open(dir.path()).store;
    store.commit([Change::Campaign(campaign("spring")), ledger([opened(1)])].into()).await.unwrap();
    let before = store.mark();
    drop(store);
    copy(&ledger_dir, &backup);
    let store = open(dir.path()).store;
    assert_eq!(store.mark(), before);
    store.commit([ledger([opened(2)])].into()).await.unwrap();
    store.commit([ledger([sent(1)])].into()).await.unwrap();
    assert!(store.mark().covers(before) && !before.covers(store.mark()));
    drop(store);
    std::fs::remove_dir_all(&ledger_dir).unwrap();
    copy(&backup, &ledger_dir);
    for _ in 0..2 {
        let Opened { store, lost } = open(dir.path());
        assert_eq!(lost, None);
        assert!(store.load().unwrap().behind);
        assert_eq!(state(&store, 1), Some(JobState::Opened));
    }
    let store = open(dir.path()).store;
    store.commit([Change::Campaign(campaign("spring"))].into()).await.unwrap();
    drop(store);
    assert!(!open(dir.path()).store.load().unwrap().behind);
}

#[tokio::test]
async fn a_ledger_that_comes_back_after_an_error_without_its_end_is_not_gone_on_with() {
    for gone in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (ledger_dir, backup) = (dir.path().join("ledger"), dir.path().join("backup"));
        let store = open(dir.path()).store;
        store.commit([Change::Campaign(campaign("spring")), ledger([opened(1)])].into()).await.unwrap();
        drop(store);
        copy(&ledger_dir, &backup);
        let store = open(dir.path()).store;
        store.commit([ledger([sent(1)])].into()).await.unwrap();
        let mark = store.mark();
        store.shared.database.meddle(|db| *db = None);
        std::fs::rename(&ledger_dir, dir.path().join("aside")).unwrap();
        if !gone {
            copy(&backup, &ledger_dir);
        }
        for _ in 0..2 {
            let refused = store.commit([ledger([opened(2)])].into()).await;
            assert!(matches!(&refused, Err(StoreError::Damaged(text)) if text.contains("restart campaignd")), "{refused:?}");
            assert_eq!(store.mark(), mark);
        }
        drop(store);
        let Opened { store, lost } = open(dir.path());
        assert_eq!((lost.is_some(), store.load().unwrap().behind), (gone, !gone), "the start finds out");
    }
}

#[tokio::test]
async fn the_suppression_list_outlives_its_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).store;
    let suppressed = ("main".parse().unwrap(), "905321234567".parse().unwrap());
    store.commit([Change::Suppress("main".parse().unwrap(), "905321234567".parse().unwrap())].into()).await.unwrap();
    drop(store);
    std::fs::write(dir.path().join("ledger/db"), b"no database").unwrap();
    let Opened { store, lost } = open(dir.path());
    assert!(lost.is_some());
    assert_eq!(store.load().unwrap().suppressed, std::slice::from_ref(&suppressed));
    drop(store);
    std::fs::remove_file(dir.path().join("suppressed")).unwrap();
    drop(open(dir.path()));
    std::fs::remove_dir_all(dir.path().join("ledger")).unwrap();
    assert_eq!(open(dir.path()).store.load().unwrap().suppressed, [suppressed], "a copy that was lost is made again");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn damage(dir: &Path, case: u64, length: u64) {
    let db = dir.join("db");
    let snapshot = || {
        let mut found = dir.read_dir().unwrap().map(|e| e.unwrap().path());
        found.find(|p| p.file_name().unwrap().to_str().unwrap().starts_with("snap.")).unwrap()
    };
    match case {
        0..8 => std::fs::OpenOptions::new().write(true).open(db).unwrap().set_len(length * case / 8).unwrap(),
        8..18 => {
            let mut bytes = std::fs::read(&db).unwrap();
            let at = usize::try_from(length * (case - 8) / 10 + 777).unwrap();
            let end = bytes.len().min(at + 64);
            bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0x5a);
            std::fs::write(&db, bytes).unwrap();
        }
        18 => std::fs::remove_file(db).unwrap(),
        19 => std::fs::remove_file(snapshot()).unwrap(),
        20 => std::fs::write(snapshot(), b"").unwrap(),
        21 => std::fs::write(snapshot(), [0xff; 4000]).unwrap(),
        22 => std::fs::write(dir.join("conf"), b"segment_size: x").unwrap(),
        23 => ["db", "conf"].iter().for_each(|name| std::fs::write(dir.join(name), [0x5a; 3000]).unwrap()),
        24 => std::fs::remove_dir_all(dir).unwrap(),
        25 => {
            std::fs::remove_file(snapshot()).unwrap();
            std::fs::OpenOptions::new().write(true).open(db).unwrap().set_len(length / 2).unwrap();
        }
        _ => std::fs::write(db, vec![0; usize::try_from(length).unwrap()]).unwrap(),
    }
}

#[test]
fn an_unfinished_snapshot_of_a_killed_process_does_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    std::fs::write(dir.path().join("ledger/snap.FFFFFFFFFFFFFFFF.generating"), b"half").unwrap();
    assert_eq!(open(dir.path()).lost, None);
}
