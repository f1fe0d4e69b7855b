//! A broker with faults: lost acknowledgements, copies, dropped connections, unconfirmed and late publishes, reordering, times of no
//! answer.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use campaignd::broker::{
    Bound, Broker, BrokerError, Event, Message, Prepared, Source, Subscription, SubscriptionId, Tag, Target,
};
use campaignd::campaign::Phase;
use campaignd::engine::Note;
use campaignd::job::{CampaignId, Job};
use rand::RngExt;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::plan::BrokerFaults;
use crate::queues::Queues;
use crate::witness::Witness;

/// What a publish fails by when nothing is heard of it.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);

/// Shared by every life of the daemon.
#[derive(Clone)]
pub(crate) struct SimBroker {
    queues: Arc<Mutex<Queues>>,
    /// Something waits for its time.
    waits: Arc<Notify>,
    /// A copy says that it is one, as the repeat of a producer that waits for its confirm in vain.
    marks_copies: bool,
    witness: Witness,
}

impl SimBroker {
    pub(crate) fn new(seed: u64, faults: BrokerFaults, marks_copies: bool, witness: Witness) -> Self {
        let queues = Arc::new(Mutex::new(Queues::new(seed, faults, witness.clone())));
        Self { queues, waits: Arc::default(), marks_copies, witness }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap()
    }

    /// Lets what waits come home when its time has come. Runs as long as the world.
    pub(crate) async fn run(self) {
        loop {
            let news = self.waits.notified();
            let due = self.lock().come_home(Instant::now());
            match due {
                Some(due) => drop(tokio::time::timeout_at(due, news).await),
                None => news.await,
            }
        }
    }

    /// No more faults: the world calms down, so that everything can come to its end.
    pub(crate) fn calm(&self) {
        let mut queues = self.lock();
        queues.faults = BrokerFaults { slow_ms: 1, ..BrokerFaults::default() };
        queues.out_until = Instant::now();
    }

    /// Every connection breaks.
    pub(crate) fn cut(&self) {
        self.witness.note(|| "every connection to the broker breaks".into());
        self.witness.fired("every connection to the broker breaks");
        self.lock().cut_all();
    }

    /// Nothing is answered for a while.
    pub(crate) fn fail_for(&self, length: Duration) {
        self.lock().out_until = Instant::now() + length;
    }

    /// Messages in the dead letters of a campaign.
    pub(crate) fn dead(&self, campaign: &CampaignId) -> Vec<Message> {
        self.lock().of(&Source::Dead(campaign.clone()))
    }

    /// Whether a note says that the campaign is cancelled.
    pub(crate) fn knows_cancelled(&self, campaign: &CampaignId) -> bool {
        let note = self.lock().notes.get(campaign).and_then(|note| Note::parse(note));
        note.is_some_and(|note| note.campaign.phase == Phase::Cancelled)
    }

    /// Messages still at the broker, wherever they are, the dead letters apart.
    pub(crate) fn left(&self) -> usize {
        self.lock().left()
    }

    /// Where the messages are that are still here, for a person to read.
    pub(crate) fn where_left(&self) -> String {
        self.lock().to_string()
    }

    /// Time passes until an answer is there; or there is none.
    async fn trip(&self) -> Result<(), BrokerError> {
        let (wait, out) = {
            let mut queues = self.lock();
            let most = queues.faults.slow_ms.max(1);
            (Duration::from_millis(queues.dice.random_range(1..=most)), Instant::now() < queues.out_until)
        };
        tokio::time::sleep(wait).await;
        if out {
            self.witness.fired("the broker does not answer for a while");
        }
        if out { Err(BrokerError::Down("simulated".into())) } else { Ok(()) }
    }

    async fn fails_sometimes(&self) -> Result<(), BrokerError> {
        self.trip().await?;
        let mut queues = self.lock();
        let chance = queues.faults.down;
        if queues.roll(chance) {
            self.witness.fired("the broker does not do what it is asked");
            return Err(BrokerError::Down("simulated".into()));
        }
        Ok(())
    }

    /// Stores a message, or two of it, or none; whether anybody hears that it did.
    fn store(&self, to: Target<'_>, message: &Message) -> Result<bool, BrokerError> {
        let mut queues = self.lock();
        let faults = queues.faults;
        if queues.roll(faults.publish_lost) {
            self.witness.fired("a publish is lost");
            return Err(BrokerError::Refused("no leader".into()));
        }
        self.see(to, message);
        if let Target::Jobs(campaign) = to
            && queues.roll(faults.publish_late)
        {
            self.witness.fired("a publish comes after its publisher has given up");
            let late = Duration::from_millis(queues.dice.random_range(0..3_000));
            queues.wait(Instant::now() + CONFIRM_WITHIN + late, campaign, message.clone());
            return Ok(false);
        }
        queues.take_in(to, message.clone());
        if queues.roll(faults.copy) {
            self.witness.fired("a message is stored twice");
            let mut copy = message.clone();
            copy.headers.redelivered |= self.marks_copies;
            queues.take_in(to, copy);
        }
        let unconfirmed = queues.roll(faults.publish_unconfirmed);
        if unconfirmed {
            self.witness.fired("a publish is stored and not confirmed");
        }
        Ok(!unconfirmed)
    }

    /// A witness of what goes by.
    fn see(&self, to: Target<'_>, message: &Message) {
        let Ok(job) = Job::parse(&message.body) else { return };
        let (to_number, release) = (job.to.number(), message.headers.release);
        match to {
            Target::Dead(_) => {
                let reason = message.headers.death.as_ref().map_or("", |death| death.reason.as_str());
                self.witness.note(|| format!("dead letter for {to_number}, release {release}: {reason}"));
                self.witness.dead_letter(to_number, release, reason);
            }
            _ => self.witness.published(to_number, release, !message.headers.redelivered),
        }
    }
}

struct Guard {
    broker: SimBroker,
    id: SubscriptionId,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.broker.lock().give_back(self.id);
    }
}

#[async_trait]
impl Broker for SimBroker {
    async fn prepare(&self, campaign: &CampaignId, _bound: Bound) -> Result<Prepared, BrokerError> {
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.fails_sometimes().await?;
        self.witness.note(|| format!("{campaign} has a queue"));
        Ok(Prepared { existed: self.lock().bind(campaign) })
    }

    async fn subscribe(&self, source: Source, prefetch: u16, sink: mpsc::Sender<Event>) -> Result<Subscription, BrokerError> {
        self.fails_sometimes().await?;
        let id = self.lock().subscribe(source, usize::from(prefetch), sink);
        Ok(Subscription::new(id, Guard { broker: self.clone(), id }))
    }

    async fn ack(&self, tags: &[Tag]) -> Result<(), BrokerError> {
        self.trip().await?;
        let mut queues = self.lock();
        let chance = queues.faults.lost_ack;
        if queues.roll(chance) {
            // An acknowledgement is lost with its connection; whether it had arrived nobody can tell.
            if queues.dice.random_bool(0.5) {
                self.witness.fired("an acknowledgement fails");
                return Err(BrokerError::Down("acknowledgement lost".into()));
            }
            self.witness.fired("a connection breaks amid an acknowledgement");
            if queues.dice.random_bool(0.5) {
                queues.ack(tags).into_iter().for_each(|what| self.witness.violation(what));
            }
            tags.iter().for_each(|tag| queues.cut(tag.subscription));
            return Err(BrokerError::Down("connection lost".into()));
        }
        let broken = queues.ack(tags);
        drop(queues);
        self.witness.note(|| format!("settled {}", tags.len()));
        broken.into_iter().for_each(|what| self.witness.violation(what));
        Ok(())
    }

    async fn publish(&self, to: Target<'_>, message: &Message) -> Result<(), BrokerError> {
        self.trip().await?;
        let confirmed = self.store(to, message)?;
        if matches!(to, Target::Wait(..) | Target::Jobs(_)) {
            self.waits.notify_one();
        }
        if !confirmed {
            tokio::time::sleep(CONFIRM_WITHIN).await;
            return Err(BrokerError::Timeout(CONFIRM_WITHIN));
        }
        Ok(())
    }

    async fn depth(&self, source: &Source) -> Result<u64, BrokerError> {
        self.fails_sometimes().await?;
        Ok(self.lock().ready(source) as u64)
    }

    async fn remove(&self, campaign: &CampaignId) -> Result<bool, BrokerError> {
        self.fails_sometimes().await?;
        let gone = self.lock().unbind(campaign);
        self.witness.note(|| format!("the queue of {campaign} is gone: {gone}"));
        Ok(gone)
    }

    async fn remember(&self, campaign: &CampaignId, note: &[u8]) -> Result<(), BrokerError> {
        self.fails_sometimes().await?;
        self.lock().notes.insert(campaign.clone(), Bytes::copy_from_slice(note));
        Ok(())
    }

    async fn recall(&self) -> Result<Vec<(CampaignId, Bytes)>, BrokerError> {
        self.fails_sometimes().await?;
        Ok(self.lock().notes.iter().map(|(id, note)| (id.clone(), note.clone())).collect())
    }
}
