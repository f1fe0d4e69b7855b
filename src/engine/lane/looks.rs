//! Which campaigns need a look though nothing happened to them: one with something to do at every tick, one at rest when its time comes.
//! So thousands of campaigns that are over, or wait for jobs, cost nothing.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::remnant::Remnant;
use super::roll::{Link, NoteState, Roll};
use super::{Gauge, Lane};
use crate::campaign::Phase;
use crate::engine::CampaignState;
use crate::job::CampaignId;

/// A campaign at rest is looked at this often all the same: the wall clock, by which ledgers are cleaned up, may jump.
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// The next look at each campaign. One may come earlier than it need.
#[derive(Debug, Default)]
pub(super) struct Looks(BTreeSet<(Instant, CampaignId)>);

impl Looks {
    /// Campaigns whose look is due.
    fn due(&mut self, now: Instant) -> impl Iterator<Item = CampaignId> {
        std::iter::from_fn(move || {
            self.0.first().filter(|(at, _)| *at <= now)?;
            self.0.pop_first().map(|(_, id)| id)
        })
    }
}

/// As what a campaign counts in its lane's gauge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// It is over.
    Not,
    Linked,
    Unlinked,
    Paused,
}

impl Shown {
    /// The counters it counts in.
    fn counters(self, gauge: &Gauge) -> impl Iterator<Item = &AtomicUsize> {
        let (one, other) = match self {
            Self::Not => (None, None),
            Self::Linked => (Some(&gauge.running), None),
            Self::Unlinked => (Some(&gauge.running), Some(&gauge.unlinked)),
            Self::Paused => (Some(&gauge.paused), None),
        };
        one.into_iter().chain(other)
    }
}

impl Lane {
    /// Gives attention to the campaigns whose look is due.
    pub(super) fn look_around(&mut self, now: Instant) {
        for id in self.looks.due(now) {
            if let Some(roll) = self.rolls.get_mut(&id) {
                roll.look_at = None;
                self.attention.insert(id);
            }
        }
    }

    /// A campaign has been looked after: when next, and how it counts in the gauge until then.
    pub(super) fn looked_after(&mut self, id: &CampaignId, now: Instant) {
        let (account_open, wall) = (self.is_open(), self.clock.wall());
        let retention = self.settings.ledger_retention;
        let Some(roll) = self.rolls.get_mut(id) else { return };
        let shown = roll.to_show(account_open);
        let before = std::mem::replace(&mut roll.shown, shown);
        if before != shown {
            for counter in before.counters(&self.gauge) {
                counter.fetch_sub(1, Ordering::Relaxed);
            }
            for counter in shown.counters(&self.gauge) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }
        let at = if roll.is_at_rest(account_open) { now + roll.rest(retention, now, wall) } else { self.next_look };
        if roll.look_at.is_none_or(|earlier| at < earlier) {
            if let Some(late) = roll.look_at.replace(at) {
                self.looks.0.remove(&(late, id.clone()));
            }
            self.looks.0.insert((at, id.clone()));
        }
    }
}

impl Roll {
    fn to_show(&self, account_open: bool) -> Shown {
        match self.state(account_open) {
            CampaignState::Running if self.subscription().is_some() => Shown::Linked,
            CampaignState::Running => Shown::Unlinked,
            CampaignState::Paused => Shown::Paused,
            CampaignState::Cancelled | CampaignState::Finished => Shown::Not,
        }
    }

    /// Everything is as it should be, and stays so until something happens or a known time comes.
    fn is_at_rest(&self, account_open: bool) -> bool {
        let settled = self.holds_nothing() && self.announcements.is_empty();
        let noted = self.registered && self.note == NoteState::Current && !self.noting;
        let linked = match self.campaign.phase {
            // without its ledger it is over when nothing has come for a while
            Phase::Running if self.campaign.counts_since.is_some() || self.is_to_be_counted() => false,
            Phase::Running if self.wants_link(account_open) => matches!(self.link, Link::Open(_)),
            Phase::Running => matches!(self.link, Link::Closed),
            Phase::Cancelled | Phase::Finished => self.campaign.queue_gone && matches!(self.link, Link::Closed),
        };
        settled && noted && linked && !self.preparing && !self.removing && !self.campaign.releasing
    }

    /// All its jobs are settled, but for what an earlier life may have left at the broker.
    fn is_to_be_counted(&self) -> bool {
        let counts = &self.campaign.counts;
        !matches!(self.remnant, Remnant::None { .. }) && counts.is_sealed() && counts.open() == 0
    }

    /// How long it rests: until its pause is over, or its ledger is to be cleaned up.
    fn rest(&self, retention: Duration, now: Instant, wall: Timestamp) -> Duration {
        let pause = self.gate.opens_at().map(|at| at.saturating_duration_since(now));
        let cleaning = self.campaign.forgettable_in(retention, wall);
        pause.into_iter().chain(cleaning).fold(LONGEST_REST, Duration::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::{Campaign, Options, Pause};

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn roll(phase: Phase, pause: Option<Pause>, now: Instant) -> Roll {
        let wall = Timestamp::UNIX_EPOCH;
        let mut campaign = Campaign::new("spring".parse().unwrap(), "main".parse().unwrap(), Options::default(), wall);
        if phase != Phase::Running {
            campaign.finish(wall);
            campaign.queue_gone = true;
        }
        let mut roll = Roll::new(campaign, pause, true, now, wall);
        roll.note = NoteState::Current;
        roll
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_over_rests_until_its_ledger_is_cleaned_up_and_then_for_good() {
        let now = Instant::now();
        let mut over = roll(Phase::Finished, None, now);
        assert!(over.is_at_rest(true) && over.is_at_rest(false));
        let almost = Timestamp::UNIX_EPOCH + DAY - Duration::from_secs(60);
        let rest = over.rest(DAY, now, almost);
        assert!(rest > Duration::from_secs(60) && rest < Duration::from_secs(61), "{rest:?}");
        over.campaign.ledger_gone = true;
        assert_eq!(over.rest(DAY, now, almost), LONGEST_REST);
    }

    #[tokio::test(start_paused = true)]
    async fn one_with_something_to_do_does_not_rest() {
        let now = Instant::now();
        assert!(!roll(Phase::Running, None, now).is_at_rest(true), "its queue is to be consumed");
        let over = roll(Phase::Finished, None, now);
        let there = Campaign { queue_gone: false, ..over.campaign.clone() };
        let queue_there = Roll { campaign: there, ..roll(Phase::Finished, None, now) };
        assert!(!queue_there.is_at_rest(true), "its queue is to be deleted");
        let releasing =
            Roll { campaign: Campaign { releasing: true, ..over.campaign.clone() }, ..roll(Phase::Finished, None, now) };
        assert!(!releasing.is_at_rest(true), "its dead letters are to be released");
        let mut settled = roll(Phase::Running, None, now);
        settled.campaign.counts.announce(None, 0);
        assert!(!settled.is_at_rest(false), "what an earlier life left in its queue is to be counted");
        settled.remnant = Remnant::None { since: now };
        assert!(settled.is_at_rest(false));
        let unnoted = Roll { note: NoteState::Outdated, ..roll(Phase::Finished, None, now) };
        assert!(!unnoted.is_at_rest(true), "its note is to be written");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_rested_through_and_no_longer() {
        let (now, minute) = (Instant::now(), Duration::from_secs(60));
        let until = Some(Timestamp::UNIX_EPOCH + minute);
        let paused = roll(Phase::Running, Some(Pause::example(until)), now);
        assert!(paused.is_at_rest(true));
        assert_eq!(paused.rest(DAY, now, Timestamp::UNIX_EPOCH), minute);
        assert!(roll(Phase::Running, None, now).is_at_rest(false), "the account's pause ends with attention for all");
    }

    #[test]
    fn looks_come_when_they_are_due_and_not_before() {
        let (now, mut looks) = (Instant::now(), Looks::default());
        let second = Duration::from_secs(1);
        looks.0.extend([(now + second, "b".parse().unwrap()), (now, "a".parse().unwrap())]);
        assert_eq!(looks.due(now).map(|id| id.to_string()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(looks.due(now + second).count(), 1);
        assert_eq!(looks.due(now + second).count(), 0);
    }
}
