//! Looking through a campaign's dead letters and releasing them. What is not touched is neither lost nor reordered.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt};
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};
use tokio::time::timeout;

use super::settle::{Chore, ack_patiently, reply};
use super::{Lane, Step};
use crate::broker::{Broker, BrokerError, Delivery, Event, Headers, Message, Source, Subscription, Tag, Target};
use crate::campaign::{JobState, PauseTarget, Phase, Record};
use crate::engine::handle::Answer;
use crate::engine::view::{DeadLetter, DeadSelection};
use crate::engine::{CommandError, show};
use crate::job::{CampaignId, Job, JobId};

/// Dead letters looked through at one go, oldest first.
const MOST_LETTERS: u16 = 20_000;

/// Longest wait for the next letter of a queue that has some.
const NEXT_LETTER: Duration = Duration::from_secs(10);

/// Longest wait for letters to stand in their queue again, and how often that is looked at.
const BACK_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Releases published at the same time.
const RELEASES_AT_ONCE: usize = 128;

/// A campaign's letters, held unsettled until they are put back.
pub(super) struct Letters {
    campaign: CampaignId,
    held: Option<Subscription>,
    letters: Vec<Delivery>,
    /// One look at a time: a second one would find the shelf empty.
    _turn: OwnedMutexGuard<()>,
}

/// What a person asked to be released.
pub(super) struct Requeue {
    selection: DeadSelection,
    answer: Answer<u64>,
}

/// Letters whose release is in the ledger and now has to be published.
pub(super) struct Release {
    letters: Letters,
    chosen: Vec<(Message, Tag)>,
    stale: Vec<Tag>,
    answer: Answer<u64>,
}

impl Lane {
    pub(super) fn requeue(&mut self, campaign: CampaignId, selection: DeadSelection, answer: Answer<u64>) {
        let Some(roll) = self.rolls.get(&campaign) else {
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
                let (broker, turn) = (Arc::clone(&self.broker), Arc::clone(&self.letters_turn));
                let work = async move {
                    let letters = take_hold(broker.as_ref(), turn, campaign).await;
                    Chore::Browsed(Box::new(Requeue { selection, answer }), letters)
                };
                self.chores.push(work.boxed());
            }
        }
    }

    /// Shows letters; nothing of the lane is touched.
    pub(super) fn list(&self, campaign: CampaignId, selection: DeadSelection, bodies: bool, answer: Answer<Vec<DeadLetter>>) {
        let (broker, turn) = (Arc::clone(&self.broker), Arc::clone(&self.letters_turn));
        let work = async move {
            let result = match take_hold(broker.as_ref(), turn, campaign).await {
                Ok(letters) => {
                    let most = usize::try_from(selection.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
                    let views = letters.distinct().map(|letter| show::dead_letter(&letters.campaign, letter, bodies));
                    let chosen = views.filter(|view| selection.takes(view)).take(most).collect();
                    letters.put_back(broker.as_ref(), 0).await;
                    Ok(chosen)
                }
                Err(error) => Err(CommandError::Unavailable(error.to_string())),
            };
            reply(answer, result);
            Chore::Done
        };
        self.chores.push(work.boxed());
    }

    pub(super) fn on_browsed(&mut self, requeue: Requeue, letters: Result<Letters, BrokerError>) {
        let Requeue { selection, answer } = requeue;
        match letters {
            Ok(letters) => {
                let campaign = letters.campaign.clone();
                self.release(&campaign, &selection, letters, answer);
            }
            Err(error) => reply(answer, Err(CommandError::Unavailable(error.to_string()))),
        }
    }

    /// Writes the releases into the ledger; they are published once that is durable.
    fn release(&mut self, id: &CampaignId, selection: &DeadSelection, letters: Letters, answer: Answer<u64>) {
        let now = self.clock.now();
        let most = usize::try_from(selection.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let (mut chosen, mut stale) = (Vec::new(), Vec::new());
        let mut released_now = HashMap::new();
        for letter in &letters.letters {
            let view = show::dead_letter(id, letter, false);
            let meant = selection.takes(&view) && (selection.unknown_too || !view.death.may_have_been_sent);
            if chosen.len() >= most || !meant {
                continue;
            }
            let Ok(job) = Job::parse(&letter.message.body) else { continue };
            if job.campaign != *id {
                continue;
            }
            let key = (id.clone(), job.id);
            if let Some(release) = released_now.get(&key.1) {
                // A further copy of the same letter goes with it; a letter of another release is left for the next time.
                if *release == letter.message.headers.release {
                    stale.push(letter.tag);
                }
                continue;
            }
            if self.active.contains_key(&key) || self.untouched.contains(&key) {
                continue;
            }
            let entry = match self.store.find(&key.0, &key.1) {
                Ok(entry) => entry,
                Err(error) => return reply(answer, Err(CommandError::Unavailable(error.to_string()))),
            };
            let release = letter.message.headers.release + 1;
            let is_dead = entry.as_ref().is_none_or(|entry| entry.release < release && matches!(entry.state, JobState::Dead(_)));
            let unpublished = entry.as_ref().is_some_and(|entry| entry.release == release && entry.state == JobState::Waiting);
            if !is_dead && !unpublished {
                stale.push(letter.tag);
                continue;
            }
            released_now.insert(key.1.clone(), letter.message.headers.release);
            let batch = self.batch_of(id, letter.message.headers.batch.as_deref(), now);
            let record = Record::new(key.1.clone(), entry.as_ref(), batch, JobState::Waiting, 0, release, self.era(id));
            self.untouched.insert(key.clone()); // a copy in the queue has to wait until the store knows of the release
            self.enter(id, record, Some(Step::Untouched(key)), now);
            chosen.push((released(letter, release, unpublished), letter.tag));
        }
        if !chosen.is_empty() {
            self.reopen(id, now);
        }
        self.journal.follow(Step::Release(Box::new(Release { letters, chosen, stale, answer })), now);
    }

    pub(super) fn publish_released(&mut self, release: Release) {
        let broker = Arc::clone(&self.broker);
        let work = async move {
            let Release { letters, chosen, mut stale, answer } = release;
            let publishes = chosen.into_iter().map(|(message, tag)| {
                let (broker, id) = (&broker, &letters.campaign);
                async move { broker.publish(Target::Jobs(id), &message).await.map(|()| tag) }
            });
            let results: Vec<_> = stream::iter(publishes).buffered(RELEASES_AT_ONCE).collect().await;
            let failed = results.iter().find_map(|result| result.as_ref().err()).cloned();
            let published: Vec<Tag> = results.into_iter().flatten().collect();
            let count = published.len() as u64;
            stale.extend(published);
            let acked = ack_patiently(broker.as_ref(), &stale).await;
            letters.put_back(broker.as_ref(), stale.len()).await;
            let result = failed.map_or(acked, Err).map(|()| count);
            Chore::Released(answer, result)
        };
        self.chores.push(work.boxed());
    }
}

pub(super) fn answer_release(answer: Answer<u64>, result: Result<u64, BrokerError>) {
    let result = result.map_err(|error| {
        CommandError::Unavailable(format!("{error}; run the same command again, what was released is not released twice"))
    });
    reply(answer, result);
}

/// The job as it leaves the dead letters. `again`: it was published before, and nobody knows whether it arrived.
fn released(letter: &Delivery, release: u32, again: bool) -> Message {
    let headers =
        Headers { release, attempts: 0, redelivered: again, death: None, routed_to: None, ..letter.message.headers.clone() };
    Message { body: letter.message.body.clone(), headers }
}

/// Takes hold of every letter there is now.
async fn take_hold(broker: &dyn Broker, turn: Arc<Mutex<()>>, campaign: CampaignId) -> Result<Letters, BrokerError> {
    let turn = turn.lock_owned().await;
    let source = Source::Dead(campaign.clone());
    let depth = broker.depth(&source).await?.min(u64::from(MOST_LETTERS));
    let mut taken = Letters { campaign, held: None, letters: Vec::new(), _turn: turn };
    if depth == 0 {
        return Ok(taken);
    }
    let (sink, mut events) = mpsc::channel(256);
    taken.held = Some(broker.subscribe(source, MOST_LETTERS, sink).await?);
    while (taken.letters.len() as u64) < depth {
        match timeout(NEXT_LETTER, events.recv()).await {
            Ok(Some(Event::Delivery(delivery))) => taken.letters.push(delivery),
            Ok(Some(Event::Ended { reason, .. })) => return Err(BrokerError::Down(reason)),
            Ok(None) | Err(_) => break,
        }
    }
    Ok(taken)
}

impl Letters {
    /// The letters without further copies of the same one: publishing is repeated when a confirm was lost.
    fn distinct(&self) -> impl Iterator<Item = &Delivery> {
        let mut seen = HashSet::new();
        self.letters.iter().filter(move |letter| {
            let job = Job::parse(&letter.message.body).map_or_else(|_| JobId::unreadable(&letter.message.body), |job| job.id);
            seen.insert((job, letter.message.headers.release))
        })
    }

    /// Puts them back but for `gone` of them, and waits until they stand there again for whoever looks next.
    async fn put_back(self, broker: &dyn Broker, gone: usize) {
        let Some(held) = self.held else { return };
        drop(held);
        let kept = self.letters.len().saturating_sub(gone) as u64;
        let source = Source::Dead(self.campaign);
        let again = async {
            while broker.depth(&source).await.is_ok_and(|depth| depth < kept) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        drop(timeout(BACK_WITHIN, again).await);
    }
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
