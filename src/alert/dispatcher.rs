//! Takes alerts from the engine, keeps repeats silent, and feeds the sinks. Whatever a sink does, the others and the sending go on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::dedup::Dedup;
use super::{Alert, Notice, Sink};
use crate::clock::Clock;

/// Notices waiting for one sink; more are dropped for this sink and logged.
const SINK_QUEUE: usize = 64;

/// Tries per notice and sink, and the wait before the second; each further wait doubles.
const TRIES: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// After the end of the engine: longest wait for sinks to deliver what is queued.
pub const DRAIN: Duration = Duration::from_secs(5);

/// Keeps repeats silent and runs the sinks.
pub struct Dispatcher {
    alerts: mpsc::Receiver<Arc<Alert>>,
    dedup: Dedup,
    clock: Clock,
    sinks: Vec<Box<dyn Sink>>,
}

impl Dispatcher {
    /// Feeds `sinks` from `alerts`, telling the same rule and account once within `window`.
    #[must_use]
    pub fn new(alerts: mpsc::Receiver<Arc<Alert>>, window: Duration, clock: Clock) -> Self {
        Self { alerts, dedup: Dedup::new(window), clock, sinks: Vec::new() }
    }

    /// Adds a sink.
    #[must_use]
    pub fn with(mut self, sink: impl Sink) -> Self {
        self.sinks.push(Box::new(sink));
        self
    }

    /// Runs until `shutdown`, or until every [`super::Alerts`] is dropped; then delivers what is queued, for at most [`DRAIN`].
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        let outlets = Outlets::start(self.sinks);
        loop {
            let due = self.dedup.next_due();
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                alert = self.alerts.recv() => match alert {
                    Some(alert) => outlets.tell(self.dedup.take(alert, self.clock.now())),
                    None => break,
                },
                () = until(due) => outlets.tell(self.dedup.due(self.clock.now())),
            }
        }
        self.alerts.close();
        while let Ok(alert) = self.alerts.try_recv() {
            outlets.tell(self.dedup.take(alert, self.clock.now()));
        }
        outlets.drain().await;
    }
}

/// A queue and a task for each sink. Dropping it stops them at once.
struct Outlets {
    queues: Vec<(&'static str, mpsc::Sender<Notice>)>,
    workers: JoinSet<()>,
}

impl Outlets {
    fn start(sinks: Vec<Box<dyn Sink>>) -> Self {
        let mut workers = JoinSet::new();
        let start = |sink: Box<dyn Sink>| {
            let (sender, queue) = mpsc::channel(SINK_QUEUE);
            let name = sink.name();
            workers.spawn(work(sink, queue));
            (name, sender)
        };
        Self { queues: sinks.into_iter().map(start).collect(), workers }
    }

    fn tell(&self, notices: impl IntoIterator<Item = Notice>) {
        notices.into_iter().for_each(|notice| self.tell_one(&notice));
    }

    fn tell_one(&self, notice: &Notice) {
        for (name, queue) in &self.queues {
            if queue.try_send(notice.clone()).is_err() {
                tracing::warn!(sink = name, rule = notice.alert.rule, "alert sink is behind; alert dropped for this sink");
            }
        }
    }

    async fn drain(mut self) {
        self.queues.clear(); // a worker ends when its queue is closed and empty
        let all_done = async { while self.workers.join_next().await.is_some() {} };
        if timeout(DRAIN, all_done).await.is_err() {
            tracing::warn!("alerts still waited for a sink after {DRAIN:?}; stopped without them");
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn work(mut sink: Box<dyn Sink>, mut queue: mpsc::Receiver<Notice>) {
    while let Some(notice) = queue.recv().await {
        if let Err(error) = deliver(&mut *sink, &notice).await {
            let rule = &notice.alert.rule;
            tracing::error!(sink = sink.name(), rule, %error, "alert could not be delivered after {TRIES} tries; dropped");
        }
    }
}

async fn deliver(sink: &mut dyn Sink, notice: &Notice) -> Result<(), super::SinkError> {
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        match sink.deliver(notice).await {
            Ok(()) => return Ok(()),
            Err(error) => tracing::debug!(sink = sink.name(), %error, "alert not delivered; trying again"),
        }
        sleep(wait).await;
        wait *= 2;
    }
    sink.deliver(notice).await
}
