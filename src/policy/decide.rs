//! Applies the rules to one reply. Pure: the time, the history and the dice are told.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::Timestamp;
use rand::RngExt;

use super::rules::{Delay, JobPlan, RETRY_AFTER_DEFAULT, Rule, Rules};
use super::{Decision, History, JobAction, Severity, Subject};
use crate::dice::Dice;
use crate::gateway::Reply;

/// The rule named for an accepted message.
pub const ACCEPTED: &str = "accepted";
/// The rule named when none matched.
pub const NO_RULE: &str = "no-rule-matched";

static ACCEPTED_NAME: LazyLock<Arc<str>> = LazyLock::new(|| ACCEPTED.into());
static NO_WORDS: LazyLock<Arc<str>> = LazyLock::new(|| "".into());

/// A delay is drawn between this share of the listed one and the whole of it, so that what failed together is not retried together.
const SHORTEST_SHARE: f64 = 0.8;

/// What a reply means for its job, campaign and account.
///
/// Only for replies to requests that were made. What the daemon itself causes (a paused lane, a shutdown, a full disk) must
/// never come here: a rule that pauses would then be kept tripping by its own pause.
///
/// Whatever a rule says, a message that may have been sent is never tried again behind the campaign's back: for an unknown
/// reply, `retry` means "retry if the campaign's `on_unknown` says resend", and `wait` and `hold` leave it to a person.
#[must_use]
pub fn decide(
    rules: &Rules,
    history: &mut History,
    subject: &Subject,
    reply: &Reply,
    now: Timestamp,
    dice: &mut Dice,
) -> Decision {
    if matches!(reply, Reply::Accepted { .. }) {
        history.succeeded(subject);
        return plain(Arc::clone(&ACCEPTED_NAME), JobAction::Sent);
    }
    let mut decision = match rules.find(subject, reply) {
        Some(rule) => apply(rule, history, subject, reply, now, dice),
        None => last_resort(),
    };
    if matches!(reply, Reply::Unknown(_)) {
        decision.job = leave_to_campaign(decision.job);
    }
    decision
}

fn apply(rule: &Rule, history: &mut History, subject: &Subject, reply: &Reply, now: Timestamp, dice: &mut Dice) -> Decision {
    let repeated = rule.repeated.as_ref().filter(|repeated| history.has_repeated(&rule.name, repeated, subject, now));
    let job = repeated.and_then(|repeated| repeated.job.as_ref()).unwrap_or(&rule.job);
    let asked = retry_after(reply);
    Decision {
        rule: Arc::clone(&rule.name),
        job: plan(job, subject.attempts, asked, dice),
        pause: repeated.and_then(|repeated| repeated.pause).or(rule.pause),
        hold_account: rule.hold_account.map(|delay| match delay {
            Delay::RetryAfter => asked.unwrap_or(RETRY_AFTER_DEFAULT),
            Delay::For(length) => length.max(asked.unwrap_or_default()),
        }),
        slow_down: repeated.and_then(|repeated| repeated.slow_down).or(rule.slow_down),
        alert: repeated.and_then(|repeated| repeated.alert).or(rule.alert),
        advice: fill_in(&rule.advice, subject),
    }
}

fn plan(job: &JobPlan, attempts: u32, asked: Option<Duration>, dice: &mut Dice) -> JobAction {
    match job {
        JobPlan::Retry(delays) => next(delays, attempts, asked, dice).map_or(JobAction::DeadLetter, JobAction::Retry),
        JobPlan::Wait(Delay::RetryAfter) => JobAction::Wait(asked.unwrap_or(RETRY_AFTER_DEFAULT)),
        JobPlan::Wait(Delay::For(length)) => JobAction::Wait(draw(*length, asked, dice)),
        JobPlan::Hold => JobAction::Hold,
        JobPlan::DeadLetter => JobAction::DeadLetter,
        JobPlan::Suppress => JobAction::Suppress,
        JobPlan::Unknown(delays) => JobAction::Unknown { retry: next(delays, attempts, asked, dice) },
    }
}

/// The delay after the attempt that was just used; none once the schedule is used up.
fn next(delays: &[Duration], attempts: u32, asked: Option<Duration>, dice: &mut Dice) -> Option<Duration> {
    let used = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    delays.get(used).map(|&listed| draw(listed, asked, dice))
}

/// What the gateway asks for is a floor: it is never shortened.
fn draw(listed: Duration, asked: Option<Duration>, dice: &mut Dice) -> Duration {
    listed.mul_f64(dice.random_range(SHORTEST_SHARE..=1.0)).max(asked.unwrap_or_default())
}

fn leave_to_campaign(job: JobAction) -> JobAction {
    match job {
        JobAction::Retry(delay) => JobAction::Unknown { retry: Some(delay) },
        JobAction::Wait(_) | JobAction::Hold => JobAction::Unknown { retry: None },
        other => other,
    }
}

fn retry_after(reply: &Reply) -> Option<Duration> {
    match reply {
        Reply::Accepted { .. } => None,
        Reply::Refused(refusal) => refusal.retry_after,
        Reply::Unreachable(trouble) | Reply::Unknown(trouble) => trouble.retry_after,
    }
}

fn fill_in(advice: &Arc<str>, subject: &Subject) -> Arc<str> {
    if !advice.contains('{') {
        return Arc::clone(advice);
    }
    advice.replace("{account}", subject.account.as_str()).replace("{campaign}", subject.campaign.as_str()).into()
}

/// Only reached with an operator's own rules: the compiled-in ones end with rules that match everything.
fn last_resort() -> Decision {
    Decision {
        alert: Some(Severity::Warning),
        advice: "No rule matches this reply. Add one to the rules file; `campaignd policy explain` shows what matches.".into(),
        ..plain(NO_RULE.into(), JobAction::DeadLetter)
    }
}

fn plain(rule: Arc<str>, job: JobAction) -> Decision {
    Decision { rule, job, pause: None, hold_account: None, slow_down: None, alert: None, advice: Arc::clone(&NO_WORDS) }
}
