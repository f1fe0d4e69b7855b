//! What a decision means to store, settle, pause, count and alert, as one value. Pure: the engine carries it out.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::alert::{Alert, Status};
use crate::broker::Death;
use crate::campaign::{JobState, OnUnknown, Pause};
use crate::gateway::Reply;
use crate::policy::{Decision, JobAction, Scope, SlowDown, Subject};

/// The reason of dead letters whose message may or may not have been sent.
pub const UNKNOWN_OUTCOME: &str = "unknown-outcome";

/// The reason of dead letters during whose attempts the daemon died time and again: they may be what kills it.
pub const POISON: &str = "poison";

/// Everything one reply comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What the ledger says of the job from now on.
    pub state: JobState,
    /// Attempts used up, this one included if it counts.
    pub attempts: u32,
    /// What the broker is told once that is durable.
    pub settle: Settle,
    /// A pause to put in force at once.
    pub pause: Option<(Scope, Pause)>,
    /// Let the account wait.
    pub hold_account: Option<Duration>,
    /// Lower the account's rate.
    pub slow_down: Option<SlowDown>,
    /// The recipient gets nothing more from this account.
    pub suppress: bool,
    /// Tell a person.
    pub alert: Option<Alert>,
}

/// How a delivery is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settle {
    /// Take it off the queue.
    Ack,
    /// Publish it for later, then take it off the queue.
    Delay(Duration),
    /// Publish it to the dead letters, then take it off the queue.
    Dead(Death),
    /// Leave it to the queue: it goes back untouched.
    Return,
}

/// What `decision` on `reply` comes to for the job of `subject`.
#[must_use]
pub fn outcome(subject: &Subject, reply: &Reply, decision: &Decision, on_unknown: OnUnknown, now: Timestamp) -> Outcome {
    let (state, settle, counts) = job_part(reply, decision, on_unknown, now);
    Outcome {
        state,
        settle,
        attempts: if counts { subject.attempts } else { subject.attempts.saturating_sub(1) },
        pause: decision.pause.map(|order| {
            let until = order.length.map(|length| later(now, length));
            let pause = Pause {
                cause: cause(reply),
                rule: Some(decision.rule.to_string()),
                since: now,
                until,
                by: "policy".into(),
                advice: decision.advice.to_string(),
                probe: order.probe,
            };
            (order.scope, pause)
        }),
        hold_account: decision.hold_account,
        slow_down: decision.slow_down,
        suppress: decision.job == JobAction::Suppress,
        alert: decision.alert.map(|severity| Alert {
            status: Status::Firing,
            severity,
            rule: decision.rule.to_string(),
            account: Some(subject.account.clone()),
            campaign: Some(subject.campaign.clone()),
            summary: cause(reply),
            advice: decision.advice.to_string(),
            at: now,
        }),
    }
}

/// State, settlement, and whether the attempt is used up.
fn job_part(reply: &Reply, decision: &Decision, on_unknown: OnUnknown, now: Timestamp) -> (JobState, Settle, bool) {
    let delayed = |wait: Duration, counts| (JobState::Delayed { until: later(now, wait) }, Settle::Delay(wait), counts);
    let dead = |reason: &str| {
        let death = death(reply, reason, now);
        (JobState::Dead(death.clone()), Settle::Dead(death), true)
    };
    match decision.job {
        JobAction::Sent => (JobState::Sent { wamid: wamid(reply) }, Settle::Ack, true),
        JobAction::Retry(wait) => delayed(wait, true),
        JobAction::Wait(wait) => delayed(wait, false),
        JobAction::Hold => (JobState::Waiting, Settle::Return, false),
        JobAction::DeadLetter | JobAction::Suppress => dead(&decision.rule),
        JobAction::Unknown { retry } => match (on_unknown, retry) {
            (OnUnknown::Resend, Some(wait)) => delayed(wait, true),
            _ => dead(UNKNOWN_OUTCOME),
        },
    }
}

/// Why a job died, in the words of the reply.
#[must_use]
pub fn death(reply: &Reply, reason: &str, now: Timestamp) -> Death {
    let plain = Death { may_have_been_sent: matches!(reply, Reply::Unknown(_)), ..Death::new(now, reason) };
    match reply {
        Reply::Accepted { .. } => plain,
        Reply::Refused(refusal) => Death {
            code: refusal.code.clone(),
            meta: refusal.meta,
            http_status: Some(refusal.http_status),
            description: refusal.description.clone(),
            ..plain
        },
        Reply::Unreachable(trouble) | Reply::Unknown(trouble) => {
            Death { http_status: trouble.http_status, description: cause_of_trouble(trouble), ..plain }
        }
    }
}

/// The reply in its own words, for people: code and description, recipients masked.
#[must_use]
pub fn cause(reply: &Reply) -> String {
    match reply {
        Reply::Accepted { .. } => "accepted".into(),
        Reply::Refused(refusal) => {
            let code = refusal.code.as_deref().unwrap_or("no code");
            let text = if refusal.description.is_empty() { "no description" } else { &refusal.description };
            format!("{code}: {text} (HTTP {})", refusal.http_status)
        }
        Reply::Unreachable(trouble) | Reply::Unknown(trouble) => cause_of_trouble(trouble),
    }
}

fn cause_of_trouble(trouble: &crate::gateway::Trouble) -> String {
    let status = trouble.http_status.map(|s| format!(" (HTTP {s})")).unwrap_or_default();
    format!("{:?}: {}{status}", trouble.kind, trouble.detail)
}

fn wamid(reply: &Reply) -> String {
    match reply {
        Reply::Accepted { wamid } => wamid.clone(),
        _ => String::new(),
    }
}

/// `now` plus `wait`; the end of time when that is past it.
#[must_use]
pub fn later(now: Timestamp, wait: Duration) -> Timestamp {
    SignedDuration::try_from(wait).ok().and_then(|wait| now.checked_add(wait).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::{Refusal, Trouble, TroubleKind};
    use crate::job::MessageKind;
    use crate::policy::{PauseOrder, Severity};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const MINUTE: Duration = Duration::from_secs(60);

    fn subject() -> Subject {
        Subject {
            account: "main".parse().unwrap(),
            campaign: "c".parse().unwrap(),
            to: "905321234567".parse().unwrap(),
            message: MessageKind::Text,
            mmlite: false,
            attempts: 3,
        }
    }

    fn decision(job: JobAction) -> Decision {
        Decision { rule: "r".into(), job, pause: None, hold_account: None, slow_down: None, alert: None, advice: "".into() }
    }

    fn refused() -> Reply {
        Reply::Refused(Refusal { code: Some("GW_001".into()), meta: Some(131_026), http_status: 502, ..Refusal::default() })
    }

    fn come_to(job: JobAction, on_unknown: OnUnknown) -> Outcome {
        outcome(&subject(), &refused(), &decision(job), on_unknown, NOW)
    }

    #[test]
    fn waiting_and_holding_use_up_no_attempt() {
        assert_eq!(come_to(JobAction::Wait(MINUTE), OnUnknown::Park).attempts, 2);
        assert_eq!(come_to(JobAction::Hold, OnUnknown::Park).attempts, 2);
        assert_eq!(come_to(JobAction::Retry(MINUTE), OnUnknown::Park).attempts, 3);
    }

    #[test]
    fn a_held_job_goes_back_untouched() {
        let held = come_to(JobAction::Hold, OnUnknown::Park);
        assert_eq!((held.state, held.settle), (JobState::Waiting, Settle::Return));
    }

    #[test]
    fn an_unknown_outcome_is_parked_unless_the_campaign_says_resend() {
        let reply =
            Reply::Unknown(Trouble { kind: TroubleKind::Timeout, http_status: None, detail: "30s".into(), retry_after: None });
        let with = |on_unknown, retry| outcome(&subject(), &reply, &decision(JobAction::Unknown { retry }), on_unknown, NOW);
        for parked in [with(OnUnknown::Park, Some(MINUTE)), with(OnUnknown::Resend, None)] {
            assert!(matches!(&parked.settle, Settle::Dead(death) if death.reason == UNKNOWN_OUTCOME));
            assert_eq!(parked.state.tag(), crate::campaign::StateTag::Dead);
        }
        assert_eq!(with(OnUnknown::Resend, Some(MINUTE)).settle, Settle::Delay(MINUTE));
    }

    #[test]
    fn what_had_no_proper_answer_may_have_been_sent_whatever_the_rule_says() {
        let trouble = Trouble { kind: TroubleKind::Timeout, http_status: None, detail: "30s".into(), retry_after: None };
        for (reply, doubt) in [(Reply::Unknown(trouble.clone()), true), (Reply::Unreachable(trouble), false), (refused(), false)]
        {
            for job in [JobAction::DeadLetter, JobAction::Suppress, JobAction::Unknown { retry: None }] {
                let Settle::Dead(death) = outcome(&subject(), &reply, &decision(job), OnUnknown::Park, NOW).settle else {
                    panic!("not dead")
                };
                assert_eq!(death.may_have_been_sent, doubt, "{reply:?} {job:?}");
            }
        }
    }

    #[test]
    fn a_dead_letter_says_why() {
        let Settle::Dead(death) = come_to(JobAction::DeadLetter, OnUnknown::Park).settle else { panic!("not dead") };
        assert_eq!((death.code.as_deref(), death.meta, death.http_status), (Some("GW_001"), Some(131_026), Some(502)));
        assert_eq!(death.reason, "r");
    }

    #[test]
    fn a_dead_letter_has_the_words_of_the_gateway_or_of_what_broke_on_the_way() {
        let refusal = Refusal { description: "Recipient unknown".into(), http_status: 400, ..Refusal::default() };
        assert_eq!(death(&Reply::Refused(refusal), "r", NOW).description, "Recipient unknown");
        let detail = "connection reset".to_owned();
        let reset = Trouble { kind: TroubleKind::Reset, http_status: Some(502), detail, retry_after: None };
        let death = death(&Reply::Unknown(reset), "r", NOW);
        assert_eq!((death.http_status, death.description.as_str()), (Some(502), "Reset: connection reset (HTTP 502)"));
    }

    #[test]
    fn what_was_sent_is_known_by_the_id_the_gateway_gave_it() {
        let reply = Reply::Accepted { wamid: "wamid.7".into() };
        let sent = outcome(&subject(), &reply, &decision(JobAction::Sent), OnUnknown::Park, NOW);
        assert_eq!((sent.state, sent.settle), (JobState::Sent { wamid: "wamid.7".into() }, Settle::Ack));
    }

    #[test]
    fn pause_and_alert_carry_rule_cause_and_advice() {
        let decision = Decision {
            pause: Some(PauseOrder { scope: Scope::Account, length: Some(MINUTE), probe: true }),
            alert: Some(Severity::Critical),
            advice: "top up".into(),
            ..decision(JobAction::Hold)
        };
        let outcome = outcome(&subject(), &refused(), &decision, OnUnknown::Park, NOW);
        let (scope, pause) = outcome.pause.unwrap();
        assert_eq!((scope, pause.until, pause.probe), (Scope::Account, Some(later(NOW, MINUTE)), true));
        assert_eq!(pause.advice, "top up");
        let alert = outcome.alert.unwrap();
        assert_eq!((alert.rule.as_str(), alert.severity), ("r", Severity::Critical));
        assert!(alert.summary.contains("GW_001"));
    }
}
