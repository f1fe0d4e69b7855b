//! How often each rule has matched, by campaign, account and country: in memory and bounded. A restart counts anew.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Subject;
use super::country::calling_code;
use super::rules::{Per, Repeated, Threshold};
use crate::campaign::PauseTarget;
use crate::job::AccountName;

/// Campaigns, accounts and countries remembered at once; beyond it the one untouched for longest is forgotten.
const MAX_TARGETS: usize = 4096;

/// Repetition counts. What trips a threshold does not reset it: a success does, or [`History::forget`].
#[derive(Debug, Default)]
pub struct History {
    tallies: HashMap<Target, Tally>,
    steps: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Target {
    Paused(PauseTarget),
    Country(AccountName, u16),
}

#[derive(Debug, Default)]
struct Tally {
    touched: u64,
    counts: Vec<Count>,
}

#[derive(Debug)]
struct Count {
    rule: Arc<str>,
    in_a_row: u32,
    times: VecDeque<Timestamp>,
}

impl History {
    /// Counts anew for what a person has resumed. For an account that includes its countries, not its campaigns.
    pub fn forget(&mut self, target: &PauseTarget) {
        self.tallies.retain(|kept, _| match (kept, target) {
            (Target::Paused(kept), target) => kept != target,
            (Target::Country(account, _), PauseTarget::Account(name)) => account != name,
            (Target::Country(..), PauseTarget::Campaign(_)) => true,
        });
    }

    /// A message was accepted: what was in a row for its campaign, account and country is no longer.
    pub(super) fn succeeded(&mut self, subject: &Subject) {
        if self.tallies.is_empty() {
            return;
        }
        for per in [Per::Campaign, Per::Account, Per::Country] {
            let target = target(per, subject);
            if let Some(tally) = self.tallies.get_mut(&target) {
                tally.counts.retain(|count| !count.times.is_empty()); // what is counted within a time goes on
                if tally.counts.is_empty() {
                    self.tallies.remove(&target);
                }
            }
        }
    }

    /// Counts one more match of a rule; true once it has repeated often enough.
    pub(super) fn has_repeated(&mut self, rule: &Arc<str>, repeated: &Repeated, subject: &Subject, now: Timestamp) -> bool {
        let count = self.count(target(repeated.per, subject), rule);
        match repeated.threshold {
            Threshold::InARow(needed) => {
                count.in_a_row = count.in_a_row.saturating_add(1);
                count.in_a_row >= needed
            }
            Threshold::Within { count: needed, within } => {
                count.times.push_back(now);
                let kept = usize::try_from(needed).unwrap_or(usize::MAX);
                count.times.retain(|&time| is_within(time, now, within));
                while count.times.len() > kept {
                    count.times.pop_front();
                }
                count.times.len() >= kept
            }
        }
    }

    fn count(&mut self, target: Target, rule: &Arc<str>) -> &mut Count {
        if self.tallies.len() >= MAX_TARGETS && !self.tallies.contains_key(&target) {
            self.drop_stalest();
        }
        self.steps = self.steps.wrapping_add(1);
        let tally = self.tallies.entry(target).or_default();
        tally.touched = self.steps;
        let known = tally.counts.iter().position(|count| count.rule == *rule);
        let index = known.unwrap_or_else(|| {
            tally.counts.push(Count { rule: Arc::clone(rule), in_a_row: 0, times: VecDeque::new() });
            tally.counts.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the index was found or made one line above")]
        &mut tally.counts[index]
    }

    fn drop_stalest(&mut self) {
        let stalest = self.tallies.iter().min_by_key(|(_, tally)| tally.touched).map(|(target, _)| target.clone());
        if let Some(target) = stalest {
            self.tallies.remove(&target);
        }
    }
}

fn target(per: Per, subject: &Subject) -> Target {
    match per {
        Per::Campaign => Target::Paused(PauseTarget::Campaign(subject.campaign.clone())),
        Per::Account => Target::Paused(PauseTarget::Account(subject.account.clone())),
        Per::Country => Target::Country(subject.account.clone(), calling_code(subject.to)),
    }
}

/// A time ahead of now, after the wall clock was set back, counts as long gone.
fn is_within(time: Timestamp, now: Timestamp, within: Duration) -> bool {
    let age = now.duration_since(time);
    age >= SignedDuration::ZERO && age.unsigned_abs() < within
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::MessageKind;

    fn subject(number: u32) -> Subject {
        Subject {
            account: "main".parse().unwrap(),
            campaign: format!("c{number}").parse().unwrap(),
            to: "905321234567".parse().unwrap(),
            message: MessageKind::Template,
            mmlite: false,
            attempts: 1,
        }
    }

    fn repeated(threshold: Threshold) -> Repeated {
        Repeated { threshold, per: Per::Campaign, job: None, pause: None, slow_down: None, alert: None }
    }

    #[test]
    fn it_stays_bounded_and_forgets_what_was_untouched_for_longest() {
        let (mut history, rule, twice) = (History::default(), Arc::from("r"), repeated(Threshold::InARow(2)));
        let now = Timestamp::UNIX_EPOCH;
        for number in 0..5_000 {
            history.has_repeated(&rule, &twice, &subject(number), now);
            if number % 1000 == 0 {
                assert!(number == 0 || history.has_repeated(&rule, &twice, &subject(0), now), "touched often, so kept");
            }
        }
        assert_eq!(history.tallies.len(), MAX_TARGETS);
        assert!(!history.has_repeated(&rule, &twice, &subject(1), now), "long forgotten");
    }

    #[test]
    fn times_kept_are_no_more_than_the_threshold_needs() {
        let (mut history, rule) = (History::default(), Arc::from("r"));
        let ten = repeated(Threshold::Within { count: 10, within: Duration::from_secs(60) });
        for _ in 0..10_000 {
            history.has_repeated(&rule, &ten, &subject(0), Timestamp::UNIX_EPOCH);
        }
        assert!(history.tallies.values().all(|tally| tally.counts.iter().all(|count| count.times.len() <= 10)));
    }

    #[test]
    fn successes_leave_nothing_behind() {
        let (mut history, rule, twice) = (History::default(), Arc::from("r"), repeated(Threshold::InARow(2)));
        history.has_repeated(&rule, &twice, &subject(0), Timestamp::UNIX_EPOCH);
        history.succeeded(&subject(0));
        assert!(history.tallies.is_empty());
    }
}
