//! Beginning jobs: whose turn it is, what the ledger says, and the opening of an attempt. Nothing is sent here.

use std::time::Duration;

use tokio::time::Instant;

use super::{Active, Key, Lane, Step};
use crate::broker::Delivery;
use crate::campaign::{Entry, JobState, LONGEST_AWAY, Record};
use crate::engine::triage::{Case, Triage, own_death, triage};
use crate::job::{CampaignId, Job, JobId};
use crate::outcome::Settle;
use crate::pacer::Slot;
use crate::store::StoreError;

/// A delivery that has been looked at: which job it is, and what to do.
pub(super) struct Begun {
    pub(super) key: Key,
    pub(super) delivery: Delivery,
    pub(super) job: Option<Job>,
    pub(super) entry: Option<Entry>,
    pub(super) triage: Triage,
}

/// What a delivery turned out to be.
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
enum Look {
    Begun(Begun),
    /// Another copy of a job in hand: kept until that is settled.
    Copy,
    /// What the ledger says of it is being written; the delivery comes back.
    Early(Delivery),
    /// The ledger cannot be read now; the delivery comes back.
    Unreadable(Delivery),
}

/// How far one campaign got in its turn.
enum Turn {
    /// It began a job, or settled one without sending.
    Moved,
    /// It has nothing to begin.
    Empty,
    /// It must wait for one of its own jobs; others may go on.
    Skip,
    /// The whole account must wait, until then if that is known.
    Wait(Option<Instant>),
}

impl Lane {
    /// Begins as many jobs as turns, limits and the pacer allow; when to look again if the pacer said so.
    pub(super) fn begin_jobs(&mut self, now: Instant) -> Option<Instant> {
        let mut skipped = 0;
        while skipped < self.turns.len() && !self.stopping && !self.journal.is_stuck() {
            let Some((id, credit)) = self.turns.pop_front() else { break };
            match self.turn(&id, now) {
                Turn::Moved if credit > 1 => self.turns.push_front((id, credit - 1)),
                Turn::Moved => {
                    let credit = self.credit(&id);
                    self.turns.push_back((id, credit));
                }
                Turn::Empty => {
                    if let Some(roll) = self.rolls.get_mut(&id) {
                        roll.queued = false;
                    }
                    self.attention.insert(id);
                    continue;
                }
                Turn::Skip => {
                    self.turns.push_back((id, credit));
                    skipped += 1;
                    continue;
                }
                Turn::Wait(until) => {
                    self.turns.push_front((id, credit));
                    return until;
                }
            }
            skipped = 0;
        }
        None
    }

    fn credit(&self, id: &CampaignId) -> u32 {
        self.rolls.get(id).map_or(1, |roll| roll.campaign.options.priority.jobs_per_turn())
    }

    /// Puts a campaign into the turns if it has something to begin.
    pub(super) fn queue_turn(&mut self, id: &CampaignId) {
        let credit = self.credit(id);
        if let Some(roll) = self.rolls.get_mut(id).filter(|roll| !roll.queued) {
            roll.queued = true;
            self.turns.push_back((id.clone(), credit));
        }
    }

    fn turn(&mut self, id: &CampaignId, now: Instant) -> Turn {
        let account_open = self.is_open();
        let Some(roll) = self.rolls.get_mut(id) else { return Turn::Empty };
        if !roll.may_begin(account_open) {
            return Turn::Empty;
        }
        let begun = match roll.head.take() {
            Some(begun) => self.look_again(id, begun),
            None => {
                let Some(delivery) = roll.ready.pop_front() else { return Turn::Empty };
                match self.look_at(id, delivery) {
                    Look::Begun(begun) => begun,
                    Look::Copy => return Turn::Moved,
                    Look::Early(delivery) => return self.put_back(id, delivery, Turn::Skip),
                    Look::Unreadable(delivery) => {
                        return self.put_back(id, delivery, Turn::Wait(Some(now + super::STORE_RETRY)));
                    }
                }
            }
        };
        self.act(id, begun, now)
    }

    fn put_back(&mut self, id: &CampaignId, delivery: Delivery, turn: Turn) -> Turn {
        if let Some(roll) = self.rolls.get_mut(id) {
            roll.ready.push_front(delivery);
        }
        turn
    }

    /// Parses the delivery and asks the ledger.
    fn look_at(&mut self, id: &CampaignId, delivery: Delivery) -> Look {
        let parsed = Job::parse(&delivery.message.body).map_err(|error| ("malformed", error.to_string())).and_then(|job| {
            if job.campaign == *id {
                Ok(job)
            } else {
                Err(("wrong-campaign", "campaign_id is not the campaign it was routed to".into()))
            }
        });
        let job_id = parsed.as_ref().map_or_else(|_| JobId::unreadable(&delivery.message.body), |job| job.id.clone());
        let key = (id.clone(), job_id);
        if let Some(active) = self.active.get_mut(&key) {
            active.copies.push(delivery);
            return Look::Copy;
        }
        if self.untouched.contains(&key) {
            return Look::Early(delivery);
        }
        let entry = match self.store.find(&key.0, &key.1) {
            Ok(entry) => entry,
            Err(error) => {
                self.complain_of_store(&error);
                return Look::Unreadable(delivery);
            }
        };
        let Some(roll) = self.rolls.get(id) else { return Look::Copy };
        let now = self.clock.wall();
        let (job, triage) = match parsed {
            Ok(job) => {
                let suppressed = self.suppressed.contains(&job.to);
                let (headers, redelivered, campaign) = (&delivery.message.headers, delivery.redelivered, &roll.campaign);
                let (entry, most_lost) = (entry.as_ref(), self.settings.most_lost_attempts);
                let case = Case { job: &job, headers, redelivered, campaign, entry, suppressed, most_lost, now };
                let triage = triage(&case);
                (Some(job), triage)
            }
            Err((reason, description)) => (None, unreadable(reason, &description, entry.as_ref(), now)),
        };
        Look::Begun(Begun { key, delivery, job, entry, triage })
    }

    /// While a job waited for its turn it may have been cancelled, become late, or its recipient been suppressed.
    fn look_again(&self, id: &CampaignId, mut begun: Begun) -> Begun {
        if let (Some(job), Some(roll)) = (&begun.job, self.rolls.get(id)) {
            begun.triage = triage(&Case {
                job,
                headers: &begun.delivery.message.headers,
                redelivered: begun.delivery.redelivered,
                campaign: &roll.campaign,
                entry: begun.entry.as_ref(),
                suppressed: self.suppressed.contains(&job.to),
                most_lost: self.settings.most_lost_attempts,
                now: self.clock.wall(),
            });
        }
        begun
    }

    fn act(&mut self, id: &CampaignId, begun: Begun, now: Instant) -> Turn {
        let mut slot = None;
        let (state, attempts, release, step): (_, _, _, fn(Key, Settle) -> Step) = match &begun.triage {
            Triage::Settle(settle) => {
                let settle = settle.clone();
                let key = begun.key.clone();
                self.note_batch(&begun, now);
                self.take_in_hand(id, begun, 0);
                if let Settle::Delay(wait) = &settle {
                    self.note_away(id, *wait, now);
                }
                self.journal.follow(Step::Settle(key, settle), now);
                return Turn::Moved;
            }
            Triage::Record { state, attempts, release, .. } => (state.clone(), *attempts, *release, Step::Settle),
            Triage::Send { attempts, release } => {
                match self.take_slot(id, now) {
                    Ok(taken) => slot = Some(taken),
                    Err(wait) => {
                        if let Some(roll) = self.rolls.get_mut(id) {
                            roll.head = Some(begun);
                        }
                        return wait;
                    }
                }
                (JobState::Opened, attempts + 1, *release, |key, _| Step::Send(key))
            }
        };
        let settle = match &begun.triage {
            Triage::Record { settle, .. } => settle.clone(),
            _ => Settle::Ack,
        };
        self.reopen(id, now); // it had not come to its end after all
        let opens = matches!(state, JobState::Opened);
        let batch = self.batch_of(id, begun.delivery.message.headers.batch.as_deref(), now);
        let record = Record::new(begun.key.1.clone(), begun.entry.as_ref(), batch, state, attempts, release, self.era(id));
        let key = begun.key.clone();
        let active = self.take_in_hand(id, begun, batch);
        active.attempts = attempts;
        active.release = release;
        active.entry = Some(record.now.clone());
        active.begun = now;
        active.slot = slot;
        if opens {
            self.sending += 1;
        }
        if let Some(roll) = self.rolls.get_mut(id) {
            roll.sending += usize::from(opens);
        }
        self.enter(id, record, Some(step(key, settle)), now);
        Turn::Moved
    }

    /// A place in the gateway's windows, or why a job may not be sent right now.
    fn take_slot(&mut self, id: &CampaignId, now: Instant) -> Result<Slot, Turn> {
        let places = self.pacer.most_in_flight(self.max_in_flight);
        let most = if self.gate.is_probing() { 1 } else { places + self.ahead.most(places, self.pacer.rate()) };
        if self.sending >= most {
            return Err(Turn::Wait(None));
        }
        if self.rolls.get(id).is_some_and(|roll| roll.gate.is_probing() && roll.sending > 0) {
            return Err(Turn::Skip);
        }
        self.pacer.try_take(now).map_err(|at| Turn::Wait(Some(at)))
    }

    fn take_in_hand(&mut self, id: &CampaignId, begun: Begun, batch: u8) -> &mut Active {
        if let Some(roll) = self.rolls.get_mut(id) {
            roll.in_hand += 1;
        }
        let first_seen = begun.delivery.message.headers.first_seen.unwrap_or_else(|| self.clock.wall());
        let active = Active {
            tag: begun.delivery.tag,
            copies: Vec::new(),
            redelivered: begun.delivery.redelivered,
            message: begun.delivery.message,
            attempts: begun.entry.as_ref().map_or(0, |entry| entry.attempts),
            release: begun.entry.as_ref().map_or(0, |entry| entry.release),
            entry: begun.entry,
            job: begun.job,
            batch,
            first_seen,
            begun: self.clock.now(),
            slot: None,
        };
        self.active.entry(begun.key).insert_entry(active).into_mut()
    }

    /// A settled job seen in another batch is counted there as a duplicate.
    fn note_batch(&mut self, begun: &Begun, now: Instant) {
        let Some(entry) = &begun.entry else { return };
        let id = &begun.key.0;
        let batch = self.batch_of(id, begun.delivery.message.headers.batch.as_deref(), now);
        let state = entry.state.clone();
        let record = Record::new(begun.key.1.clone(), Some(entry), batch, state, entry.attempts, entry.release, self.era(id));
        if record.counted_in.is_none() {
            return;
        }
        self.enter(id, record, None, now);
    }

    /// Enters a record in the campaign's ledger and counts; with a step that follows once it is durable.
    pub(super) fn enter(&mut self, id: &CampaignId, record: Record, step: Option<Step>, now: Instant) {
        if let JobState::Delayed { until } = &record.now.state {
            let away = Duration::try_from(until.duration_since(self.clock.wall())).unwrap_or_default();
            self.note_away(id, away, now);
        }
        let Some(roll) = self.rolls.get_mut(id) else { return };
        roll.campaign.apply(&record);
        self.journal.record(id, record, step, now);
    }

    /// A job of the campaign may not be at its queue for so long.
    pub(super) fn note_away(&mut self, id: &CampaignId, away: Duration, now: Instant) {
        if let Some(roll) = self.rolls.get_mut(id) {
            roll.away_until = roll.away_until.max(now + away.min(LONGEST_AWAY));
        }
    }

    /// How often the campaign's ledger has been lost: what is written now is from after that.
    pub(super) fn era(&self, id: &CampaignId) -> u32 {
        self.rolls.get(id).map_or(0, |roll| roll.campaign.losses)
    }

    /// The batch's index; a batch nobody announced is written into the campaign's record with the first job of it.
    pub(super) fn batch_of(&mut self, id: &CampaignId, name: Option<&str>, now: Instant) -> u8 {
        let Some(roll) = self.rolls.get_mut(id) else { return 0 };
        let before = roll.campaign.counts.batches.len();
        let index = roll.campaign.counts.batch_index(name);
        if roll.campaign.counts.batches.len() != before {
            self.put_campaign(id, None, now);
        }
        index
    }

    pub(super) fn complain_of_store(&self, error: &StoreError) {
        tracing::error!(account = %self.account, %error, "the ledger cannot be read; sending waits");
    }
}

/// What becomes of a body that is no job of this campaign.
fn unreadable(reason: &str, description: &str, entry: Option<&Entry>, now: jiff::Timestamp) -> Triage {
    match entry.map(|entry| &entry.state) {
        Some(JobState::Dead(death)) => Triage::Settle(Settle::Dead(death.clone())),
        _ => {
            let death = own_death(reason, description, now);
            Triage::Record { state: JobState::Dead(death.clone()), attempts: 0, release: 0, settle: Settle::Dead(death) }
        }
    }
}
