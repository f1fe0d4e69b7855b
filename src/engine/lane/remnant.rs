//! What an earlier life of the daemon left at the broker: jobs whose outcome stands in the ledger, and that it did not come to settle.
//! Among them may be dead letters that were never published, so a campaign is not *finished* before they have come again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::Lane;
use super::roll::{BROKER_RETRY, Link, QUIET, Roll};
use super::settle::Chore;
use crate::broker::{BrokerError, Source};
use crate::job::CampaignId;

/// So long after it was first asked, an intake that is never empty has given back what an earlier life had in hand: that stands at its head.
const LONGEST_BACKLOG: Duration = Duration::from_secs(60);

/// Whether a queue may still hold something that was in hand in an earlier life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remnant {
    /// Something may be there.
    Unknown { ask_at: Instant },
    /// The broker is being asked.
    Asked,
    /// Nothing was there at that time.
    None { since: Instant },
}

impl Remnant {
    /// Whether it is time to ask; it counts as asked then.
    fn ask(&mut self, now: Instant) -> bool {
        let due = matches!(self, Self::Unknown { ask_at } if now >= *ask_at);
        if due {
            *self = Self::Asked;
        }
        due
    }

    /// What the broker's answer means.
    fn answered(ready: &Result<u64, BrokerError>, now: Instant) -> Self {
        if matches!(ready, Ok(0)) { Self::None { since: now } } else { Self::Unknown { ask_at: now + BROKER_RETRY } }
    }

    const fn is_none(self) -> bool {
        matches!(self, Self::None { .. })
    }
}

impl Lane {
    /// Nothing of an earlier life is left of this campaign. Asks the broker if need be: first of the intake, by which some of it may have
    /// come, and once what stood there has had time to arrive and to be moved, of the campaign's own queue.
    pub(super) fn has_no_remnant(&mut self, id: &CampaignId, now: Instant) -> bool {
        let Some(roll) = self.rolls.get_mut(id) else { return false };
        if roll.remnant.is_none() || self.stopping {
            return roll.remnant.is_none();
        }
        let long_ago = |since: Instant, length| now.saturating_duration_since(since) >= length;
        let emptied = matches!(self.intake_remnant, Remnant::None { since } if long_ago(since, QUIET));
        let intake_done = emptied || self.intake_since.is_some_and(|since| long_ago(since, LONGEST_BACKLOG));
        let source = if !intake_done && self.intake_remnant.ask(now) {
            Source::Intake
        } else if intake_done && roll.can_be_counted(now) && roll.remnant.ask(now) {
            Source::Jobs(id.clone())
        } else {
            return false;
        };
        let broker = Arc::clone(&self.broker);
        self.chores.push(async move { Chore::Counted(broker.depth(&source).await, source) }.boxed());
        false
    }

    /// So many messages stand in a queue and are with nobody.
    pub(super) fn on_counted(&mut self, source: Source, ready: &Result<u64, BrokerError>) {
        let now = self.clock.now();
        let remnant = Remnant::answered(ready, now);
        match source {
            Source::Jobs(id) => {
                if let Some(roll) = self.rolls.get_mut(&id) {
                    // What came meanwhile, or is on its way, was not counted.
                    roll.remnant = if roll.can_be_counted(now) { remnant } else { Remnant::Unknown { ask_at: now + QUIET } };
                }
                self.attention.insert(id);
            }
            // Its link may have ended since, and what it held is back.
            Source::Intake if self.intake_remnant == Remnant::Asked => {
                self.intake_remnant = remnant;
                if ready.is_ok() {
                    self.intake_since.get_or_insert(now);
                }
            }
            Source::Intake | Source::Dead(_) => {}
        }
    }
}

impl Roll {
    /// Nothing of it is on its way to us or into its queue, so that what stands there is all there is.
    fn can_be_counted(&self, now: Instant) -> bool {
        let steady = matches!(self.link, Link::Closed | Link::Open(_));
        let quiet = now.saturating_duration_since(self.last_delivery.max(self.away_until)) >= QUIET;
        steady && quiet && self.holds_nothing()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Mutex;
    use std::time::Duration;

    use async_trait::async_trait;
    use bytes::Bytes;
    use futures_util::StreamExt;
    use jiff::Timestamp;
    use rand::SeedableRng;
    use tokio::sync::mpsc;

    use super::super::{Gauge, LaneParts};
    use super::*;
    use crate::alert::Alerts;
    use crate::broker::{Bound, Broker, Delivery, Event, Message, Prepared, Subscription, SubscriptionId, Tag, Target};
    use crate::campaign::{Campaign, Options};
    use crate::clock::Clock;
    use crate::dice::Dice;
    use crate::engine::Settings;
    use crate::policy::Rules;
    use crate::store::memory::MemoryStore;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_broker_is_asked_once_and_again_when_something_was_there_or_no_answer_came() {
        let now = Instant::now();
        for answer in [Ok(1), Err(BrokerError::Down("gone".into()))] {
            let mut remnant = Remnant::Unknown { ask_at: now };
            assert!(remnant.ask(now) && !remnant.ask(now + QUIET), "it is being asked");
            remnant = Remnant::answered(&answer, now);
            assert!(!remnant.ask(now) && remnant.ask(now + BROKER_RETRY));
        }
        let mut empty = Remnant::answered(&Ok(0), now);
        assert!(empty.is_none() && !empty.ask(now + BROKER_RETRY));
    }

    #[test]
    fn a_queue_is_counted_only_when_nothing_is_on_its_way_from_it_or_into_it() {
        let now = Instant::now();
        let roll = || {
            let id = "spring".parse().unwrap();
            let campaign = Campaign::new(id, "main".parse().unwrap(), Options::default(), Timestamp::UNIX_EPOCH);
            Roll::new(campaign, None, true, now, Timestamp::UNIX_EPOCH)
        };
        assert!(!roll().can_be_counted(now + SECOND), "what is at the intake may still come");
        assert!(roll().can_be_counted(now + QUIET));
        let tag = Tag { subscription: SubscriptionId(1), number: 1 };
        let arrival = Delivery { tag, message: Message::default(), redelivered: true };
        for busy in [
            Roll { arrivals: vec![arrival], ..roll() },
            Roll { moving: 1, ..roll() },
            Roll { in_hand: 1, ..roll() },
            Roll { away_until: now + SECOND, ..roll() },
            Roll { last_delivery: now + SECOND, ..roll() },
            Roll { link: Link::Opening, ..roll() },
        ] {
            assert!(!busy.can_be_counted(now + QUIET));
        }
    }

    /// A broker that does nothing but count: what stands in the campaign's queue, and what it was asked for.
    #[derive(Default)]
    struct Counting {
        jobs: Mutex<u64>,
        asked: Mutex<Vec<Source>>,
    }

    fn no<T>() -> Result<T, BrokerError> {
        Err(BrokerError::Down("it only counts".into()))
    }

    #[async_trait]
    impl Broker for Counting {
        async fn prepare(&self, _: &CampaignId, _: Bound) -> Result<Prepared, BrokerError> {
            no()
        }
        async fn subscribe(&self, _: Source, _: u16, _: mpsc::Sender<Event>) -> Result<Subscription, BrokerError> {
            no()
        }
        async fn ack(&self, _: &[Tag]) -> Result<(), BrokerError> {
            no()
        }
        async fn publish(&self, _: Target<'_>, _: &Message) -> Result<(), BrokerError> {
            no()
        }
        async fn depth(&self, source: &Source) -> Result<u64, BrokerError> {
            self.asked.lock().unwrap().push(source.clone());
            Ok(if *source == Source::Intake { 0 } else { *self.jobs.lock().unwrap() })
        }
        async fn remove(&self, _: &CampaignId) -> Result<bool, BrokerError> {
            no()
        }
        async fn remember(&self, _: &CampaignId, _: &[u8]) -> Result<(), BrokerError> {
            no()
        }
        async fn recall(&self) -> Result<Vec<(CampaignId, Bytes)>, BrokerError> {
            no()
        }
    }

    /// A lane that has just started, with one campaign of an earlier life.
    fn lane(broker: Arc<Counting>, id: &CampaignId) -> Lane {
        let campaign = Campaign::new(id.clone(), "main".parse().unwrap(), Options::default(), Timestamp::UNIX_EPOCH);
        Lane::new(LaneParts {
            name: "main".parse().unwrap(),
            account: None,
            pause: None,
            campaigns: vec![(campaign, None)],
            suppressed: HashSet::new(),
            broker,
            store: Arc::new(MemoryStore::new()),
            rules: Arc::new(Rules::default()),
            alerts: Alerts::channel().0,
            clock: Clock::simulated(Timestamp::UNIX_EPOCH),
            dice: Dice::seed_from_u64(0),
            settings: Settings::default(),
            commands: mpsc::channel(1).1,
            gauge: Arc::new(Gauge::default()),
        })
    }

    /// Whether nothing is left as far as the lane knows; what it asks the broker for is answered after.
    async fn look(lane: &mut Lane, id: &CampaignId) -> bool {
        let nothing = lane.has_no_remnant(id, lane.clock.now());
        if let Some(chore) = lane.chores.next().await {
            lane.on_chore(chore);
        }
        nothing
    }

    #[tokio::test(start_paused = true)]
    async fn the_intake_is_counted_before_the_queue_and_what_stood_there_has_time_to_come() {
        let (id, broker) = ("spring".parse().unwrap(), Arc::new(Counting::default()));
        let mut lane = lane(Arc::clone(&broker), &id);
        let asked = || std::mem::take(&mut *broker.asked.lock().unwrap());
        assert!(!look(&mut lane, &"another".parse().unwrap()).await && asked().is_empty());
        tokio::time::advance(QUIET).await;
        lane.stopping = true;
        assert!(!look(&mut lane, &id).await && asked().is_empty(), "a lane that ends asks nothing more");
        lane.stopping = false;
        assert!(!look(&mut lane, &id).await);
        assert_eq!(asked(), [Source::Intake]);
        assert!(!look(&mut lane, &id).await && asked().is_empty(), "what stood there may still come");
        tokio::time::advance(QUIET).await;
        lane.rolls.get_mut(&id).unwrap().moving = 1;
        assert!(!look(&mut lane, &id).await && asked().is_empty(), "it is on its way into the queue");
        lane.rolls.get_mut(&id).unwrap().moving = 0;
        *broker.jobs.lock().unwrap() = 1;
        assert!(!look(&mut lane, &id).await);
        assert_eq!(asked(), [Source::Jobs(id.clone())]);
        assert!(!look(&mut lane, &id).await && asked().is_empty(), "it comes, and is settled");
        *broker.jobs.lock().unwrap() = 0;
        tokio::time::advance(BROKER_RETRY).await;
        lane.attention.clear();
        assert!(!look(&mut lane, &id).await);
        assert_eq!(asked(), [Source::Jobs(id.clone())]);
        assert!(lane.attention.contains(&id), "it may be finished now");
        assert!(look(&mut lane, &id).await && asked().is_empty());
    }
}
