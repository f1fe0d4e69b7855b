//! Hands a batch to the broker: announced first, then job by job, many under way, each until it is confirmed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::admin::Published;
use crate::broker::{Broker, BrokerError, Headers, Message, Target};
use crate::cli::batch::Batch;
use crate::cli::client::{CallError, Client};
use crate::cli::progress::Progress;
use crate::cli::words::count;
use crate::exit::{Exit, Failure};
use crate::job::{CampaignId, Job};
use crate::recipients::JobsError;
use crate::signals::Signals;

/// Publishes under way at once: enough to keep a broker with a millisecond's way busy.
const WINDOW: usize = 1024;

/// Jobs read ahead of the window.
const AHEAD: usize = 1024;

/// Jobs, and bytes, in one request to the daemon.
const BATCH_JOBS: usize = 1000;
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// A broker that does not take a message for this long is given up.
const PATIENCE: Duration = Duration::from_secs(120);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Where a batch goes.
pub(in crate::cli) enum Door {
    /// Straight to the broker.
    Broker(Arc<dyn Broker>),
    /// To the daemon, which has its broker inside.
    Daemon(Client),
}

/// How publishing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Ended {
    /// Every job is safe at the broker.
    Whole,
    /// Ctrl-C or SIGTERM, after this many.
    Interrupted(u64),
}

/// Publishes the whole batch. `again`: some of it may have been published before, so each job is marked as a possible copy.
///
/// # Errors
/// When the broker stays away, or the file changes under our hands. What was published stays; repeating is safe.
pub(in crate::cli) async fn publish(batch: &Batch, door: &Door, again: bool, progress: &mut Progress) -> Result<Ended, Failure> {
    let mut signals = Signals::listen()?;
    let (sender, jobs) = mpsc::channel(AHEAD);
    let mut reading = JoinSet::new();
    let read = batch.jobs()?;
    reading.spawn_blocking(move || read.into_iter().try_for_each(|job| sender.blocking_send(job).map_err(drop)));
    let mut feed = Feed { jobs, campaign: batch.plan.campaign.clone(), batch: batch.survey.batch.clone(), again };
    let mut done = 0;
    let whole = async {
        let announced = patiently(|| announce(batch, door, false)).await;
        announced.map_err(|given_up| given_up.failure(0, batch.survey.jobs))?;
        feed.run(door, batch.survey.jobs, &mut done, progress).await?;
        // Sealed only now: a batch that was never published whole must not count as jobs that wait.
        let sealed = patiently(|| announce(batch, door, true)).await;
        sealed.map_err(|given_up| given_up.failure(done, batch.survey.jobs))
    };
    let interrupted = tokio::select! {
        biased;
        _ = signals.stop() => true,
        ended = whole => { ended?; false },
    };
    Ok(if interrupted { Ended::Interrupted(done) } else { Ended::Whole })
}

/// Jobs on their way from the file to the broker.
struct Feed {
    jobs: mpsc::Receiver<Result<Job, JobsError>>,
    campaign: CampaignId,
    batch: String,
    again: bool,
}

impl Feed {
    async fn run(&mut self, door: &Door, whole: u64, done: &mut u64, progress: &mut Progress) -> Result<(), Failure> {
        match door {
            Door::Broker(broker) => self.through_broker(broker.as_ref(), whole, done, progress).await,
            Door::Daemon(client) => self.through_daemon(client, whole, done, progress).await,
        }
    }

    async fn through_broker(
        &mut self,
        broker: &dyn Broker,
        whole: u64,
        done: &mut u64,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let campaign = self.campaign.clone();
        let mut window = FuturesUnordered::new();
        let mut more = true;
        while more || !window.is_empty() {
            tokio::select! {
                biased;
                job = self.jobs.recv(), if more && window.len() < WINDOW => match job {
                    Some(job) => {
                        let mut message = self.message(&job.map_err(|error| changed(error, *done, whole))?);
                        let campaign = &campaign;
                        window.push(async move {
                            patiently(|| {
                                let this = message.clone();
                                message.headers.redelivered = true; // a further try may be a copy of this one
                                async move { Ok(broker.publish(Target::Jobs(campaign), &this).await?) }
                            })
                            .await
                        });
                    }
                    None => more = false,
                },
                Some(published) = window.next(), if !window.is_empty() => {
                    published.map_err(|given_up| given_up.failure(*done, whole))?;
                    *done += 1;
                    tell(progress, *done, whole)?;
                }
            }
        }
        Ok(())
    }

    async fn through_daemon(
        &mut self,
        client: &Client,
        whole: u64,
        done: &mut u64,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let path = format!("v1/campaigns/{}/jobs", self.campaign);
        loop {
            let (mut lines, mut jobs) = (Vec::new(), 0);
            while jobs < BATCH_JOBS && lines.len() < BATCH_BYTES {
                let Some(job) = self.jobs.recv().await else { break };
                lines.extend(job.map_err(|error| changed(error, *done, whole))?.to_wire());
                lines.push(b'\n');
                jobs += 1;
            }
            if jobs == 0 {
                return Ok(());
            }
            let post = || async {
                let published: Published = client.post_lines(&path, &self.batch, lines.clone()).await?;
                Ok(published)
            };
            let published = patiently(post).await.map_err(|given_up| given_up.failure(*done, whole))?;
            *done += published.published;
            tell(progress, *done, whole)?;
        }
    }

    fn message(&self, job: &Job) -> Message {
        let headers = Headers {
            message_id: Some(job.id.as_str().to_owned()),
            batch: Some(self.batch.clone()),
            redelivered: self.again,
            ..Headers::default()
        };
        Message { body: Bytes::from(job.to_wire()), headers }
    }
}

async fn announce(batch: &Batch, door: &Door, sealed: bool) -> Result<(), Attempt> {
    match door {
        Door::Broker(broker) => {
            Ok(broker.publish(Target::Announce(&batch.plan.campaign), &batch.announcement_message(sealed)).await?)
        }
        Door::Daemon(client) => Ok(client.order("v1/announce", &batch.announcement(sealed)).await?),
    }
}

fn tell(progress: &mut Progress, done: u64, whole: u64) -> Result<(), Failure> {
    if done.is_multiple_of(100) || done == whole {
        progress.show(done, whole, &format!("{} of {} published", count(done), count(whole)))?;
    }
    Ok(())
}

fn changed(error: JobsError, done: u64, whole: u64) -> Failure {
    let failure = Failure::from(error);
    let text = format!(
        "{failure}; stopped after {} of {} jobs. What was published is as the file was. Put it back as it was and run the same command again, or cancel the campaign",
        count(done),
        count(whole)
    );
    Failure::new(failure.exit, text)
}

/// A try that did not work.
struct Attempt {
    why: String,
    exit: Exit,
    passing: bool,
}

impl From<BrokerError> for Attempt {
    fn from(error: BrokerError) -> Self {
        let passing = !matches!(error, BrokerError::Denied(_));
        Self { why: error.to_string(), exit: Exit::Unavailable, passing }
    }
}

impl From<CallError> for Attempt {
    fn from(error: CallError) -> Self {
        Self { why: error.message, exit: error.exit, passing: error.passing }
    }
}

impl Attempt {
    fn failure(&self, done: u64, whole: u64) -> Failure {
        let what_next = if self.passing {
            "Run the same command again: nothing is sent twice"
        } else {
            "Once that is mended, run the same command again: nothing is sent twice"
        };
        let (done, whole) = (count(done), count(whole));
        Failure::new(self.exit, format_args!("{}\nStopped after {done} of {whole} jobs. {what_next}", self.why))
    }
}

/// Tries again under the same id until it works, the error is not one that passes, or patience runs out.
async fn patiently<T, F: Future<Output = Result<T, Attempt>>>(mut attempt: impl FnMut() -> F) -> Result<T, Attempt> {
    let began = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match attempt().await {
            Err(failed) if failed.passing && began.elapsed() + pause < PATIENCE => {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            settled => return settled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(passing: bool) -> Attempt {
        Attempt { why: "no".into(), exit: Exit::Unavailable, passing }
    }

    #[tokio::test(start_paused = true)]
    async fn passing_errors_are_tried_again_and_patience_ends() {
        let mut left = 3;
        let done = patiently(|| {
            left -= 1;
            let answer = if left > 0 { Err(failing(true)) } else { Ok(7) };
            async { answer }
        });
        assert_eq!(done.await.ok(), Some(7));
        let began = Instant::now();
        let given_up = patiently(|| async { Err::<(), _>(failing(true)) }).await.unwrap_err();
        assert!(began.elapsed() <= PATIENCE && began.elapsed() > PATIENCE / 2);
        assert!(given_up.failure(5, 1000).message.contains("after 5 of 1,000 jobs"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_person_must_mend_is_not_tried_again() {
        let mut tries = 0;
        let denied = patiently(|| {
            tries += 1;
            async { Err::<(), _>(failing(false)) }
        });
        assert!(denied.await.is_err());
        assert_eq!(tries, 1);
    }
}
