//! Looking through a campaign's dead letters and releasing them. What is not touched is neither lost nor reordered.
//!
//! A release is two walks along the shelf. The first writes into the ledger which jobs are released, and is answered once that is
//! durable. The second publishes them and takes their letters off. The campaign's record says from the first entry on that this is
//! to be done, so that a daemon that starts after a kill does it.

mod walk;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt};
use tokio::time::{Instant, timeout};

use super::roll::{BROKER_RETRY, Roll};
use super::settle::{Chore, reply};
use super::{Lane, Step};
use crate::broker::{Broker, BrokerError, Delivery, Headers, Message, Tag, Target};
use crate::campaign::{Entry, JobState, PauseTarget, Phase, Record};
use crate::engine::handle::{Answer, Reader};
use crate::engine::view::{DeadLetter, DeadSelection};
use crate::engine::{CommandError, show};
use crate::job::{CampaignId, Job, JobId};
use crate::store::Store;
use walk::Walk;

/// Releases published at the same time.
const RELEASES_AT_ONCE: usize = 128;

/// How long after a release its letters are looked for once more. What a connection that died unnoticed has in hand is back by then:
/// RabbitMQ gives it up after two heartbeats, and a heartbeat may be five minutes.
const LAST_LOOK: Duration = Duration::from_secs(660);

/// Longest reading of one list.
const READ_WITHIN: Duration = Duration::from_secs(600);

/// Longest wait for whoever reads a list to take its next letter: meanwhile nobody else can look.
const READER_WITHIN: Duration = Duration::from_secs(30);

/// A walk, and what it is for.
pub(super) struct Round {
    walk: Walk,
    purpose: Purpose,
}

enum Purpose {
    /// Writes into the ledger what a person releases.
    Release(Release),
    /// Publishes what the ledger says is released.
    Deliver,
}

/// What a person asked to be released.
struct Release {
    selection: DeadSelection,
    released: u64,
    /// Why it did not get further.
    failed: Option<CommandError>,
    answer: Answer<u64>,
}

/// What the ledger says of a letter.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// It may be released.
    Dead,
    /// It is released, and to be published.
    Released,
    /// What it stood for is settled otherwise.
    Past,
}

impl Lane {
    fn walk(&self, campaign: CampaignId) -> Walk {
        Walk::new(Arc::clone(&self.broker), Arc::clone(&self.letters_turn), campaign, self.settings.shelf_page)
    }

    /// Shows letters; nothing of the lane is touched.
    pub(super) fn list(&self, campaign: CampaignId, selection: DeadSelection, bodies: bool, reader: Reader) {
        let (mut walk, mut stopping) = (self.walk(campaign), self.stopping_told.subscribe());
        let work = async move {
            let read = tokio::select! {
                biased;
                _ = stopping.wait_for(|stopping| *stopping) => Err(CommandError::Stopping),
                read = timeout(READ_WITHIN, read_out(&mut walk, &selection, bodies, &reader)) => match read {
                    Ok(read) => read.map_err(|error| unavailable(&error)),
                    Err(_) => Err(unavailable(&BrokerError::Timeout(READ_WITHIN))),
                },
            };
            walk.end().await;
            let last = read.map(|()| None);
            drop(reader.send_timeout(last, READER_WITHIN).await);
            Chore::Done
        };
        self.chores.push(work.boxed());
    }

    /// Releases what a person has selected.
    pub(super) fn begin_release(&mut self, campaign: CampaignId, selection: DeadSelection, answer: Answer<u64>) {
        let Some(roll) = self.rolls.get_mut(&campaign) else {
            return reply(answer, Err(CommandError::NotFound(PauseTarget::Campaign(campaign))));
        };
        let refuse = |why: &str| Err(CommandError::Conflict(format!("campaign {campaign} {why}")));
        match roll.campaign.phase {
            Phase::Cancelled => reply(answer, refuse("is cancelled; nothing of it is sent any more")),
            _ if roll.campaign.ledger_gone => reply(
                answer,
                refuse(
                    "is long over and its ledger cleaned up: nobody can tell any more who got it; enqueue these people in a new one",
                ),
            ),
            _ => {
                roll.release_rounds += 1;
                let purpose = Purpose::Release(Release { selection, released: 0, failed: None, answer });
                self.step(Round { walk: self.walk(campaign), purpose });
            }
        }
    }

    /// Goes on with a release that a kill, or the broker, has interrupted.
    pub(super) fn resume_release(&mut self, id: &CampaignId) {
        let Some(roll) = self.rolls.get_mut(id) else { return };
        roll.release_rounds += 1;
        self.step(Round { walk: self.walk(id.clone()), purpose: Purpose::Deliver });
    }

    fn step(&self, mut round: Round) {
        let work = async move {
            let letters = round.walk.next().await;
            Chore::Letters(Box::new(round), letters.map_err(|error| unavailable(&error)))
        };
        self.chores.push(work.boxed());
    }

    /// The next letters of a walk, or none at its end.
    pub(super) fn on_letters(&mut self, round: Round, letters: Result<Vec<Delivery>, CommandError>) {
        match letters {
            Err(error) => self.end_round(round, Err(error)),
            Ok(letters) if letters.is_empty() => self.end_round(round, Ok(())),
            Ok(_) if self.stopping => self.end_round(round, Err(CommandError::Stopping)),
            Ok(letters) => match round.purpose {
                Purpose::Release(release) => self.release(round.walk, release, &letters),
                Purpose::Deliver => self.deliver(round.walk, letters),
            },
        }
    }

    /// Writes releases into the ledger; the walk goes on once they are durable.
    fn release(&mut self, walk: Walk, mut release: Release, letters: &[Delivery]) {
        let now = self.clock.now();
        for letter in letters {
            if release.is_enough() {
                break;
            }
            match self.mark_released(walk.campaign(), &release.selection, letter, now) {
                Ok(marked) => release.released += u64::from(marked),
                Err(error) => {
                    release.failed = Some(error);
                    break; // what was marked before has to be durable first
                }
            }
        }
        let round = Round { walk, purpose: Purpose::Release(release) };
        self.journal.follow(Step::Letters(Box::new(round)), now);
    }

    /// What was written of the last letters is durable.
    pub(super) fn on_released(&mut self, round: Round) {
        let called_off = self.rolls.get(round.walk.campaign()).is_none_or(|roll| roll.campaign.phase == Phase::Cancelled);
        let Round { walk, purpose: Purpose::Release(mut release) } = round else { return };
        let (failed, enough) = (release.failed.take(), called_off || release.is_enough());
        let round = Round { walk, purpose: Purpose::Release(release) };
        match failed {
            Some(error) => self.end_round(round, Err(error)),
            None if enough => self.end_round(round, Ok(())),
            None => self.step(round),
        }
    }

    /// Whether the letter's job is released by this.
    fn mark_released(
        &mut self,
        id: &CampaignId,
        selection: &DeadSelection,
        letter: &Delivery,
        now: Instant,
    ) -> Result<bool, CommandError> {
        let view = show::dead_letter(id, letter, false);
        let meant = selection.takes(&view) && (selection.unknown_too || !view.death.may_have_been_sent);
        let Some(job) = job_of(id, letter).filter(|_| meant) else { return Ok(false) };
        let key = (id.clone(), job);
        // A further copy of the same letter goes with the first.
        if self.active.contains_key(&key) || self.untouched.contains(&key) {
            return Ok(false);
        }
        let entry = self.store.find(&key.0, &key.1).map_err(|error| unavailable(&error))?;
        let (headers, before) = (&letter.message.headers, entry.as_ref());
        let standing = standing(before, headers.release);
        self.note_release(id, now); // also of one that is past: its letter has to go
        if standing != Standing::Dead {
            return Ok(false);
        }
        let batch = self.batch_of(id, headers.batch.as_deref(), now);
        let record = Record::new(key.1.clone(), before, batch, JobState::Waiting, 0, headers.release + 1, self.era(id));
        self.untouched.insert(key.clone()); // a copy in the queue has to wait until the store knows of the release
        self.enter(id, record, Some(Step::Untouched(key)), now);
        self.reopen(id, now);
        Ok(true)
    }

    /// Writes into the campaign's record that a release has to be carried out.
    fn note_release(&mut self, id: &CampaignId, now: Instant) {
        let roll = self.rolls.get_mut(id).filter(|roll| !roll.campaign.releasing);
        let Some(roll) = roll else { return };
        roll.campaign.releasing = true;
        self.put_campaign(id, None, now);
    }

    /// Publishes those of these letters that the ledger says are released, and takes them off.
    fn deliver(&self, mut walk: Walk, letters: Vec<Delivery>) {
        let (broker, store) = (Arc::clone(&self.broker), Arc::clone(&self.store));
        let work = async move {
            let delivered = deliver(broker.as_ref(), store.as_ref(), &mut walk, letters).await;
            let next = match delivered {
                Ok(()) => walk.next().await.map_err(|error| unavailable(&error)),
                Err(error) => Err(error),
            };
            Chore::Letters(Box::new(Round { walk, purpose: Purpose::Deliver }), next)
        };
        self.chores.push(work.boxed());
    }

    /// The first walk is followed by the second, before anybody else looks; after that the campaign has no release under way.
    fn end_round(&mut self, round: Round, result: Result<(), CommandError>) {
        let Round { walk, purpose } = round;
        let id = walk.campaign().clone();
        let now = self.clock.now();
        let Some(roll) = self.rolls.get_mut(&id) else { return };
        let done = result.is_ok();
        if let Purpose::Release(release) = purpose {
            release.tell(result);
            roll.released_at = now;
            if done && roll.campaign.releasing {
                let work = async move {
                    let mut round = Round { walk, purpose: Purpose::Deliver };
                    let letters = round.walk.again().await;
                    Chore::Letters(Box::new(round), letters.map_err(|error| unavailable(&error)))
                };
                return self.chores.push(work.boxed());
            }
        } else if let Err(error) = result {
            tracing::warn!(campaign = %id, %error, "what was released is not all published yet");
        } else if roll.release_rounds == 1 {
            let last_look = roll.released_at + LAST_LOOK;
            if now < last_look {
                return self.round_ended(&id, walk, last_look);
            }
            roll.campaign.releasing = false;
            self.put_campaign(&id, None, now);
        }
        self.round_ended(&id, walk, now + BROKER_RETRY);
    }

    fn round_ended(&mut self, id: &CampaignId, walk: Walk, next: Instant) {
        if let Some(roll) = self.rolls.get_mut(id) {
            roll.release_rounds = roll.release_rounds.saturating_sub(1);
            roll.release_at = next;
        }
        self.attention.insert(id.clone());
        self.chores.push(walk.end().map(|_| Chore::Done).boxed());
    }
}

impl Release {
    fn is_enough(&self) -> bool {
        self.selection.limit.is_some_and(|limit| self.released >= limit)
    }

    fn tell(self, result: Result<(), CommandError>) {
        let Self { released, answer, .. } = self;
        let result = result.map(|()| released).map_err(|error| match error {
            CommandError::Unavailable(why) => CommandError::Unavailable(format!("{why}; {released} are released")),
            other => other,
        });
        reply(answer, result);
    }
}

impl Roll {
    /// A release stands in its record that nobody is carrying out.
    pub(super) fn has_release_left(&self, now: Instant) -> bool {
        self.campaign.releasing && self.release_rounds == 0 && now >= self.release_at
    }
}

/// Hands the letters that are meant to the reader, without further copies of the same one: publishing is repeated when a confirm was
/// lost. Copies are told by a hash, which is all that is remembered of a letter.
async fn read_out(walk: &mut Walk, selection: &DeadSelection, bodies: bool, reader: &Reader) -> Result<(), BrokerError> {
    let (mut seen, mut left) = (HashSet::new(), selection.limit.unwrap_or(u64::MAX));
    loop {
        let letters = walk.next().await?;
        if letters.is_empty() {
            return Ok(());
        }
        for letter in &letters {
            let view = show::dead_letter(walk.campaign(), letter, bodies);
            if !seen.insert(fingerprint(letter)) || !selection.takes(&view) {
                continue;
            }
            let Some(rest) = left.checked_sub(1) else { return Ok(()) };
            left = rest;
            if reader.send_timeout(Ok(Some(view)), READER_WITHIN).await.is_err() {
                return Ok(()); // nobody reads any more
            }
        }
    }
}

fn fingerprint(letter: &Delivery) -> u64 {
    let job = Job::parse(&letter.message.body).map_or_else(|_| JobId::unreadable(&letter.message.body), |job| job.id);
    let mut hasher = DefaultHasher::new();
    (job.as_str(), letter.message.headers.release).hash(&mut hasher);
    hasher.finish()
}

/// Publishes what is released, and takes that and what is past off the shelf.
async fn deliver(broker: &dyn Broker, store: &dyn Store, walk: &mut Walk, letters: Vec<Delivery>) -> Result<(), CommandError> {
    let id = walk.campaign().clone();
    let (mut released, mut gone) = (Vec::new(), Vec::new());
    for letter in letters {
        let Some(job) = job_of(&id, &letter) else { continue };
        let entry = store.find(&id, &job).map_err(|error| unavailable(&error))?;
        match standing(entry.as_ref(), letter.message.headers.release) {
            Standing::Dead => {}
            Standing::Released => released.push(letter),
            Standing::Past => gone.push(letter.tag),
        }
    }
    let publishes = released.into_iter().map(|letter| {
        let (tag, message, id) = (letter.tag, as_released(letter.message), &id);
        async move { broker.publish(Target::Jobs(id), &message).await.map(|()| tag) }
    });
    let results: Vec<Result<Tag, BrokerError>> = stream::iter(publishes).buffered(RELEASES_AT_ONCE).collect().await;
    let failed = results.iter().find_map(|result| result.as_ref().err()).map(unavailable);
    gone.extend(results.into_iter().flatten());
    walk.take_off(&gone).await.map_err(|error| unavailable(&error))?;
    failed.map_or(Ok(()), Err)
}

/// The job of a letter that belongs to this campaign.
fn job_of(id: &CampaignId, letter: &Delivery) -> Option<JobId> {
    Job::parse(&letter.message.body).ok().filter(|job| job.campaign == *id).map(|job| job.id)
}

/// The job as it leaves the dead letters. A kill may come between its publish and the end of its letter, so there may be two of it:
/// should the ledger be lost meanwhile, neither is taken for a new job.
fn as_released(letter: Message) -> Message {
    let release = letter.headers.release + 1;
    let headers = Headers { release, attempts: 0, redelivered: true, death: None, routed_to: None, ..letter.headers };
    Message { headers, ..letter }
}

/// What becomes of a letter of that release, by the ledger. One that is open there under no later release is from a copy of the ledger
/// that is older than the letter.
fn standing(entry: Option<&Entry>, release: u32) -> Standing {
    match entry {
        Some(entry) if entry.release > release => {
            let waits = entry.release == release + 1 && entry.state == JobState::Waiting;
            if waits { Standing::Released } else { Standing::Past }
        }
        Some(Entry { state: JobState::Sent { .. } | JobState::Cancelled | JobState::Expired, .. }) => Standing::Past,
        _ => Standing::Dead,
    }
}

fn unavailable(error: &impl ToString) -> CommandError {
    CommandError::Unavailable(error.to_string())
}

impl DeadSelection {
    /// Whether it means this letter; the limit apart.
    #[must_use]
    pub fn takes(&self, letter: &DeadLetter) -> bool {
        let named = self.jobs.is_empty() || letter.job.as_ref().is_some_and(|job| self.jobs.contains(job));
        let fits = |wanted: &Option<String>, is: Option<&str>| wanted.as_deref().is_none_or(|wanted| is == Some(wanted));
        named
            && fits(&self.reason, Some(&letter.death.reason))
            && fits(&self.code, letter.death.code.as_deref())
            && self.meta.is_none_or(|meta| letter.death.meta == Some(meta))
    }
}
