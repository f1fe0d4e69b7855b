//! The parts that every job goes through, one by one, by criterion. See `README.md`.

use std::hint::black_box;
use std::path::Path;

use campaignd::campaign::{JobState, Record};
use campaignd::clock::Clock;
use campaignd::dice;
use campaignd::gateway::Reply;
use campaignd::job::{Job, JobId, MessageKind, Recipient};
use campaignd::policy::{History, Rules, Subject, decide};
use campaignd::store::sled::SledStore;
use campaignd::store::{Change, Store};
use criterion::{BatchSize, Criterion, Throughput};

/// A job of some 400 bytes, as `campaignd enqueue` writes them.
const JOB: &[u8] = br#"{"job_id":"r00112233445566778899aabbccddeeff","campaign_id":"spring-sale","to":"905321234567","message":{"type":"template","template":{"name":"spring_sale_2026","language":{"code":"tr"},"components":[{"type":"body","parameters":[{"type":"text","text":"Deniz"},{"type":"text","text":"20 %"},{"type":"text","text":"30.11."}]}]}}}"#;

/// Records that share a commit, about as many as do under load.
const COMMIT: usize = 64;

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    job(&mut criterion)?;
    policy(&mut criterion)?;
    ledger(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}

fn job(criterion: &mut Criterion) -> anyhow::Result<()> {
    let job = Job::parse(JOB)?;
    criterion.bench_function("job: parse", |bencher| bencher.iter(|| Job::parse(black_box(JOB))));
    criterion.bench_function("job: request body", |bencher| bencher.iter(|| black_box(&job).request_body()));
    let (campaign, to) = (job.campaign, job.to);
    criterion.bench_function("job: derive id", |bencher| bencher.iter(|| JobId::derived(black_box(&campaign), to)));
    Ok(())
}

fn policy(criterion: &mut Criterion) -> anyhow::Result<()> {
    let subject = Subject {
        account: "main".parse()?,
        campaign: "spring-sale".parse()?,
        to: "905321234567".parse()?,
        message: MessageKind::Template,
        mmlite: false,
        attempts: 1,
    };
    let reply = Reply::Accepted { wamid: "wamid.HBgMOTA1MzIxMjM0NTY3".into() };
    let (rules, mut history, mut dice, now) = (Rules::builtin(), History::default(), dice::unforeseen(), Clock::system().wall());
    criterion.bench_function("policy: decide on accepted", |bencher| {
        bencher.iter(|| decide(&rules, &mut history, black_box(&subject), black_box(&reply), now, &mut dice));
    });
    Ok(())
}

fn ledger(criterion: &mut Criterion) -> anyhow::Result<()> {
    let dir = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    let store = SledStore::open(dir.path(), &Clock::system())?.store;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut next = 905_300_000_000_u64;
    let mut records = || -> anyhow::Result<Vec<Change>> {
        let campaign = "spring-sale".parse()?;
        let record = |_| {
            next += 1;
            let to: Recipient = next.to_string().parse()?;
            let sent = JobState::Sent { wamid: "wamid.HBgMOTA1MzIxMjM0NTY3".into() };
            Ok(Record::new(JobId::derived(&campaign, to), None, 0, sent, 1, 0, 0))
        };
        let records = (0..COMMIT).map(record).collect::<anyhow::Result<_>>()?;
        Ok(vec![Change::Ledger(campaign, records)])
    };
    let mut group = criterion.benchmark_group("ledger");
    group.throughput(Throughput::Elements(COMMIT as u64));
    group.bench_function("durable commit of 64 records", |bencher| {
        let setup = || records().unwrap_or_default();
        bencher.iter_batched(setup, |changes| runtime.block_on(store.commit(changes.into())), BatchSize::PerIteration);
    });
    group.finish();
    Ok(())
}
