//! Looking through a campaign's dead letters and releasing them. What is not touched is neither lost nor reordered.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::stream::{self, StreamExt};
use tokio::sync::mpsc;

use super::settle::{Chore, ack_patiently, reply};
use super::{Lane, Step};
use crate::broker::{Broker, BrokerError, Delivery, Event, Headers, Message, Source, Subscription, Tag, Target};
use crate::campaign::{JobState, PauseTarget, Phase, Record};
use crate::engine::handle::Answer;
use crate::engine::view::{DeadLetter, DeadSelection};
use crate::engine::{CommandError, show};
use crate::job::{CampaignId, Job};

/// Dead letters looked through at one go, oldest first.
const MOST_LETTERS: u16 = 20_000;

/// Longest wait for the next letter of a queue that has some.
const NEXT_LETTER: Duration = Duration::from_secs(10);

/// Releases published at the same time.
const RELEASES_AT_ONCE: usize = 128;

/// Why the letters are looked through.
pub(super) enum Purpose {
    List { selection: DeadSelection, bodies: bool, answer: Answer<Vec<DeadLetter>> },
    Requeue { campaign: CampaignId, selection: DeadSelection, answer: Answer<u64> },
}

/// A campaign's letters, held unsettled until this is dropped.
pub(super) struct Letters {
    campaign: CampaignId,
    held: Option<Subscription>,
    letters: Vec<Delivery>,
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
        match self.rolls.get(&campaign).map(|roll| roll.campaign.phase) {
            None => reply(answer, Err(CommandError::NotFound(PauseTarget::Campaign(campaign)))),
            Some(Phase::Cancelled) => {
                reply(
                    answer,
                    Err(CommandError::Conflict(format!("campaign {campaign} is cancelled; nothing of it is sent any more"))),
                );
            }
            Some(_) => self.browse(campaign.clone(), Purpose::Requeue { campaign, selection, answer }),
        }
    }

    pub(super) fn browse(&mut self, campaign: CampaignId, purpose: Purpose) {
        let broker = Arc::clone(&self.broker);
        self.chores.push(async move { Chore::Browsed(purpose, letters(broker.as_ref(), campaign).await) }.boxed());
    }

    pub(super) fn on_browsed(&mut self, purpose: Purpose, letters: Result<Letters, BrokerError>) {
        match (purpose, letters) {
            (Purpose::List { selection, bodies, answer }, Ok(letters)) => {
                let most = usize::try_from(selection.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
                let views = letters.letters.iter().map(|letter| show::dead_letter(&letters.campaign, letter, bodies));
                reply(answer, Ok(views.filter(|view| selection.takes(view)).take(most).collect()));
            }
            (Purpose::Requeue { campaign, selection, answer }, Ok(letters)) => {
                self.release(&campaign, &selection, letters, answer)
            }
            (Purpose::List { answer, .. }, Err(error)) => reply(answer, Err(CommandError::Unavailable(error.to_string()))),
            (Purpose::Requeue { answer, .. }, Err(error)) => reply(answer, Err(CommandError::Unavailable(error.to_string()))),
        }
    }

    /// Writes the releases into the ledger; they are published once that is durable.
    fn release(&mut self, id: &CampaignId, selection: &DeadSelection, letters: Letters, answer: Answer<u64>) {
        let now = self.clock.now();
        let most = usize::try_from(selection.limit.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let (mut chosen, mut stale) = (Vec::new(), Vec::new());
        for letter in &letters.letters {
            if chosen.len() >= most || !selection.takes(&show::dead_letter(id, letter, false)) {
                continue;
            }
            let Ok(job) = Job::parse(&letter.message.body) else { continue };
            let key = (id.clone(), job.id);
            if job.campaign != *id || self.active.contains_key(&key) {
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
            let batch = self.batch_of(id, letter.message.headers.batch.as_deref(), now);
            let record = Record::new(key.1, entry.as_ref(), batch, JobState::Waiting, 0, release);
            if let Some(roll) = self.rolls.get_mut(id) {
                roll.campaign.apply(&record);
            }
            self.journal.record(id, record, None, now);
            chosen.push((released(letter, release), letter.tag));
        }
        if !chosen.is_empty() {
            self.go_on(id, now);
        }
        self.journal.follow(Step::Release(Box::new(Release { letters, chosen, stale, answer })), now);
    }

    /// A finished campaign with released letters runs again, in a queue made anew.
    fn go_on(&mut self, id: &CampaignId, now: tokio::time::Instant) {
        let Some(roll) = self.rolls.get_mut(id).filter(|roll| roll.campaign.phase == Phase::Finished) else { return };
        roll.campaign.reopen();
        self.put_campaign(id, None, now);
        self.attention.insert(id.clone());
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
            drop(letters.held);
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

fn released(letter: &Delivery, release: u32) -> Message {
    let headers = Headers { release, attempts: 0, death: None, routed_to: None, ..letter.message.headers.clone() };
    Message { body: letter.message.body.clone(), headers }
}

/// Takes hold of every letter there is now.
async fn letters(broker: &dyn Broker, campaign: CampaignId) -> Result<Letters, BrokerError> {
    let source = Source::Dead(campaign.clone());
    let depth = broker.depth(&source).await?.min(u64::from(MOST_LETTERS));
    if depth == 0 {
        return Ok(Letters { campaign, held: None, letters: Vec::new() });
    }
    let (sink, mut events) = mpsc::channel(256);
    let held = broker.subscribe(source, MOST_LETTERS, sink).await?;
    let mut letters = Vec::new();
    while (letters.len() as u64) < depth {
        match tokio::time::timeout(NEXT_LETTER, events.recv()).await {
            Ok(Some(Event::Delivery(delivery))) => letters.push(delivery),
            Ok(Some(Event::Ended { reason, .. })) => return Err(BrokerError::Down(reason)),
            Ok(None) | Err(_) => break,
        }
    }
    Ok(Letters { campaign, held: Some(held), letters })
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
