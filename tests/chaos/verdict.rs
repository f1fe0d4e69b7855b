//! Recipient by recipient: the gateway's books, the dead letters, the campaign's counts.

use std::collections::BTreeMap;
use std::time::Duration;

use campaignd::engine::{CampaignView, DeadLetter};
use campaignd::outcome::{POISON, UNKNOWN_OUTCOME};
use serde_json::Value;
use tokio::time::Instant;

use crate::daemon::pause_a_little;
use crate::world::World;

/// How long dead letters may take to be where the counts say that they are.
const LETTERS: Duration = Duration::from_secs(30);

/// What a comparison came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Compared {
    pub(crate) recipients: u64,
    pub(crate) sent: u64,
    pub(crate) dead: u64,
    /// Messages beyond the first.
    pub(crate) copies: u64,
    /// Recipients with more than one message although their campaign parks.
    pub(crate) twice: u64,
    /// Recipients with neither a message nor a dead letter.
    pub(crate) missing: u64,
    /// What the campaign did not keep of its promise, in words.
    pub(crate) wrong: Vec<String>,
}

impl Compared {
    pub(crate) fn add(&mut self, other: &Self) {
        self.recipients += other.recipients;
        self.sent += other.sent;
        self.dead += other.dead;
        self.copies += other.copies;
        self.twice += other.twice;
        self.missing += other.missing;
        self.wrong.extend_from_slice(&other.wrong);
    }
}

/// What may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// One message or one dead letter; both only if the outcome is unknown, which it is for this many at most.
    Park { unknown: u64 },
    /// One message at least or one dead letter, with at most this many copies in all.
    Resend { copies: u64 },
}

/// Compares. What is wrong is told with full numbers: they are the test's own.
pub(crate) async fn compare(world: &World, campaign: &str, people: &[u64], promise: Promise) -> Compared {
    let view = world.daemon.campaign(campaign).await.expect("the daemon answers");
    let letters = dead_letters(world, campaign, view.dead).await;
    let books = world.simulator.books();
    let reasons = |number: &u64| letters.get(number).map_or(&[][..], Vec::as_slice);
    let judged = people.iter().filter_map(|number| {
        let (times, reasons) = (books.times(*number), reasons(number));
        judge(times, reasons, promise).map(|what| format!("{number}: {what} ({times} messages, dead letters {reasons:?})"))
    });
    let mut wrong: Vec<String> = judged.collect();
    let strangers = letters.keys().filter(|number| !people.contains(number));
    wrong.extend(strangers.map(|number| format!("{number}: a dead letter for nobody")));
    wrong.extend(count(&view, people, &letters));
    let times = || people.iter().map(|number| books.times(*number));
    let copies = times().map(|times| u64::from(times.saturating_sub(1))).sum();
    let unknown = letters.values().flatten().filter(|reason| is_unknown(reason)).count() as u64;
    wrong.extend(too_many(promise, copies, unknown));
    let twice = if matches!(promise, Promise::Park { .. }) { times().filter(|times| *times > 1).count() as u64 } else { 0 };
    let missing = people.iter().filter(|number| books.times(**number) == 0 && !letters.contains_key(number)).count() as u64;
    let wrong = wrong.iter().map(|what| format!("campaign {campaign}: {what}")).collect();
    Compared { recipients: people.len() as u64, sent: view.sent, dead: view.dead, copies, twice, missing, wrong }
}

fn is_unknown(reason: &str) -> bool {
    matches!(reason, UNKNOWN_OUTCOME | POISON)
}

/// What is wrong with one recipient who got so many messages and has dead letters for these reasons.
fn judge(times: u32, reasons: &[String], promise: Promise) -> Option<&'static str> {
    let (park, unknown) = (matches!(promise, Promise::Park { .. }), reasons.first().is_some_and(|reason| is_unknown(reason)));
    match (times, reasons.len()) {
        (0, 0) => Some("missing: neither a message nor a dead letter"),
        (_, 2..) => Some("more than one dead letter"),
        (1.., 1) if park && !unknown => Some("got the message, and the dead letter says otherwise"),
        (2.., _) if park => Some("got it twice"),
        _ => None,
    }
}

/// Only what was under way when something happened can be unknown or be sent again.
fn too_many(promise: Promise, copies: u64, unknown: u64) -> Option<String> {
    let (what, number, most) = match promise {
        Promise::Park { unknown: most } => ("unknown outcomes", unknown, most),
        Promise::Resend { copies: most } => ("copies", copies, most),
    };
    (number > most).then(|| format!("{number} {what}; at most {most} can have been under way"))
}

fn count(view: &CampaignView, people: &[u64], letters: &BTreeMap<u64, Vec<String>>) -> Vec<String> {
    let (all, dead) = (people.len() as u64, letters.values().map(|reasons| reasons.len() as u64).sum::<u64>());
    let pairs = [("enqueued", view.enqueued, all), ("dead", view.dead, dead), ("sent", view.sent, all - dead.min(all))];
    pairs
        .iter()
        .filter(|(_, is, should)| is != should)
        .map(|(name, is, should)| format!("{name} is {is}, not {should}"))
        .collect()
}

/// The reasons of every recipient's dead letters, once all that the campaign counts are there. A job whose letter was not confirmed
/// before a kill comes again for it, and may do so after the campaign is over by its counts.
async fn dead_letters(world: &World, campaign: &str, counted: u64) -> BTreeMap<u64, Vec<String>> {
    let path = format!("campaigns/{campaign}/dead?bodies=true&limit=1000000");
    let end = Instant::now() + LETTERS;
    loop {
        let letters: Vec<DeadLetter> = world.daemon.until("the dead letters", async || world.daemon.get(&path).await).await;
        if letters.len() as u64 >= counted || Instant::now() >= end {
            return by_recipient(letters);
        }
        pause_a_little().await;
    }
}

fn by_recipient(letters: Vec<DeadLetter>) -> BTreeMap<u64, Vec<String>> {
    let mut found: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for letter in letters {
        let body: Value = serde_json::from_str(letter.body.as_deref().expect("a body")).expect("a job");
        let number = body["to"].as_str().and_then(|to| to.parse().ok()).expect("a recipient");
        found.entry(number).or_default().push(letter.death.reason);
    }
    found
}

#[test]
fn a_broken_promise_is_told() {
    let (park, resend) = (Promise::Park { unknown: 1 }, Promise::Resend { copies: 1 });
    let (unknown, refused) = ([UNKNOWN_OUTCOME.to_owned()], ["recipient-unreachable".to_owned()]);
    for promise in [park, resend] {
        assert!(judge(0, &[], promise).is_some_and(|what| what.contains("missing")));
        assert!(judge(0, &refused, promise).is_none());
        assert!(judge(0, &[unknown.clone(), unknown.clone()].concat(), promise).is_some());
        assert!(judge(1, &[], promise).is_none() && judge(1, &unknown, promise).is_none());
    }
    assert!(judge(1, &refused, park).is_some() && judge(1, &refused, resend).is_none());
    assert!(judge(2, &[], park).is_some() && judge(2, &unknown, park).is_some() && judge(2, &[], resend).is_none());
    assert!(too_many(park, 9, 1).is_none() && too_many(park, 0, 2).is_some());
    assert!(too_many(resend, 1, 9).is_none() && too_many(resend, 2, 0).is_some());
}
