//! What a campaign is and the states it can be in. Pure transitions: nothing here waits, stores or sends.

mod announcement;
mod counts;
mod ledger;
mod pause;

pub use announcement::{Announcement, AnnouncementError};
pub use counts::{Batch, Counts, MAX_BATCHES};
pub use ledger::{Entry, JobState, Record, StateTag};
pub use pause::{Pause, PauseTarget};

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::job::{AccountName, CampaignId};

/// A campaign's record. It outlives its ledger, so that its id is not used again by accident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Campaign {
    /// Its id.
    pub id: CampaignId,
    /// The account it sends by.
    pub account: AccountName,
    /// The account it was announced for, when a job that came before the announcement had tied it to another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced_account: Option<AccountName>,
    /// How it sends.
    #[serde(default)]
    pub options: Options,
    /// A producer has said how it sends; until then the options are the defaults.
    #[serde(default)]
    pub announced: bool,
    /// Where it is in its life; a pause is kept apart from this.
    pub phase: Phase,
    /// How many jobs there are, and what became of them.
    #[serde(default)]
    pub counts: Counts,
    /// When this daemon first heard of it.
    pub created: Timestamp,
    /// When it was finished or cancelled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// How often its ledger was lost or put back from an older copy. After that, a redelivered job of which the ledger says nothing, or
    /// nothing since, may have been sent.
    #[serde(default)]
    pub losses: u32,
    /// When that last happened: what was settled before is missing in the counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts_since: Option<Timestamp>,
    /// It is over, and its queue has been deleted.
    #[serde(default)]
    pub queue_gone: bool,
    /// Its queue is still to be made. One that is there was left by a daemon that died over it, and nothing was ever routed to it.
    #[serde(default)]
    pub queue_unmade: bool,
    /// Its ledger has been cleaned up; only the counts remain.
    #[serde(default)]
    pub ledger_gone: bool,
    /// What the ledger that was cleaned up had counted: jobs that come all the same are counted on top of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleaned_counts: Option<Counts>,
    /// The ledger says of some of its dead letters that they are released, and they may not be published yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub releasing: bool,
}

/// How long the queue of a campaign whose ledger was lost must be quiet before the campaign counts as over.
const QUIET_AFTER_LOSS: Duration = Duration::from_secs(10);

/// How long after the loss it may be so at the earliest while the ledger says that jobs are under way: none is delayed for longer than a
/// day.
pub(crate) const LONGEST_AWAY: Duration = Duration::from_secs(25 * 3600);

/// How a campaign sends. Given by its announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// `is_fake`: a rehearsal, nothing reaches a phone.
    pub sandbox: bool,
    /// `mmlite`: by Marketing Messages Lite.
    pub mmlite: bool,
    /// What to do when nobody knows whether a message was sent.
    pub on_unknown: OnUnknown,
    /// Its share of the account's turns.
    pub priority: Priority,
}

/// What to do with a job whose outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnknown {
    /// Dead-letter it as *outcome unknown*, for a person to release: never twice.
    #[default]
    Park,
    /// Send it again: never missing, possibly twice.
    Resend,
}

/// A campaign's share of its account's turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// One job a turn.
    Low,
    /// Two jobs a turn.
    #[default]
    Normal,
    /// Four jobs a turn.
    High,
}

impl Priority {
    /// Jobs it may start each time its turn comes.
    #[must_use]
    pub const fn jobs_per_turn(self) -> u32 {
        match self {
            Self::Low => 1,
            Self::Normal => 2,
            Self::High => 4,
        }
    }
}

/// Where a campaign is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It sends, unless a pause holds it.
    Running,
    /// A person called it off; what is left of its jobs is being taken off the queue.
    Cancelled,
    /// Sealed, and every job settled.
    Finished,
}

impl Campaign {
    /// A campaign nobody has counted yet.
    #[must_use]
    pub fn new(id: CampaignId, account: AccountName, options: Options, created: Timestamp) -> Self {
        Self {
            id,
            account,
            announced_account: None,
            options,
            announced: false,
            phase: Phase::Running,
            counts: Counts::default(),
            created,
            ended: None,
            losses: 0,
            counts_since: None,
            queue_gone: false,
            queue_unmade: true,
            ledger_gone: false,
            cleaned_counts: None,
            releasing: false,
        }
    }

    /// Brings the counts in line with `replayed`, a sum over the records that its ledger holds now.
    pub fn recount(&mut self, replayed: Option<&Counts>) {
        let before =
            if self.ledger_gone { Some(self.cleaned_counts.get_or_insert_with(|| self.counts.clone()).clone()) } else { None };
        let nothing = Counts::default();
        self.counts = self.counts.with_replayed(replayed.unwrap_or(&nothing));
        if let Some(before) = before {
            self.counts.add(&before);
        }
    }

    /// Its ledger is cleaned up; what it had counted stays.
    pub fn clean_up(&mut self) {
        self.ledger_gone = true;
        self.cleaned_counts = Some(self.counts.clone());
    }

    /// Takes a ledger record into the counts.
    pub fn apply(&mut self, record: &Record) {
        self.counts.apply(record);
    }

    /// Sealed and settled, but not yet said so. `quiet`: for how long its queue has been consumed and nothing has come.
    ///
    /// With its ledger lost, the counts no longer tell: then it is over when nothing comes any more. A job that comes all the same opens
    /// it again.
    #[must_use]
    pub fn is_complete(&self, quiet: Duration, now: Timestamp) -> bool {
        let under_way = self.counts.in_flight + self.counts.delayed > 0;
        let long_ago = |lost: Timestamp| Duration::try_from(now.duration_since(lost)).is_ok_and(|since| since >= LONGEST_AWAY);
        let nothing_comes = |lost| quiet >= QUIET_AFTER_LOSS && (!under_way || long_ago(lost));
        let settled = self.counts.open() == 0 || self.counts_since.is_some_and(nothing_comes);
        self.phase == Phase::Running && self.counts.is_sealed() && settled
    }

    /// Its ledger is lost, wholly or from some moment on.
    pub const fn lose_ledger(&mut self, now: Timestamp) {
        self.losses = self.losses.saturating_add(1);
        self.counts_since = Some(now);
        self.queue_unmade = false; // it may have been made since
    }

    /// Takes up what was `noted` of it at the broker and is missing here, because its ledger was put back from an older copy.
    pub fn catch_up(&mut self, noted: &Self) {
        if noted.announced {
            self.options = noted.options;
            self.announced = true;
        }
        self.counts.catch_up(&noted.counts);
        self.queue_gone &= noted.queue_gone;
        match noted.phase {
            Phase::Running => drop(self.reopen()),
            Phase::Cancelled => (self.phase, self.ended) = (Phase::Cancelled, noted.ended),
            // it is so again once nothing comes any more
            Phase::Finished => {}
        }
        self.queue_unmade = false;
    }

    /// Over for longer than `retention`, its queue gone: nothing of it can come any more that the ledger would have to know.
    #[must_use]
    pub fn is_forgettable(&self, retention: Duration, now: Timestamp) -> bool {
        self.forgettable_in(retention, now).is_some_and(|left| left.is_zero())
    }

    /// How long until that is so, if nothing else happens; none when it needs more than time.
    #[must_use]
    pub fn forgettable_in(&self, retention: Duration, now: Timestamp) -> Option<Duration> {
        let ended = self.ended.filter(|_| self.queue_gone && !self.ledger_gone)?;
        let over = Duration::try_from(now.duration_since(ended)).unwrap_or_default();
        // longer than the retention
        Some(if over > retention { Duration::ZERO } else { retention - over + Duration::from_nanos(1) })
    }

    /// Marks it finished.
    pub fn finish(&mut self, now: Timestamp) {
        self.phase = Phase::Finished;
        self.ended = Some(now);
        if self.counts_since.is_some() {
            self.counts.forget_unseen();
        }
    }

    /// Calls it off. A finished campaign stays finished: there is nothing left to call off.
    pub fn cancel(&mut self, now: Timestamp) -> bool {
        let can = self.phase == Phase::Running;
        if can {
            self.phase = Phase::Cancelled;
            self.ended = Some(now);
        }
        can
    }

    /// A finished campaign goes on: more jobs were announced, one came late, or a dead letter was released. Not one whose ledger is
    /// cleaned up: nobody can tell any more who got it.
    pub fn reopen(&mut self) -> bool {
        let can = self.phase == Phase::Finished && !self.ledger_gone;
        if can {
            self.phase = Phase::Running;
            self.ended = None;
            self.queue_unmade |= self.queue_gone;
            self.queue_gone = false;
        }
        can
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn campaign() -> Campaign {
        Campaign::new("c".parse().unwrap(), "main".parse().unwrap(), Options::default(), NOW)
    }

    fn sent(job: &str, counts: &mut Counts) -> Record {
        let batch = counts.batch_index(None);
        Record::new(job.parse().unwrap(), None, batch, JobState::Sent { wamid: "w".into() }, 1, 0, 0)
    }

    #[test]
    fn it_is_complete_only_when_sealed_and_settled() {
        let mut campaign = campaign();
        let record = sent("1", &mut campaign.counts);
        campaign.apply(&record);
        assert!(!campaign.is_complete(Duration::ZERO, NOW), "nobody has said how many jobs there are");
        campaign.counts.announce(None, 2);
        assert!(!campaign.is_complete(Duration::ZERO, NOW), "one has not come yet");
        let record = sent("2", &mut campaign.counts);
        campaign.apply(&record);
        assert!(campaign.is_complete(Duration::ZERO, NOW));
        campaign.finish(NOW);
        assert!(
            !campaign.is_complete(Duration::ZERO, NOW) && !campaign.cancel(NOW),
            "finished once, and nothing left to call off"
        );
        campaign.queue_gone = true;
        assert!(campaign.reopen());
        assert_eq!((campaign.phase, campaign.ended, campaign.queue_gone), (Phase::Running, None, false));
    }

    #[test]
    fn a_queue_is_known_to_be_unmade_only_until_it_is_made_and_while_the_ledger_is_whole() {
        let mut campaign = campaign();
        assert!(campaign.queue_unmade);
        campaign.queue_unmade = false;
        campaign.finish(NOW);
        assert!(campaign.reopen() && !campaign.queue_unmade, "its queue is there still");
        campaign.finish(NOW);
        campaign.queue_gone = true;
        assert!(campaign.reopen() && campaign.queue_unmade, "a new one is to be made");
        campaign.lose_ledger(NOW);
        assert!(!campaign.queue_unmade, "it may have been made since the ledger's last word");
    }

    #[test]
    fn with_its_ledger_lost_it_is_over_when_nothing_comes_any_more() {
        let (quiet, later) = (QUIET_AFTER_LOSS, NOW.checked_add(LONGEST_AWAY).unwrap());
        let mut campaign = campaign();
        campaign.counts.announce(None, 5);
        let record = sent("1", &mut campaign.counts);
        campaign.apply(&record);
        assert!(!campaign.is_complete(quiet, later), "its counts tell");
        campaign.lose_ledger(NOW);
        assert!(!campaign.is_complete(quiet / 2, later));
        let open = Record::new("2".parse().unwrap(), None, 0, JobState::Opened, 1, 0, 0);
        campaign.apply(&open);
        assert!(!campaign.is_complete(LONGEST_AWAY / 2, NOW), "it may be delayed");
        assert!(!campaign.is_complete(Duration::ZERO, later) && campaign.is_complete(quiet, later));
        campaign.apply(&Record::new("2".parse().unwrap(), Some(&open.now), 0, JobState::Expired, 1, 0, 0));
        assert!(campaign.is_complete(quiet, NOW));
        campaign.finish(NOW);
        assert_eq!((campaign.counts.enqueued(), campaign.counts.waiting()), (2, 0), "who was settled before is not counted");
    }

    #[test]
    fn an_older_copy_catches_up_with_what_was_noted_of_it() {
        let mut older = campaign();
        older.counts.announce(Some("a"), 2);
        let mut noted = older.clone();
        noted.announced = true;
        noted.options.on_unknown = OnUnknown::Resend;
        noted.counts.batch_index(None);
        noted.counts.announce(Some("b"), 3);
        noted.cancel(NOW);
        older.catch_up(&noted);
        noted.queue_unmade = false;
        assert_eq!(older, noted, "its queue may have been made since");
        noted.counts.batches.clear();
        older.catch_up(&noted);
        assert_eq!(older.counts.enqueued(), 5, "a note that is behind takes nothing away");
        let mut finished = campaign();
        finished.finish(NOW);
        finished.queue_gone = true;
        finished.catch_up(&campaign());
        assert_eq!((finished.phase, finished.queue_gone), (Phase::Running, false), "it had been opened again since");
    }

    #[test]
    fn a_queue_is_gone_only_when_ledger_and_note_say_so() {
        for (ours, noted) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut older = campaign();
            older.cancel(NOW);
            let noted = Campaign { queue_gone: noted, ..older.clone() };
            older.queue_gone = ours;
            older.catch_up(&noted);
            assert_eq!(older.queue_gone, ours && noted.queue_gone);
        }
    }

    #[test]
    fn a_lost_ledger_is_outlasted_by_any_delay() {
        let mut campaign = campaign();
        campaign.counts.announce(None, 1);
        campaign.apply(&Record::new("1".parse().unwrap(), None, 0, JobState::Delayed { until: NOW }, 1, 0, 0));
        campaign.lose_ledger(NOW);
        let after = |hours| NOW.checked_add(jiff::SignedDuration::from_hours(hours)).unwrap();
        assert!(!campaign.is_complete(QUIET_AFTER_LOSS, after(24)), "a job may be delayed for a day");
        assert!(campaign.is_complete(QUIET_AFTER_LOSS, after(25)));
    }

    #[test]
    fn a_higher_priority_has_twice_the_jobs_a_turn() {
        assert_eq!([Priority::Low, Priority::Normal, Priority::High].map(Priority::jobs_per_turn), [1, 2, 4]);
    }

    #[test]
    fn a_cancelled_campaign_stays_cancelled() {
        let mut campaign = campaign();
        assert!(campaign.cancel(NOW));
        assert!(!campaign.reopen());
        assert_eq!(campaign.phase, Phase::Cancelled);
    }

    #[test]
    fn its_ledger_may_go_only_long_after_its_end_and_without_a_queue() {
        let day = Duration::from_secs(86_400);
        let later = |days: i64| NOW.checked_add(jiff::SignedDuration::from_secs(days * 86_400)).unwrap();
        let mut campaign = campaign();
        assert!(!campaign.is_forgettable(day, later(9)), "still running");
        campaign.finish(NOW);
        assert!(!campaign.is_forgettable(day, later(9)), "its queue may hold something");
        campaign.queue_gone = true;
        assert!(!campaign.is_forgettable(day, later(1)));
        assert!(campaign.is_forgettable(day, later(2)));
        campaign.clean_up();
        assert!(!campaign.is_forgettable(day, later(2)), "once is enough");
        assert!(!campaign.reopen(), "nobody knows any more who got it");
    }

    #[test]
    fn what_comes_after_its_ledger_was_cleaned_up_is_counted_on_top() {
        let mut campaign = campaign();
        campaign.counts.announce(Some("file"), 2);
        for job in ["1", "2"] {
            campaign.apply(&Record::new(job.parse().unwrap(), None, 0, JobState::Sent { wamid: "w".into() }, 1, 0, 0));
        }
        campaign.clean_up();
        let stray = campaign.counts.batch_index(Some("stray"));
        let death = crate::broker::Death::new(NOW, "campaign-over");
        let late = Record::new("1".parse().unwrap(), None, stray, JobState::Dead(death), 0, 0, 0);
        campaign.apply(&late);
        let told = campaign.counts.clone();
        assert_eq!((told.enqueued(), told.sent, told.dead, told.waiting()), (3, 2, 1, 0));
        let mut replayed = Counts::default();
        replayed.apply(&late);
        campaign.recount(Some(&replayed));
        assert_eq!(campaign.counts, told, "as before the restart");
        campaign.recount(None);
        assert_eq!((campaign.counts.enqueued(), campaign.counts.sent), (2, 2), "nothing but what was cleaned up");
    }
}
