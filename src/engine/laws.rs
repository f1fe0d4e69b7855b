//! What holds for any delivery of any job, whatever ledger and campaign say: nobody twice, nobody forgotten.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::triage::{Case, GIVE_WAY, Triage, own_death, triage};
use crate::broker::Headers;
use crate::campaign::{Campaign, Entry, JobState, OnUnknown, Options, Phase};
use crate::job::Job;
use crate::laws::Choices;
use crate::outcome::{POISON, Settle, UNKNOWN_OUTCOME};

const BODY: &[u8] = br#"{"campaign_id":"c","to":"905321234567","message":{"type":"text","text":{"body":"hi"}}}"#;
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// What is settled is never sent again under the same release, an attempt nobody knows the end of is parked or sent again as the
/// campaign says, and a delivery is only taken off its queue if the ledger says why.
pub fn hold(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let Ok(mut job) = Job::parse(BODY) else { panic!("the body is a job") };
    let campaign = campaign(&mut choices);
    job.account = choices.pick(&[None, None, Some("main"), Some("other")]).flatten().and_then(|name| name.parse().ok());
    job.not_after = choices.pick(&[None, None, Some(-1), Some(0), Some(1)]).flatten().map(at);
    let mut headers =
        Headers { attempts: u32::from(choices.below(9)), release: u32::from(choices.below(4)), ..Headers::default() };
    let entry = choices.maybe(entry);
    let (redelivered, suppressed, most_lost) = (choices.flag(), choices.flag(), u32::from(choices.below(4)) + 1);
    headers.redelivered = redelivered && choices.flag();
    headers.first_seen = choices.flag().then_some(NOW);
    let (job, headers, campaign, entry) = (&job, &headers, &campaign, entry.as_ref());
    let case = Case { job, headers, redelivered, campaign, entry, suppressed, most_lost, now: NOW };
    check(&case, &triage(&case));
}

fn at(seconds: i64) -> Timestamp {
    NOW.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(NOW)
}

fn campaign(choices: &mut Choices<'_>) -> Campaign {
    let (Ok(id), Ok(account)) = ("c".parse(), "main".parse()) else { panic!("names that are none") };
    let on_unknown = if choices.flag() { OnUnknown::Resend } else { OnUnknown::Park };
    let mut campaign = Campaign::new(id, account, Options { on_unknown, ..Options::default() }, NOW);
    campaign.losses = u32::from(choices.below(3));
    campaign.ledger_gone = choices.below(4) == 3;
    campaign.phase = choices.pick(&[Phase::Running, Phase::Running, Phase::Cancelled, Phase::Finished]).unwrap_or(Phase::Running);
    campaign
}

fn entry(choices: &mut Choices<'_>) -> Entry {
    let state = match choices.below(7) {
        0 => JobState::Opened,
        1 => JobState::Waiting,
        2 => JobState::Delayed { until: choices.pick(&[-1, 0, 1, 3600]).map_or(NOW, at) },
        3 => JobState::Sent { wamid: "w".into() },
        4 => JobState::Dead(own_death("r", "", NOW)),
        5 => JobState::Cancelled,
        _ => JobState::Expired,
    };
    let mut small = |count| u32::from(choices.below(count));
    Entry { state, attempts: small(9), lost: small(5), release: small(4), batches: 1, era: small(3) }
}

fn check(case: &Case<'_>, found: &Triage) {
    let current = case.entry.filter(|entry| entry.release >= case.headers.release);
    let (release, attempts) = match found {
        Triage::Send { attempts, release } => {
            check_sending(case, current);
            (*release, *attempts)
        }
        Triage::Record { state, attempts, release, settle } => {
            check_record(case, state, settle);
            (*release, *attempts)
        }
        Triage::Settle(settle) => return check_settled(case, current, settle),
    };
    assert_eq!(release, case.headers.release.max(case.entry.map_or(0, |entry| entry.release)));
    let known = case.entry.filter(|_| !(in_doubt(case) && current.is_none())).map(|entry| entry.attempts);
    assert_eq!(attempts, known.unwrap_or(case.headers.attempts), "no attempt is forgotten");
    assert!(current.is_none_or(|entry| !entry.state.is_settled()), "what is settled stays so: {found:?}");
}

/// It was delivered before, and what the ledger knew of that time is lost: nobody can say that it was not sent.
fn in_doubt(case: &Case<'_>) -> bool {
    case.redelivered && case.entry.map_or(0, |entry| entry.era) < case.campaign.losses
}

/// A repeated publish that nobody has seen before: its first may still come.
const fn may_overtake(case: &Case<'_>) -> bool {
    case.headers.redelivered && case.headers.first_seen.is_none()
}

fn check_sending(case: &Case<'_>, current: Option<&Entry>) {
    assert!(case.campaign.phase != Phase::Cancelled && !case.suppressed, "called off");
    assert!(case.job.not_after.is_none_or(|limit| limit >= NOW), "too late");
    assert!(case.job.account.as_ref().is_none_or(|account| *account == case.campaign.account), "by another's account");
    assert!(current.is_none_or(|entry| entry.release == case.headers.release), "a copy from before its release");
    let opened = current.filter(|entry| entry.state == JobState::Opened);
    if in_doubt(case) || opened.is_some() {
        assert_eq!(case.campaign.options.on_unknown, OnUnknown::Resend, "never twice behind the campaign's back");
    }
    assert!(opened.is_none_or(|entry| entry.lost + 1 < case.most_lost), "it may be what kills the daemon");
    assert!(case.entry.is_some() || !case.campaign.ledger_gone, "nobody knows any more whether it was sent");
    let released = case.entry.is_some_and(|entry| case.headers.release > entry.release);
    assert!(!may_overtake(case) || in_doubt(case) || opened.is_some() || released, "it overtakes its first");
    if let Some(JobState::Delayed { until }) = current.filter(|_| !in_doubt(case)).map(|entry| &entry.state) {
        assert!(until.duration_since(NOW) <= SignedDuration::from_millis(50), "too early");
    }
}

fn check_record(case: &Case<'_>, state: &JobState, settle: &Settle) {
    match (state, settle) {
        (JobState::Cancelled, Settle::Ack) => assert_eq!(case.campaign.phase, Phase::Cancelled),
        (JobState::Delayed { until }, Settle::Delay(wait)) => {
            assert!(case.entry.is_none() && may_overtake(case), "delayed without an attempt");
            assert_eq!(SignedDuration::try_from(*wait).ok(), Some(until.duration_since(NOW)));
        }
        (JobState::Expired, Settle::Ack) => assert!(case.job.not_after.is_some_and(|limit| limit < NOW)),
        (JobState::Dead(ledger), Settle::Dead(broker)) => {
            assert_eq!((ledger, ledger.at), (broker, NOW));
            let kills = case.entry.is_some_and(|entry| entry.state == JobState::Opened && entry.lost + 1 >= case.most_lost);
            assert!(kills || ledger.reason != POISON, "no poison");
            let doubt = matches!(&*ledger.reason, UNKNOWN_OUTCOME | POISON | "campaign-over");
            assert_eq!(ledger.may_have_been_sent, doubt, "{}", ledger.reason);
        }
        pair => panic!("a job is forgotten, or ledger and broker are told different things: {pair:?}"),
    }
}

fn check_settled(case: &Case<'_>, current: Option<&Entry>, settle: &Settle) {
    let Some(entry) = current else { panic!("taken off the queue, and nobody knows why: {settle:?}") };
    let older = case.headers.release < entry.release;
    match settle {
        Settle::Ack => assert!(older || entry.state.is_settled(), "forgotten in state {:?}", entry.state),
        Settle::Delay(left) => {
            let own = match &entry.state {
                JobState::Delayed { until } => Duration::try_from(until.duration_since(NOW)).unwrap_or_default(),
                JobState::Waiting if may_overtake(case) => Duration::ZERO,
                state => panic!("delayed anew in state {state:?}"),
            };
            assert_eq!(*left, if may_overtake(case) { own.max(GIVE_WAY) } else { own });
            assert!(!in_doubt(case), "it would be sent without asking the campaign");
        }
        Settle::Dead(death) => assert!(case.redelivered && entry.state == JobState::Dead(death.clone())),
        Settle::Return => panic!("a delivery that goes round for ever"),
    }
}
