//! Who enqueues: announces a campaign, publishes its jobs, repeats what is not confirmed, comes again, and is not always tidy.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use bytes::Bytes;
use campaignd::broker::{ANNOUNCEMENT, Broker, Headers, Message, Target};
use campaignd::campaign::{Announcement, OnUnknown, Options, Priority};
use campaignd::dice::Dice;
use campaignd::job::{AccountName, CampaignId, Job};
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use rand::seq::IndexedRandom;

use crate::broker::SimBroker;
use crate::plan::CampaignPlan;
use crate::witness::Witness;

/// The first recipient; each campaign has a million of its own.
const FIRST: u64 = 905_300_000_000;
const EACH: u64 = 1_000_000;

/// Jobs of a campaign that come when its ledger is cleaned up.
pub(crate) const STRAYS: u64 = 3;

/// A campaign and everything its producer knows of it.
pub(crate) struct Producer {
    pub(crate) id: CampaignId,
    pub(crate) account: AccountName,
    pub(crate) options: Options,
    pub(crate) jobs: Vec<Job>,
    /// Bodies that are no jobs.
    pub(crate) junk: u64,
    /// Batches with the messages not confirmed yet.
    outbox: VecDeque<VecDeque<Message>>,
}

pub(crate) fn campaign_of(to: u64) -> CampaignId {
    format!("c{}", (to - FIRST) / EACH).parse().unwrap()
}

pub(crate) fn account(number: usize) -> AccountName {
    format!("a{number}").parse().unwrap()
}

impl Producer {
    pub(crate) fn new(number: usize, plan: CampaignPlan, now: Timestamp, dice: &mut Dice) -> Self {
        let id: CampaignId = format!("c{number}").parse().unwrap();
        let account = account(plan.account);
        let on_unknown = if plan.resend { OnUnknown::Resend } else { OnUnknown::Park };
        let priority = *[Priority::Low, Priority::Normal, Priority::High].choose(dice).unwrap();
        let options = Options { on_unknown, priority, sandbox: plan.sandbox, ..Options::default() };
        let late = dice.random_bool(0.3);
        let jobs: Vec<Job> = (0..plan.jobs)
            .map(|i| {
                let not_after = (late && dice.random_bool(0.2)).then(|| soon(now, dice.random_range(0..60)));
                job(&id, &account, FIRST + number as u64 * EACH + i, not_after)
            })
            .collect();
        let junk = if plan.untidy { 2 } else { 0 };
        let mut producer = Self { id, account, options, jobs, junk, outbox: VecDeque::new() };
        let (count, half) = (producer.jobs.len(), producer.jobs.len() / 2);
        let batches = match plan.untidy {
            true => vec![("file", 0..count), ("again", half..count), ("file", 0..count)],
            false => vec![("file", 0..half), ("more", half..count)],
        };
        producer.outbox = batches.into_iter().map(|(batch, jobs)| producer.batch(batch, jobs, plan.unannounced)).collect();
        producer
    }

    /// The messages of one batch: what is announced of it comes first, or last.
    fn batch(&self, name: &str, jobs: Range<usize>, announced_last: bool) -> VecDeque<Message> {
        let announcement = self.announcement(name, jobs.len() as u64);
        let headers = Headers { batch: Some(name.into()), ..Headers::default() };
        let jobs = self.jobs[jobs].iter().map(|job| Bytes::from(job.to_wire()));
        let junk = (0..self.junk).map(|number| Bytes::from(format!("no job {number}")));
        let mut messages: VecDeque<_> = jobs.chain(junk).map(|body| Message { body, headers: headers.clone() }).collect();
        if announced_last {
            messages.push_back(announcement);
        } else {
            messages.push_front(announcement);
        }
        messages
    }

    fn announcement(&self, batch: &str, jobs: u64) -> Message {
        let announcement = Announcement {
            campaign_id: self.id.clone(),
            account: Some(self.account.clone()),
            options: self.options,
            jobs: Some(jobs),
            batch: Some(batch.into()),
        };
        let headers = Headers { kind: Some(ANNOUNCEMENT.into()), ..Headers::default() };
        Message { body: serde_json::to_vec(&announcement).unwrap().into(), headers }
    }

    /// Recipients whose job may come too late.
    pub(crate) fn perishable(&self) -> BTreeSet<u64> {
        self.jobs.iter().filter(|job| job.not_after.is_some()).map(|job| job.to.number()).collect()
    }

    /// Publishes jobs that were sent before, under the same ids and without a batch.
    pub(crate) async fn stray(&self, broker: &SimBroker) {
        for job in self.jobs.iter().take(STRAYS as usize) {
            let message = Message { body: Bytes::from(job.to_wire()), headers: Headers::default() };
            broker.publish(Target::Jobs(&self.id), &message).await.unwrap();
        }
    }

    /// Enqueues the next batch, or goes on with it; whether there was one. Dropped in between, it loses nothing.
    pub(crate) async fn enqueue(&mut self, broker: &SimBroker, witness: &Witness) -> bool {
        let Some(batch) = self.outbox.front_mut() else { return false };
        witness.note(|| format!("{} messages of {} are enqueued", batch.len(), self.id));
        while let Some(next) = batch.front_mut() {
            let to = if next.headers.kind.is_some() { Target::Announce(&self.id) } else { Target::Jobs(&self.id) };
            let message = next.clone();
            next.headers.redelivered = true; // a further try may be a copy of this one
            if broker.publish(to, &message).await.is_ok() {
                batch.pop_front();
            }
        }
        self.outbox.pop_front();
        true
    }
}

fn soon(now: Timestamp, seconds: i64) -> Timestamp {
    now.checked_add(SignedDuration::from_secs(seconds)).unwrap()
}

fn job(campaign: &CampaignId, account: &AccountName, number: u64, not_after: Option<Timestamp>) -> Job {
    let not_after = not_after.map_or_else(String::new, |at| format!(r#","not_after":"{at}""#));
    let body = format!(
        r#"{{"campaign_id":"{campaign}","account":"{account}","to":"{number}","message":{{"type":"text","text":{{"body":"hi"}}}}{not_after}}}"#
    );
    Job::parse(body.as_bytes()).unwrap()
}
