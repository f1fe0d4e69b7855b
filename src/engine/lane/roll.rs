//! One campaign as its lane sees it: the record, what holds it, its subscription, and the deliveries not yet begun.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::begin::Begun;
use super::looks::Shown;
use super::remnant::Remnant;
use crate::broker::{Delivery, Subscription, SubscriptionId, Tag};
use crate::campaign::{Campaign, Pause, Phase};
use crate::engine::gate::Gate;
use crate::engine::handle::Answer;
use crate::engine::meter::Meter;
use crate::engine::{CampaignState, Note};

/// A campaign in its lane.
pub(super) struct Roll {
    pub(super) campaign: Campaign,
    pub(super) gate: Gate,
    pub(super) link: Link,
    /// The campaign's queue is there and bound.
    pub(super) prepared: bool,
    pub(super) preparing: bool,
    /// The last try to make its queue failed.
    pub(super) unpreparable: bool,
    /// Its record is durable.
    pub(super) registered: bool,
    /// How the note about it at the broker stands.
    pub(super) note: NoteState,
    /// A note is on its way to the broker; one at a time, or an older one might come last.
    pub(super) noting: bool,
    /// The note on its way says that it is cancelled.
    pub(super) noting_cancel: bool,
    /// Deliveries not yet begun, at most the prefetch.
    pub(super) ready: VecDeque<Delivery>,
    /// The next job, looked at already and waiting for its turn.
    pub(super) head: Option<Begun>,
    /// Deliveries that came by the intake and belong into the campaign's queue.
    pub(super) arrivals: Vec<Delivery>,
    /// Those on their way there.
    pub(super) moving: usize,
    /// Announcements that are on disk and not yet noted at the broker: should the disk be lost before, they come again.
    pub(super) announcements: Vec<Tag>,
    /// Jobs begun and not yet settled.
    pub(super) in_hand: usize,
    /// Requests opened or under way.
    pub(super) sending: usize,
    /// It stands in the lane's turns.
    pub(super) queued: bool,
    pub(super) meter: Meter,
    /// Not before this is the next attempt at the broker worth it.
    pub(super) retry_at: Instant,
    /// The queue of a campaign that is over is being deleted.
    pub(super) removing: bool,
    /// The campaign is over and its queue still holds something that has to be settled first.
    pub(super) leftovers: bool,
    /// When something last came of it, or its queue was made, opened, filled by us or found to hold something.
    pub(super) last_delivery: Instant,
    /// The latest time until which a job of it may be neither here nor at its queue: delayed, or on its way back.
    pub(super) away_until: Instant,
    /// The broker knows that it is cancelled. Only then are its jobs taken off its queue: should the ledger be lost, nothing else
    /// would tell what became of them.
    pub(super) cancel_noted: bool,
    /// Who cancelled it, and is told once the broker knows.
    pub(super) canceller: Option<Answer<()>>,
    /// What an earlier life of the daemon may have left in its queue.
    pub(super) remnant: Remnant,
    /// Rounds of releasing dead letters that are under way.
    pub(super) release_rounds: usize,
    /// Not before this is a release taken up again that could not be carried out, or looked after once more.
    pub(super) release_at: Instant,
    /// When the last release was written into the ledger, at the latest.
    pub(super) released_at: Instant,
    /// When its next look is due, if that is known.
    pub(super) look_at: Option<Instant>,
    pub(super) shown: Shown,
}

/// The campaign's subscription.
pub(super) enum Link {
    Closed,
    Opening,
    Open(Subscription),
    /// No longer wanted since then: closed once nothing of it is in hand, so that what was begun can still be settled by it.
    Closing(Subscription, Instant),
}

/// How a note at the broker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoteState {
    Current,
    Outdated,
    Writing,
}

/// Wait after a failed try at the broker.
pub(super) const BROKER_RETRY: Duration = Duration::from_secs(1);

/// How long the queue of a campaign that is over must be quiet before it is deleted.
pub(super) const QUIET: Duration = Duration::from_secs(2);

impl Roll {
    pub(super) fn new(campaign: Campaign, pause: Option<Pause>, registered: bool, now: Instant, wall: Timestamp) -> Self {
        Self {
            gate: Gate::restored(pause, now, wall),
            link: Link::Closed,
            prepared: false,
            preparing: false,
            unpreparable: false,
            registered,
            note: NoteState::Outdated,
            noting: false,
            noting_cancel: false,
            ready: VecDeque::new(),
            head: None,
            arrivals: Vec::new(),
            moving: 0,
            announcements: Vec::new(),
            in_hand: 0,
            sending: 0,
            queued: false,
            meter: Meter::new(now),
            retry_at: now,
            removing: false,
            leftovers: campaign.phase == Phase::Cancelled && !campaign.queue_gone,
            last_delivery: now,
            away_until: now,
            cancel_noted: false,
            canceller: None,
            remnant: if registered { Remnant::Unknown { ask_at: now } } else { Remnant::None { since: now } },
            release_rounds: 0,
            release_at: now,
            released_at: now,
            look_at: None,
            shown: Shown::Not,
            campaign,
        }
    }

    /// A note about it is about to be written: as it is kept.
    pub(super) fn begin_note(&mut self) -> Vec<u8> {
        self.note = NoteState::Writing;
        self.noting = true;
        self.noting_cancel = self.campaign.phase == Phase::Cancelled;
        self.noted().to_bytes()
    }

    /// What is to be noted of it at the broker.
    pub(super) fn noted(&self) -> Note {
        Note { campaign: self.campaign.clone(), pause: self.gate.pause().cloned() }
    }

    /// Whether its queue should be consumed now.
    pub(super) fn wants_link(&self, account_open: bool) -> bool {
        match self.campaign.phase {
            Phase::Running => account_open && self.gate.is_open(),
            Phase::Cancelled | Phase::Finished => self.leftovers,
        }
    }

    /// Whether jobs of it may be begun now.
    pub(super) fn may_begin(&self, account_open: bool) -> bool {
        match self.campaign.phase {
            Phase::Running => account_open && self.gate.is_open(),
            Phase::Cancelled => self.cancel_noted,
            Phase::Finished => true,
        }
    }

    /// For how long its queue has been consumed and nothing has come, though nothing is known to be away.
    pub(super) fn quiet(&self, now: Instant) -> Duration {
        let idle = self.in_hand == 0 && self.ready.is_empty() && self.head.is_none();
        let listening = idle && matches!(self.link, Link::Open(_));
        if listening { now.saturating_duration_since(self.last_delivery.max(self.away_until)) } else { Duration::ZERO }
    }

    /// Nothing of it is here: begun, waiting for its turn, or on its way from the intake into its queue.
    pub(super) fn holds_nothing(&self) -> bool {
        let begun = self.in_hand == 0 && self.ready.is_empty() && self.head.is_none();
        begun && self.arrivals.is_empty() && self.moving == 0
    }

    /// It is over, nothing of it is in hand, and its queue has been quiet for a while.
    pub(super) fn is_quiet(&self, now: Instant) -> bool {
        let over = self.campaign.phase != Phase::Running && !self.campaign.queue_gone;
        over && self.holds_nothing() && !self.preparing && now.saturating_duration_since(self.last_delivery) >= QUIET
    }

    /// Its queue is quiet, and no longer consumed.
    pub(super) fn can_be_removed(&self, now: Instant) -> bool {
        self.is_quiet(now) && !self.removing && matches!(self.link, Link::Closed)
    }

    /// It holds jobs that may be begun but stands in no turn: they were left over from before a pause.
    pub(super) fn has_idle_jobs(&self, account_open: bool) -> bool {
        let some = !self.ready.is_empty() || self.head.is_some();
        some && !self.queued && self.may_begin(account_open)
    }

    pub(super) fn subscription(&self) -> Option<SubscriptionId> {
        match &self.link {
            Link::Open(subscription) | Link::Closing(subscription, _) => Some(subscription.id()),
            Link::Closed | Link::Opening => None,
        }
    }

    /// Where it stands, as operators see it.
    pub(super) fn state(&self, account_open: bool) -> CampaignState {
        match self.campaign.phase {
            Phase::Cancelled => CampaignState::Cancelled,
            Phase::Finished => CampaignState::Finished,
            Phase::Running if account_open && self.gate.is_open() => CampaignState::Running,
            Phase::Running => CampaignState::Paused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Message;
    use crate::campaign::Options;
    use crate::engine::triage::Triage;
    use crate::outcome::Settle;

    const WALL: Timestamp = Timestamp::UNIX_EPOCH;

    fn pause() -> Pause {
        Pause {
            cause: "c".into(),
            rule: None,
            since: WALL,
            until: None,
            by: "operator".into(),
            advice: String::new(),
            probe: false,
        }
    }

    fn roll(phase: Phase, pause: Option<Pause>, now: Instant) -> Roll {
        let mut campaign = Campaign::new("c".parse().unwrap(), "main".parse().unwrap(), Options::default(), WALL);
        campaign.phase = phase;
        Roll::new(campaign, pause, true, now, WALL)
    }

    fn open() -> Link {
        Link::Open(Subscription::new(SubscriptionId(7), ()))
    }

    fn delivery() -> Delivery {
        let tag = Tag { subscription: SubscriptionId(7), number: 1 };
        Delivery { tag, message: Message::default(), redelivered: false }
    }

    fn head() -> Begun {
        let key = ("c".parse().unwrap(), "j".parse().unwrap());
        Begun { key, delivery: delivery(), job: None, entry: None, triage: Triage::Settle(Settle::Ack) }
    }

    /// Each thing that a campaign may have to do still.
    fn busy() -> [fn(&mut Roll); 3] {
        [|roll| roll.in_hand = 1, |roll| roll.ready.push_back(delivery()), |roll| roll.head = Some(head())]
    }

    #[test]
    fn a_campaign_sends_only_when_neither_it_nor_its_account_is_paused() {
        let now = Instant::now();
        for (held, account_open, sends) in [(false, true, true), (false, false, false), (true, true, false), (true, false, false)]
        {
            let roll = roll(Phase::Running, held.then(pause), now);
            assert_eq!(roll.wants_link(account_open), sends);
            assert_eq!(roll.may_begin(account_open), sends);
            assert_eq!(roll.state(account_open), if sends { CampaignState::Running } else { CampaignState::Paused });
            assert_eq!(roll.noted().pause, held.then(pause));
        }
    }

    #[test]
    fn what_is_noted_at_the_broker_can_be_read_again() {
        for phase in [Phase::Running, Phase::Cancelled] {
            let mut roll = roll(phase, Some(pause()), Instant::now());
            assert_eq!(Note::parse(&roll.begin_note()), Some(roll.noted()));
            assert!(roll.noting && roll.note == NoteState::Writing);
            assert_eq!(roll.noting_cancel, phase == Phase::Cancelled);
        }
    }

    #[test]
    fn one_that_is_over_is_worked_off_though_paused_and_consumed_only_while_something_is_left() {
        let now = Instant::now();
        for (phase, state, leftovers) in
            [(Phase::Cancelled, CampaignState::Cancelled, true), (Phase::Finished, CampaignState::Finished, false)]
        {
            let mut roll = roll(phase, Some(pause()), now);
            assert_eq!((roll.state(true), roll.state(false)), (state, state));
            assert_eq!(roll.may_begin(false), phase == Phase::Finished, "what is cancelled only once the broker knows");
            roll.cancel_noted = true;
            assert!(roll.may_begin(false));
            assert_eq!((roll.wants_link(true), roll.wants_link(false)), (leftovers, leftovers));
        }
        let mut gone = roll(Phase::Cancelled, None, now);
        gone.campaign.queue_gone = true;
        let gone = Roll::new(gone.campaign, None, true, now, WALL);
        assert!(!gone.wants_link(true), "its queue is deleted already");
    }

    #[test]
    fn its_queue_is_quiet_since_the_last_delivery_and_the_last_delay_while_it_is_consumed_and_nothing_is_in_hand() {
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        let mut roll = roll(Phase::Running, None, now);
        assert_eq!(roll.quiet(later(30)), Duration::ZERO, "nobody listens");
        roll.link = open();
        assert_eq!(roll.quiet(later(30)), Duration::from_secs(30));
        roll.last_delivery = later(5);
        assert_eq!(roll.quiet(later(30)), Duration::from_secs(25));
        roll.away_until = later(20);
        assert_eq!(roll.quiet(later(30)), Duration::from_secs(10));
        for busy in busy() {
            let mut roll = self::roll(Phase::Running, None, now);
            roll.link = open();
            busy(&mut roll);
            assert_eq!(roll.quiet(later(30)), Duration::ZERO);
        }
    }

    #[test]
    fn the_queue_of_one_that_is_over_is_deleted_once_it_is_quiet_and_no_longer_consumed() {
        let now = Instant::now();
        let quiet = now + QUIET;
        let over = || roll(Phase::Cancelled, None, now);
        assert!(over().is_quiet(quiet) && over().can_be_removed(quiet));
        assert!(!over().is_quiet(quiet - Duration::from_millis(1)), "too soon");
        assert!(!roll(Phase::Running, None, now).is_quiet(quiet), "not over");
        let more: [fn(&mut Roll); 3] =
            [|roll| roll.arrivals.push(delivery()), |roll| roll.preparing = true, |roll| roll.campaign.queue_gone = true];
        for not_yet in busy().into_iter().chain(more) {
            let mut roll = over();
            not_yet(&mut roll);
            assert!(!roll.is_quiet(quiet) && !roll.can_be_removed(quiet));
        }
        let kept: [fn(&mut Roll); 2] = [|roll| roll.link = open(), |roll| roll.removing = true];
        for kept in kept {
            let mut roll = over();
            kept(&mut roll);
            assert!(roll.is_quiet(quiet) && !roll.can_be_removed(quiet));
        }
    }

    #[test]
    fn jobs_left_over_from_before_a_pause_get_a_turn_once_it_is_lifted() {
        let now = Instant::now();
        assert!(!roll(Phase::Running, None, now).has_idle_jobs(true), "it holds none");
        for holds in busy().into_iter().skip(1) {
            let mut roll = roll(Phase::Running, None, now);
            holds(&mut roll);
            assert!(roll.has_idle_jobs(true) && !roll.has_idle_jobs(false));
            roll.queued = true;
            assert!(!roll.has_idle_jobs(true), "it has its turn");
        }
    }

    #[test]
    fn a_subscription_that_is_closing_still_settles_what_came_by_it() {
        let now = Instant::now();
        let mut roll = roll(Phase::Running, None, now);
        assert_eq!(roll.subscription(), None);
        roll.link = Link::Opening;
        assert_eq!(roll.subscription(), None);
        for link in [open(), Link::Closing(Subscription::new(SubscriptionId(7), ()), now)] {
            roll.link = link;
            assert_eq!(roll.subscription(), Some(SubscriptionId(7)));
        }
    }
}
