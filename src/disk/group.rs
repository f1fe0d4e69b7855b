//! Group commit: one thread takes all that is waiting, writes it as one batch, flushes once, and answers everybody.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::Fault;

/// Most items waiting or being written at once; further ones wait in the caller.
const QUEUE_ITEMS: usize = 4096;

/// Most items in one batch.
const GROUP_ITEMS: usize = 1024;

/// Under load, batches start at least this far apart, so that each carries more: a flush costs CPU time whatever is in it.
const PACE: Duration = Duration::from_millis(4);

/// A batch this full does not wait for more.
const FULL_ITEMS: usize = 64;

/// After this a caller is told that the disk does not answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(600);

/// How long dropping waits for the thread.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
const CLOSE_STEP: Duration = Duration::from_millis(2);

/// What came of writing a group.
pub(crate) struct Written {
    /// For everybody in it.
    pub(crate) result: Result<(), Fault>,
    /// Call again after this time at the latest, with an empty group if nothing has come by then.
    pub(crate) again: Option<Duration>,
}

struct Pending<T> {
    item: T,
    answer: Option<oneshot::Sender<Result<(), Fault>>>,
    _place: OwnedSemaphorePermit,
}

/// The writing thread and its queue. Dropping it writes what is queued, then ends the thread.
pub(crate) struct Group<T> {
    queue: Option<Sender<Pending<T>>>,
    places: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Group<T> {
    /// Starts the thread. `write` gets each group in order of arrival; an empty one at the start, when it asked to be called
    /// again, and before the end.
    pub(crate) fn start(name: &str, write: impl FnMut(Vec<T>) -> Written + Send + 'static) -> std::io::Result<Self> {
        let (queue, items) = channel();
        let thread = thread::Builder::new().name(name.into()).spawn(move || run(&items, write))?;
        Ok(Self { queue: Some(queue), places: Arc::new(Semaphore::new(QUEUE_ITEMS)), thread: Some(thread) })
    }

    /// Hands `item` over and waits until it is on disk, however long that takes: once handed over it is written, and whoever gave up
    /// and repeated it would have it written twice.
    pub(crate) async fn write(&self, item: T) -> Result<(), Fault> {
        let (answer, answered) = oneshot::channel();
        self.send(item, Some(answer)).await?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }

    /// The same with a limit, for what may be written twice.
    pub(crate) async fn write_in_time(&self, item: T) -> Result<(), Fault> {
        let late = |_| Err(Fault::Io(format!("the disk did not answer within {} s", ANSWER_LIMIT.as_secs())));
        tokio::time::timeout(ANSWER_LIMIT, self.write(item)).await.unwrap_or_else(late)
    }

    /// Hands `item` over without waiting for the disk.
    pub(crate) async fn hand_over(&self, item: T) -> Result<(), Fault> {
        self.send(item, None).await
    }

    async fn send(&self, item: T, answer: Option<oneshot::Sender<Result<(), Fault>>>) -> Result<(), Fault> {
        let place = match tokio::time::timeout(ANSWER_LIMIT, Arc::clone(&self.places).acquire_owned()).await {
            Ok(place) => place.map_err(|_| closed())?,
            Err(_) => return Err(Fault::Io(format!("the disk did not take anything for {} s", ANSWER_LIMIT.as_secs()))),
        };
        let queue = self.queue.as_ref().ok_or_else(closed)?;
        queue.send(Pending { item, answer, _place: place }).map_err(|_| closed())
    }
}

fn closed() -> Fault {
    Fault::Io("the writing thread has ended".into())
}

impl<T> Drop for Group<T> {
    fn drop(&mut self) {
        self.queue = None;
        let Some(thread) = self.thread.take() else { return };
        let limit = Instant::now() + CLOSE_LIMIT;
        while !thread.is_finished() {
            // a thread that hangs within sled is left behind rather than waited for
            if Instant::now() > limit {
                return;
            }
            thread::sleep(CLOSE_STEP);
        }
        let _ = thread.join();
    }
}

fn run<T>(items: &Receiver<Pending<T>>, mut write: impl FnMut(Vec<T>) -> Written) {
    // the first call finds out what an earlier process left to do
    let mut again = Some(Duration::ZERO);
    let mut started = Instant::now();
    let mut size = 0;
    loop {
        let first = match again {
            None => items.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wait) => items.recv_timeout(wait),
        };
        let mut group: Vec<Pending<T>> = match first {
            Ok(first) => vec![first],
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            Err(RecvTimeoutError::Disconnected) => {
                let _ = guarded(&mut write, Vec::new());
                return;
            }
        };
        if size > 1 && !group.is_empty() {
            gather(items, &mut group, started + PACE);
        }
        while group.len() < GROUP_ITEMS
            && let Ok(next) = items.try_recv()
        {
            group.push(next);
        }
        started = Instant::now();
        size = group.len();
        again = serve(group, &mut write);
    }
}

/// Waits for more until `until`, or until the group is full.
fn gather<T>(items: &Receiver<Pending<T>>, group: &mut Vec<Pending<T>>, until: Instant) {
    while group.len() < FULL_ITEMS {
        let left = until.saturating_duration_since(Instant::now());
        match items.recv_timeout(left) {
            Ok(next) => group.push(next),
            Err(_) => return,
        }
    }
}

fn serve<T>(group: Vec<Pending<T>>, write: &mut impl FnMut(Vec<T>) -> Written) -> Option<Duration> {
    let mut items = Vec::with_capacity(group.len());
    let mut waiting = Vec::with_capacity(group.len());
    for pending in group {
        items.push(pending.item);
        waiting.push((pending.answer, pending._place));
    }
    let Written { result, again } = guarded(write, items);
    for (answer, _place) in waiting {
        if let Some(answer) = answer {
            let _ = answer.send(result.clone());
        }
    }
    again
}

fn guarded<T>(write: &mut impl FnMut(Vec<T>) -> Written, items: Vec<T>) -> Written {
    catch_unwind(AssertUnwindSafe(|| write(items)))
        .unwrap_or_else(|panic| Written { result: Err(Fault::Damaged(super::open::panic_text(&*panic))), again: None })
}
