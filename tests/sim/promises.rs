//! What was promised, checked against the gateways' own books when a world has come to its end.

use campaignd::campaign::{Entry, JobState, OnUnknown};
use campaignd::job::CampaignId;
use campaignd::outcome::UNKNOWN_OUTCOME;

use crate::world::End;

/// Whether every promise was kept; else which one was broken, and how.
pub(crate) fn kept(end: &End) -> Result<(), String> {
    if let Some(violation) = end.violations.first() {
        return Err(violation.clone());
    }
    if end.left_at_broker > 0 {
        return Err(format!("{} jobs are still at the broker", end.left_at_broker));
    }
    for (id, jobs) in &end.ledger {
        for (recipient, entry) in jobs {
            job(end, id, *recipient, entry.as_ref())?;
        }
        let view = end.views.iter().find(|view| view.id == *id).ok_or_else(|| format!("campaign {id} is not known"))?;
        if view.enqueued != jobs.len() as u64 {
            return Err(format!("campaign {id} has {} jobs, not {}", jobs.len(), view.enqueued));
        }
    }
    Ok(())
}

fn job(end: &End, id: &CampaignId, recipient: u64, entry: Option<&Entry>) -> Result<(), String> {
    let park = end.options.get(id).is_none_or(|options| options.on_unknown == OnUnknown::Park);
    let got = end.books.get(&recipient).copied().unwrap_or(0);
    let Some(entry) = entry else { return Err(format!("{recipient} of {id} is forgotten: not in the ledger")) };
    if park && got > 1 {
        return Err(format!("{recipient} of {id} got {got} messages"));
    }
    match &entry.state {
        JobState::Sent { .. } if got == 0 => Err(format!("{recipient} of {id} is said to be sent and got nothing")),
        JobState::Sent { .. } => Ok(()),
        JobState::Dead(death) => {
            if park && got > 0 && death.reason != UNKNOWN_OUTCOME {
                return Err(format!("{recipient} of {id} is dead by {} and got a message", death.reason));
            }
            let letters = end.dead.get(id).is_some_and(|dead| dead.contains(&recipient));
            if letters { Ok(()) } else { Err(format!("{recipient} of {id} is dead and no letter says so")) }
        }
        other => Err(format!("{recipient} of {id} is still {other:?}")),
    }
}
