//! How many jobs a campaign has and what became of them. The sum always adds up: what is waiting is what remains.

use serde::{Deserialize, Serialize};

use super::{Record, StateTag};

/// Batches told apart within a campaign; later ones share the last place.
pub const MAX_BATCHES: usize = 64;

/// A campaign's counts: a sum over its ledger records and its producers' announcements.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// One attempt is open.
    pub in_flight: u64,
    /// To be tried again later.
    pub delayed: u64,
    /// Accepted by the gateway.
    pub sent: u64,
    /// In the dead letters.
    pub dead: u64,
    /// Called off before they were sent.
    pub cancelled: u64,
    /// Too late to be sent.
    pub expired: u64,
    /// Jobs seen again in another batch; counted once.
    pub duplicates: u64,
    /// The batches the jobs came in.
    pub batches: Vec<Batch>,
}

/// One producer's file, or all jobs that came without a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Batch {
    /// Its name; none for jobs that came without.
    pub name: Option<String>,
    /// How many distinct jobs its producer announced.
    pub announced: Option<u64>,
    /// How many of them have been seen.
    pub seen: u64,
}

pub(super) const fn batch_bit(index: u8) -> u64 {
    1 << (index & 63)
}

impl Counts {
    /// The index of the batch of that name, made when it is new.
    pub fn batch_index(&mut self, name: Option<&str>) -> u8 {
        let found = self.batches.iter().position(|batch| batch.name.as_deref() == name);
        let index = found.unwrap_or_else(|| {
            if self.batches.len() < MAX_BATCHES {
                self.batches.push(Batch { name: name.map(str::to_owned), ..Batch::default() });
            }
            self.batches.len() - 1
        });
        u8::try_from(index).unwrap_or(u8::MAX)
    }

    /// A producer said how many jobs a batch has. `true` if that was news.
    pub fn announce(&mut self, name: Option<&str>, jobs: u64) -> bool {
        let index = self.batch_index(name);
        let Some(batch) = self.batches.get_mut(usize::from(index)) else { return false };
        let news = batch.announced != Some(jobs);
        batch.announced = Some(jobs);
        news
    }

    /// Takes one ledger record in.
    pub fn apply(&mut self, record: &Record) {
        self.shift(record.was, record.now.state.tag(), record.counted_in);
    }

    /// Takes in what a ledger record says, without the record: one job went from `was` to `now`, counted in a batch or not.
    pub fn shift(&mut self, was: Option<StateTag>, now: StateTag, counted_in: Option<u8>) {
        if let Some(place) = was.and_then(|tag| self.place(tag)) {
            *place = place.saturating_sub(1);
        }
        if let Some(place) = self.place(now) {
            *place += 1;
        }
        if let Some(index) = counted_in {
            if was.is_some() {
                self.duplicates += 1;
            }
            let index = usize::from(index);
            if index >= self.batches.len() {
                self.batches.resize_with((index + 1).min(MAX_BATCHES), Batch::default);
            }
            if let Some(batch) = self.batches.get_mut(index) {
                batch.seen += 1;
            }
        }
    }

    fn place(&mut self, tag: StateTag) -> Option<&mut u64> {
        match tag {
            StateTag::Waiting => None,
            StateTag::Opened => Some(&mut self.in_flight),
            StateTag::Delayed => Some(&mut self.delayed),
            StateTag::Sent => Some(&mut self.sent),
            StateTag::Dead => Some(&mut self.dead),
            StateTag::Cancelled => Some(&mut self.cancelled),
            StateTag::Expired => Some(&mut self.expired),
        }
    }

    /// Jobs known of: announced or seen, each once.
    #[must_use]
    pub fn enqueued(&self) -> u64 {
        // a producer may announce any number
        let each = self.batches.iter().map(|batch| batch.announced.unwrap_or(0).max(batch.seen));
        each.fold(0, u64::saturating_add).saturating_sub(self.duplicates)
    }

    /// Jobs that nothing has been done for yet, or that were put back.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let elsewhere = self.in_flight + self.delayed + self.sent + self.dead + self.cancelled + self.expired;
        self.enqueued().saturating_sub(elsewhere)
    }

    /// Jobs not yet settled.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.waiting() + self.in_flight + self.delayed
    }

    /// The producers have said how many jobs there are. A named batch without a count, left by an enqueue that was interrupted,
    /// does not keep a campaign open once another one is whole: what comes of it later opens the campaign again.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        let sealed = |batch: &Batch| batch.announced.is_some();
        self.batches.iter().any(sealed) && self.batches.iter().all(|batch| sealed(batch) || batch.name.is_some())
    }

    /// These announcements with what `replayed`, a sum over the ledger's records from nothing, counted.
    #[must_use]
    pub fn with_replayed(&self, replayed: &Self) -> Self {
        let mut batches = self.batches.clone();
        batches.resize_with(batches.len().max(replayed.batches.len()), Batch::default);
        for (index, batch) in batches.iter_mut().enumerate() {
            batch.seen = replayed.batches.get(index).map_or(0, |found| found.seen);
        }
        Self { batches, ..replayed.clone() }
    }

    /// Adds what `others` have counted; the announcements stay.
    pub fn add(&mut self, others: &Self) {
        let places =
            [StateTag::Opened, StateTag::Delayed, StateTag::Sent, StateTag::Dead, StateTag::Cancelled, StateTag::Expired];
        let mut others = others.clone();
        for tag in places {
            if let (Some(place), Some(more)) = (self.place(tag), others.place(tag)) {
                *place += *more;
            }
        }
        self.duplicates += others.duplicates;
        for (batch, more) in self.batches.iter_mut().zip(&others.batches) {
            batch.seen += more.seen;
        }
    }

    /// Takes up the announcements of `later` counts of the same campaign.
    pub fn catch_up(&mut self, later: &Self) {
        for noted in &later.batches {
            let index = usize::from(self.batch_index(noted.name.as_deref()));
            if let Some(batch) = self.batches.get_mut(index) {
                batch.announced = batch.announced.max(noted.announced);
            }
        }
    }

    /// Those announced and never seen are not waited for any more.
    pub fn forget_unseen(&mut self) {
        for batch in &mut self.batches {
            batch.announced = batch.announced.map(|announced| announced.min(batch.seen));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::broker::Death;
    use crate::campaign::{Entry, JobState};

    fn state(number: u8) -> JobState {
        let at = jiff::Timestamp::UNIX_EPOCH;
        let death = Death::new(at, "r");
        match number % 7 {
            0 => JobState::Opened,
            1 => JobState::Waiting,
            2 => JobState::Delayed { until: at },
            3 => JobState::Sent { wamid: "w".into() },
            4 => JobState::Dead(death),
            5 => JobState::Cancelled,
            _ => JobState::Expired,
        }
    }

    #[test]
    fn batches_beyond_the_last_place_share_it() {
        let mut counts = Counts::default();
        let places: Vec<u8> = (0..66).map(|number| counts.batch_index(Some(&number.to_string()))).collect();
        assert_eq!((&places[..2], &places[62..]), (&[0, 1][..], &[62, 63, 63, 63][..]));
        assert_eq!(counts.batches.len(), MAX_BATCHES);
    }

    #[test]
    fn an_announcement_is_news_once() {
        let mut counts = Counts::default();
        assert!(counts.announce(Some("a"), 5) && !counts.announce(Some("a"), 5) && counts.announce(Some("a"), 6));
    }

    #[test]
    fn what_is_under_way_or_delayed_is_open() {
        let counts = Counts { in_flight: 2, delayed: 3, sent: 5, ..Counts::default() };
        assert_eq!(counts.open(), 5);
    }

    #[test]
    fn a_jobs_batches_are_remembered_by_the_bits_of_their_numbers() {
        let job = || "j".parse().unwrap();
        let first = Record::new(job(), None, 0, JobState::Opened, 1, 0, 0);
        let second = Record::new(job(), Some(&first.now), 63, JobState::Waiting, 1, 0, 0);
        let again = Record::new(job(), Some(&second.now), 0, JobState::Opened, 2, 0, 0);
        assert_eq!([first.now.batches, second.now.batches, again.now.batches], [1, 1 | 1 << 63, 1 | 1 << 63]);
        assert_eq!([first.counted_in, second.counted_in, again.counted_in], [Some(0), Some(63), None]);
    }

    #[test]
    fn whatever_is_announced_adds_up() {
        let mut counts = Counts::default();
        counts.announce(Some("a"), u64::MAX);
        counts.announce(Some("b"), 2);
        assert_eq!((counts.enqueued(), counts.waiting(), counts.open()), (u64::MAX, u64::MAX, u64::MAX));
    }

    proptest! {
        #[test]
        fn counts_add_up_after_every_record_and_a_replay_gives_the_same(
            announced in proptest::option::of(0u64..40),
            steps in proptest::collection::vec((0u8..12, 0u8..7, 0usize..3), 0..120),
        ) {
            let names = [None, Some("a"), Some("b")];
            let mut counts = Counts::default();
            if let Some(jobs) = announced {
                counts.announce(Some("a"), jobs);
            }
            let mut entries: BTreeMap<u8, Entry> = BTreeMap::new();
            let mut records = Vec::new();
            for (job, to, batch) in steps {
                let index = counts.batch_index(names[batch]);
                let record = Record::new(format!("j{job}").parse().unwrap(), entries.get(&job), index, state(to), 1, 0, 0);
                counts.apply(&record);
                entries.insert(job, record.now.clone());
                records.push(record);
                let settled = counts.sent + counts.dead + counts.cancelled + counts.expired;
                prop_assert_eq!(counts.enqueued(), counts.waiting() + counts.in_flight + counts.delayed + settled);
                prop_assert!(counts.enqueued() >= entries.len() as u64);
                let in_flight = entries.values().filter(|entry| entry.state == JobState::Opened).count() as u64;
                prop_assert_eq!(counts.in_flight, in_flight);
            }
            let mut replayed = counts.with_replayed(&Counts::default());
            records.iter().for_each(|record| replayed.apply(record));
            prop_assert_eq!(&replayed, &counts);
            let mut from_nothing = Counts::default();
            records.iter().for_each(|record| from_nothing.apply(record));
            prop_assert_eq!(&counts.with_replayed(&from_nothing), &counts);
        }
    }

    #[test]
    fn a_batch_that_was_never_published_whole_keeps_nothing_open() {
        let mut counts = Counts::default();
        let interrupted = counts.batch_index(Some("interrupted"));
        counts.apply(&Record::new("1".parse().unwrap(), None, interrupted, state(3), 1, 0, 0));
        assert!(!counts.is_sealed());
        counts.announce(Some("whole"), 0);
        assert!(counts.is_sealed());
        counts.batch_index(None);
        assert!(!counts.is_sealed(), "a producer without batches has not said how many it has");
    }

    #[test]
    fn the_same_batch_twice_counts_once_and_another_batch_tells_duplicates() {
        let mut counts = Counts::default();
        let a = counts.batch_index(Some("a"));
        let first = Record::new("1".parse().unwrap(), None, a, state(3), 1, 0, 0);
        counts.apply(&first);
        let again = Record::new("1".parse().unwrap(), Some(&first.now), a, state(3), 1, 0, 0);
        assert_eq!(again.counted_in, None);
        let b = counts.batch_index(Some("b"));
        let other = Record::new("1".parse().unwrap(), Some(&first.now), b, state(3), 1, 0, 0);
        counts.apply(&other);
        assert_eq!((counts.enqueued(), counts.duplicates, counts.sent), (1, 1, 1));
    }
}
