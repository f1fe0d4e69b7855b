//! What was promised about the end, recipient by recipient, against the gateways' own books.

use campaignd::campaign::{JobState, OnUnknown};
use campaignd::engine::CampaignView;
use campaignd::job::Job;
use campaignd::outcome::UNKNOWN_OUTCOME;

use crate::producer::Producer;
use crate::world::World;

/// Whether every promise was kept; else which one was broken, and how.
pub(crate) fn kept(world: &World, views: &[CampaignView]) -> Result<(), String> {
    for producer in &world.producers {
        let shelf = world.broker.dead(&producer.id);
        let letters: Vec<u64> =
            shelf.iter().filter_map(|letter| Job::parse(&letter.body).ok()).map(|job| job.to.number()).collect();
        let perishable = producer.perishable();
        for job in &producer.jobs {
            let to = job.to.number();
            let end = Fate { letter: letters.contains(&to), perishable: perishable.contains(&to) };
            end.of(world, producer, job).map_err(|what| format!("{to} of {}: {what}", producer.id))?;
            note_end(world, producer, job);
        }
        if world.bereft {
            counted_once(world, producer)?;
        } else {
            let view = views.iter().find(|view| view.id == producer.id).ok_or_else(|| format!("{} is not known", producer.id))?;
            counts(world, producer, view)?;
        }
    }
    Ok(())
}

fn note_end(world: &World, producer: &Producer, job: &Job) {
    match world.disk.entry(&producer.id, &job.id).map(|entry| entry.state) {
        Some(JobState::Sent { .. }) if producer.options.sandbox => world.witness.fired("a job is rehearsed"),
        Some(JobState::Sent { .. }) => world.witness.fired("a job is sent"),
        Some(JobState::Cancelled) => world.witness.fired("a job is cancelled"),
        Some(JobState::Expired) => world.witness.fired("a job is too late"),
        _ => {}
    }
}

/// What is known of one job from outside the daemon.
struct Fate {
    letter: bool,
    perishable: bool,
}

impl Fate {
    fn of(&self, world: &World, producer: &Producer, job: &Job) -> Result<(), String> {
        let known = world.witness.job(job.to.number());
        let got = known.messages;
        let Some(entry) = world.disk.entry(&producer.id, &job.id) else {
            let somewhere = got > 0 || self.letter || self.perishable || producer.options.sandbox;
            let excused = world.bereft && (somewhere || world.cancelled.contains(&producer.id));
            return if excused { Ok(()) } else { Err("forgotten: not in the ledger".into()) };
        };
        let park = producer.options.on_unknown == OnUnknown::Park;
        match &entry.state {
            JobState::Sent { .. } if got == 0 && !producer.options.sandbox => Err("said to be sent and got nothing".into()),
            JobState::Sent { .. } => Ok(()),
            JobState::Dead(death) => {
                if park && death.reason != UNKNOWN_OUTCOME && got > known.released_unknown() && !world.bereft {
                    return Err(format!("dead by {} and got {got} messages", death.reason));
                }
                if self.letter { Ok(()) } else { Err("dead and no letter says so".into()) }
            }
            JobState::Cancelled if world.cancelled.contains(&producer.id) => Ok(()),
            JobState::Expired if self.perishable => Ok(()),
            other => Err(format!("still {other:?}")),
        }
    }
}

/// Counts that have lost their ledger know of fewer jobs than there are, but never of more in either half of them.
fn counted_once(world: &World, producer: &Producer) -> Result<(), String> {
    let most = producer.jobs.len().div_ceil(2) as u64;
    let contents = world.disk.contents();
    let campaign = contents.campaigns.iter().find(|campaign| campaign.id == producer.id);
    let over = campaign.and_then(|campaign| campaign.counts.batches.iter().find(|batch| batch.seen > most));
    over.map_or(Ok(()), |batch| Err(format!("{} has {most} jobs in a batch, not those of {batch:?}", producer.id)))
}

/// The campaign's counts are those of its ledger, and a replay of the disk gives the same.
fn counts(world: &World, producer: &Producer, view: &CampaignView) -> Result<(), String> {
    let all = producer.jobs.len() as u64 + producer.junk;
    if view.enqueued != all {
        return Err(format!("campaign {} has {all} jobs, not {}", producer.id, view.enqueued));
    }
    let entries = producer.jobs.iter().filter_map(|job| world.disk.entry(&producer.id, &job.id));
    let (mut sent, mut dead) = (0, producer.junk);
    for entry in entries {
        sent += u64::from(matches!(entry.state, JobState::Sent { .. }));
        dead += u64::from(matches!(entry.state, JobState::Dead(_)));
    }
    if (sent, dead) != (view.sent, view.dead) {
        return Err(format!("{sent} sent and {dead} dead by the ledger, but the counts say {view:?}"));
    }
    let contents = world.disk.contents();
    let replayed = contents.campaigns.iter().find(|campaign| campaign.id == producer.id).map(|campaign| &campaign.counts);
    let same = replayed
        .is_some_and(|c| (c.sent, c.dead, c.cancelled, c.expired) == (view.sent, view.dead, view.cancelled, view.expired));
    if same { Ok(()) } else { Err(format!("a replay gives {replayed:?}, not {view:?}")) }
}
