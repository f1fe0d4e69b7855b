//! A walk along a shelf of dead letters: all that stand there, oldest first, a few at a time. What was looked at is held until the walk
//! is over, so that it does not come again, and then goes back in the order it had.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};
use tokio::time::timeout;

use crate::broker::{Broker, BrokerError, Delivery, Event, Source, Subscription, Tag};
use crate::engine::lane::settle::ack_patiently;
use crate::job::CampaignId;

/// Letters looked at in one go: what is in memory at a time, besides what the broker's client has fetched ahead.
const STEP: usize = 256;

/// Longest wait for the next letter of a shelf that has some.
const NEXT_LETTER: Duration = Duration::from_secs(10);

/// Longest wait for letters to stand on their shelf again, and how often that is looked at.
const BACK_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

pub(in crate::engine::lane) struct Walk {
    broker: Arc<dyn Broker>,
    campaign: CampaignId,
    source: Source,
    /// Most letters held by one subscription.
    page: u16,
    /// One walk at a time: a second one would find the shelf empty.
    turns: Arc<Mutex<()>>,
    turn: Option<OwnedMutexGuard<()>>,
    /// All but the last are full, and nothing of them is taken off any more: none of them takes what another gives back.
    pages: Vec<Page>,
    sink: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
    /// Of the letters that stood there when the walk began, how many are still to come. None before it has begun.
    left: Option<u64>,
}

/// Letters held by one subscription.
struct Page {
    held: Subscription,
    room: u64,
    kept: u64,
}

impl Walk {
    pub(super) fn new(broker: Arc<dyn Broker>, turns: Arc<Mutex<()>>, campaign: CampaignId, page: u16) -> Self {
        let (sink, events) = mpsc::channel(STEP);
        let source = Source::Dead(campaign.clone());
        let page = page.max(1);
        Self { broker, campaign, source, page, turns, turn: None, pages: Vec::new(), sink, events, left: None }
    }

    /// Whose letters they are.
    pub(super) const fn campaign(&self) -> &CampaignId {
        &self.campaign
    }

    /// The next letters; none at the end of the shelf. Those that came after the walk began are left for the next one.
    pub(super) async fn next(&mut self) -> Result<Vec<Delivery>, BrokerError> {
        let mut left = match self.left {
            Some(left) => left,
            None => self.begin().await?,
        };
        let mut letters = Vec::new();
        while left > 0 && letters.len() < STEP {
            if self.pages.last().is_none_or(Page::is_full) {
                if !letters.is_empty() {
                    break; // what is taken off them comes first: only then is it known whether the page is full
                }
                self.open(left).await?;
            }
            match timeout(NEXT_LETTER, self.events.recv()).await {
                Ok(Some(Event::Delivery(letter))) => {
                    if let Some(page) = self.page_of(letter.tag) {
                        page.kept += 1;
                    }
                    left -= 1;
                    letters.push(letter);
                }
                Ok(Some(Event::Ended { reason, .. })) => return Err(BrokerError::Down(reason)),
                // somebody else took the rest
                Ok(None) | Err(_) if self.broker.depth(&self.source).await? == 0 => left = 0,
                Ok(None) | Err(_) => return Err(BrokerError::Timeout(NEXT_LETTER)),
            }
        }
        self.left = Some(left);
        Ok(letters)
    }

    async fn begin(&mut self) -> Result<u64, BrokerError> {
        if self.turn.is_none() {
            self.turn = Some(Arc::clone(&self.turns).lock_owned().await);
        }
        self.broker.depth(&self.source).await
    }

    async fn open(&mut self, left: u64) -> Result<(), BrokerError> {
        let room = u16::try_from(left).unwrap_or(u16::MAX).min(self.page);
        let held = self.broker.subscribe(self.source.clone(), room, self.sink.clone()).await?;
        self.pages.push(Page { held, room: u64::from(room), kept: 0 });
        Ok(())
    }

    fn page_of(&mut self, tag: Tag) -> Option<&mut Page> {
        self.pages.iter_mut().rev().find(|page| page.held.id() == tag.subscription)
    }

    /// Takes letters of the last step off the shelf.
    pub(super) async fn take_off(&mut self, tags: &[Tag]) -> Result<(), BrokerError> {
        ack_patiently(self.broker.as_ref(), tags).await?;
        for tag in tags {
            if let Some(page) = self.page_of(*tag) {
                page.kept = page.kept.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// Puts back what is still held, page by page, and waits until it stands there again for whoever walks next; whether it does.
    async fn put_back(&mut self) -> bool {
        if self.pages.len() > 1 {
            self.close_up().await;
        }
        let mut whole = true;
        for page in std::mem::take(&mut self.pages) {
            whole &= self.let_go(page).await;
        }
        (self.sink, self.events) = mpsc::channel(STEP); // what is still in it has gone back
        self.left = None;
        whole
    }

    /// Lets the last page hold exactly what is left of it: with room to spare it would take what the others give back.
    async fn close_up(&mut self) {
        let Some(last) = self.pages.pop_if(|page| !page.is_full()) else { return };
        self.let_go(last).await; // what is not back yet is missed by the count below
        let Ok(rest @ 1..) = self.broker.depth(&self.source).await else { return };
        while self.events.try_recv().is_ok() {} // void since the page is gone
        if self.open(rest).await.is_ok() {
            for _ in 0..rest.min(u64::from(self.page)) {
                let Ok(Some(Event::Delivery(letter))) = timeout(BACK_WITHIN, self.events.recv()).await else { return };
                if let Some(page) = self.page_of(letter.tag) {
                    page.kept += 1;
                }
            }
        }
    }

    /// Whether its letters were seen to stand there again.
    async fn let_go(&self, page: Page) -> bool {
        let Page { held, kept, .. } = page;
        let again = async {
            let before = self.broker.depth(&self.source).await;
            drop(held);
            let before = before?;
            while self.broker.depth(&self.source).await? < before + kept {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Ok::<(), BrokerError>(())
        };
        matches!(timeout(BACK_WITHIN, again).await, Ok(Ok(())))
    }

    /// The first letters from the beginning again, before anybody else walks. An error when not all stand there again yet.
    pub(super) async fn again(&mut self) -> Result<Vec<Delivery>, BrokerError> {
        if self.put_back().await { self.next().await } else { Err(BrokerError::Timeout(BACK_WITHIN)) }
    }

    /// Ends the walk.
    pub(super) async fn end(mut self) {
        self.put_back().await;
    }
}

impl Page {
    const fn is_full(&self) -> bool {
        self.kept >= self.room
    }
}
