//! Repetitions counted the plain way: everything that ever matched, and what became of it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::campaign::PauseTarget;
use crate::gateway::Reply;
use crate::policy::{Per, Rule, Subject, Threshold};

/// What has matched, by rule and by what it is counted for.
#[derive(Default)]
pub(super) struct Model(BTreeMap<(String, String), Vec<Timestamp>>);

impl Model {
    /// Takes one reply in; whether its rule has repeated.
    pub(super) fn take(&mut self, rule: Option<&Rule>, subject: &Subject, reply: &Reply, now: Timestamp) -> bool {
        if matches!(reply, Reply::Accepted { .. }) {
            let over = [Per::Campaign, Per::Account, Per::Country].map(|per| target(per, subject));
            self.0.retain(|(rule, target), _| rule.starts_with("within") || !over.contains(target));
            return false;
        }
        let Some((rule, repeated)) = rule.and_then(|rule| Some((rule, rule.repeated.as_ref()?))) else { return false };
        let kind = if matches!(repeated.threshold, Threshold::InARow(_)) { "row" } else { "within" };
        let times = self.0.entry((format!("{kind} {}", rule.name), target(repeated.per, subject))).or_default();
        times.push(now);
        match repeated.threshold {
            Threshold::InARow(needed) => times.len() >= needed as usize,
            Threshold::Within { count, within } => {
                // A time ahead of now, after the clock was set back, is as good as long gone, and stays so.
                times.retain(|&time| {
                    time <= now && SignedDuration::try_from(within).is_ok_and(|within| now.duration_since(time) < within)
                });
                // No more are kept than are needed, so a clock that is set back may cost a time that would count again.
                times.drain(..times.len().saturating_sub(count as usize));
                times.len() >= count as usize
            }
        }
    }

    /// A person resumed it.
    pub(super) fn forget(&mut self, resumed: &PauseTarget) {
        self.0.retain(|(_, target), _| match resumed {
            PauseTarget::Campaign(id) => *target != format!("campaign {id}"),
            PauseTarget::Account(name) => {
                *target != format!("account {name}") && !target.starts_with(&format!("country of {name} "))
            }
        });
    }
}

fn target(per: Per, subject: &Subject) -> String {
    match per {
        Per::Campaign => format!("campaign {}", subject.campaign),
        Per::Account => format!("account {}", subject.account),
        Per::Country => {
            format!("country of {} {}", subject.account, if subject.to.digits().starts_with("90") { "90" } else { "49" })
        }
    }
}
