//! What to do with a delivery, by what the ledger knows of its job. Pure. This is where "nobody twice" is decided.

use std::time::Duration;

use jiff::Timestamp;

use crate::broker::{Death, Headers};
use crate::campaign::{Campaign, Entry, JobState, OnUnknown, Phase};
use crate::job::Job;
use crate::outcome::{POISON, Settle, UNKNOWN_OUTCOME, later};

/// Delays up to this are not worth another trip through the broker.
const SHORT: Duration = Duration::from_millis(50);

/// How long a repeated publish waits for its first, which may come later: by another connection, or by the intake. Sent before it, and
/// the ledger lost then, the first would look like a job of which nothing was ever sent. Each repeat waits at the broker itself, so
/// that a daemon whose wall clock is set forward sends none early.
pub(super) const GIVE_WAY: Duration = Duration::from_secs(15);

/// What happens to a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Triage {
    /// Send it: nothing was sent under this release.
    Send {
        /// Attempts used so far.
        attempts: u32,
        /// Its release.
        release: u32,
    },
    /// Write this to the ledger, then settle.
    Record {
        /// Where the job is from now on.
        state: JobState,
        /// Attempts used so far.
        attempts: u32,
        /// Its release.
        release: u32,
        /// What the broker is told.
        settle: Settle,
    },
    /// The ledger knows it all; just settle.
    Settle(Settle),
}

/// What the deciding looks at.
pub(super) struct Case<'a> {
    pub(super) job: &'a Job,
    pub(super) headers: &'a Headers,
    pub(super) redelivered: bool,
    pub(super) campaign: &'a Campaign,
    pub(super) entry: Option<&'a Entry>,
    pub(super) suppressed: bool,
    /// Attempts in a row during which the daemon may die before the job is parked even under `resend`.
    pub(super) most_lost: u32,
    pub(super) now: Timestamp,
}

/// Decides.
pub(super) fn triage(case: &Case<'_>) -> Triage {
    let release = case.headers.release.max(case.entry.map_or(0, |entry| entry.release));
    match case.entry {
        None => fresh(case, release),
        // A copy from before a person released the job: what it stood for is settled.
        Some(entry) if case.headers.release < entry.release => Triage::Settle(Settle::Ack),
        // A release this ledger has not heard of: what it settled was an earlier one.
        Some(entry) if case.headers.release > entry.release => match in_doubt(case, entry) {
            Some(why) => unknown(case, case.headers.attempts, release, why),
            None => unsent(case, entry.attempts, release),
        },
        Some(entry) => known(case, entry),
    }
}

fn fresh(case: &Case<'_>, release: u32) -> Triage {
    if case.campaign.ledger_gone {
        let death = doubtful_death("campaign-over", "the campaign is over and its ledger cleaned up", case.now);
        return dead(death, case.headers.attempts, release);
    }
    if case.redelivered && case.campaign.losses > 0 {
        return unknown(case, case.headers.attempts, release, "delivered before, and the ledger of that time is lost");
    }
    match unsent(case, case.headers.attempts, release) {
        Triage::Send { attempts, release } if must_give_way(case) => {
            let until = later(case.now, GIVE_WAY);
            Triage::Record { state: JobState::Delayed { until }, attempts, release, settle: Settle::Delay(GIVE_WAY) }
        }
        decided => decided,
    }
}

/// It is a repeated publish that has not waited yet: nobody has seen it before, so its first, if there is one, may still come.
const fn must_give_way(case: &Case<'_>) -> bool {
    case.headers.redelivered && case.headers.first_seen.is_none()
}

fn known(case: &Case<'_>, entry: &Entry) -> Triage {
    match &entry.state {
        JobState::Opened => lost(case, entry),
        JobState::Waiting | JobState::Delayed { .. } if let Some(why) = in_doubt(case, entry) => {
            unknown(case, entry.attempts, entry.release, why)
        }
        JobState::Waiting => not_before(case, entry, Duration::ZERO),
        JobState::Delayed { until } => {
            not_before(case, entry, Duration::try_from(until.duration_since(case.now)).unwrap_or_default())
        }
        // Only a redelivery may mean that the dead letter was never published.
        JobState::Dead(death) if case.redelivered => Triage::Settle(Settle::Dead(death.clone())),
        JobState::Sent { .. } | JobState::Dead(_) | JobState::Cancelled | JobState::Expired => Triage::Settle(Settle::Ack),
    }
}

/// Not sent so far, and to be sent when so much time has passed, if at all.
fn not_before(case: &Case<'_>, entry: &Entry, left: Duration) -> Triage {
    let left = if must_give_way(case) { left.max(GIVE_WAY) } else { left };
    let over = case.campaign.phase == Phase::Cancelled || is_late(case);
    if left > SHORT && !over { Triage::Settle(Settle::Delay(left)) } else { unsent(case, entry.attempts, entry.release) }
}

/// Why an entry does not tell whether the job was sent: it is from before the ledger's last loss, and the job was delivered before too.
const fn in_doubt(case: &Case<'_>, entry: &Entry) -> Option<&'static str> {
    let old = case.redelivered && entry.era < case.campaign.losses;
    if old { Some("delivered before, and what the ledger said of it since is lost") } else { None }
}

/// What to write of a job that goes back to its queue unbegun, so that it is not in doubt when it comes again: state, attempts, release.
/// None when it is in doubt already, or will not be.
pub(super) fn returned_unbegun(
    headers: &Headers,
    redelivered: bool,
    campaign: &Campaign,
    entry: Option<&Entry>,
) -> Option<(JobState, u32, u32)> {
    if redelivered || campaign.losses == 0 {
        return None;
    }
    let Some(entry) = entry else { return Some((JobState::Waiting, headers.attempts, headers.release)) };
    if entry.era == campaign.losses || headers.release < entry.release {
        return None;
    }
    if headers.release > entry.release {
        return Some((JobState::Waiting, entry.attempts, headers.release));
    }
    let open = matches!(entry.state, JobState::Waiting | JobState::Delayed { .. });
    open.then(|| (entry.state.clone(), entry.attempts, entry.release))
}

/// Surely not sent under this release: may it be sent now?
fn unsent(case: &Case<'_>, attempts: u32, release: u32) -> Triage {
    if case.campaign.phase == Phase::Cancelled {
        return Triage::Record { state: JobState::Cancelled, attempts, release, settle: Settle::Ack };
    }
    if is_late(case) {
        return Triage::Record { state: JobState::Expired, attempts, release, settle: Settle::Ack };
    }
    if case.suppressed {
        return dead(own_death("suppressed", "the recipient is on the account's suppression list", case.now), attempts, release);
    }
    if case.job.account.as_ref().is_some_and(|account| *account != case.campaign.account) {
        return dead(own_death("wrong-account", "the job names another account than its campaign", case.now), attempts, release);
    }
    Triage::Send { attempts, release }
}

/// The daemon died while its attempt was open.
fn lost(case: &Case<'_>, entry: &Entry) -> Triage {
    let times = entry.lost.saturating_add(1);
    if case.campaign.options.on_unknown == OnUnknown::Resend && times >= case.most_lost {
        let why = format!(
            "the daemon died during each of its last {times} attempts; it may be what kills it, and it may have been sent"
        );
        return dead(doubtful_death(POISON, &why, case.now), entry.attempts, entry.release);
    }
    unknown(case, entry.attempts, entry.release, "the daemon stopped before the answer was recorded")
}

/// Nobody knows whether it was sent.
fn unknown(case: &Case<'_>, attempts: u32, release: u32, why: &str) -> Triage {
    let resend = case.campaign.options.on_unknown == OnUnknown::Resend;
    if resend {
        return unsent(case, attempts, release);
    }
    dead(doubtful_death(UNKNOWN_OUTCOME, why, case.now), attempts, release)
}

fn is_late(case: &Case<'_>) -> bool {
    case.job.not_after.is_some_and(|limit| limit < case.now)
}

fn dead(death: Death, attempts: u32, release: u32) -> Triage {
    Triage::Record { state: JobState::Dead(death.clone()), attempts, release, settle: Settle::Dead(death) }
}

/// A death that no reply of the gateway caused, of a job that nobody sent.
pub(super) fn own_death(reason: &str, description: &str, at: Timestamp) -> Death {
    Death { description: description.into(), ..Death::new(at, reason) }
}

/// The same of a job that may have been sent.
fn doubtful_death(reason: &str, description: &str, at: Timestamp) -> Death {
    Death { may_have_been_sent: true, ..own_death(reason, description, at) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::{Options, Record};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    struct Setup {
        job: Job,
        headers: Headers,
        campaign: Campaign,
        entry: Option<Entry>,
        redelivered: bool,
        suppressed: bool,
    }

    fn setup() -> Setup {
        let body = br#"{"campaign_id":"c","to":"905321234567","message":{"type":"text","text":{"body":"hi"}}}"#;
        let campaign = Campaign::new("c".parse().unwrap(), "main".parse().unwrap(), Options::default(), NOW);
        Setup {
            job: Job::parse(body).unwrap(),
            headers: Headers::default(),
            campaign,
            entry: None,
            redelivered: false,
            suppressed: false,
        }
    }

    impl Setup {
        fn with(mut self, state: JobState, release: u32) -> Self {
            self.entry = Some(Entry { state, attempts: 1, lost: 0, release, batches: 1, era: 0 });
            self
        }

        fn triage(&self) -> Triage {
            triage(&Case {
                job: &self.job,
                headers: &self.headers,
                redelivered: self.redelivered,
                campaign: &self.campaign,
                entry: self.entry.as_ref(),
                suppressed: self.suppressed,
                most_lost: 3,
                now: NOW,
            })
        }

        fn reason(&self) -> String {
            match self.triage() {
                Triage::Record { settle: Settle::Dead(death), .. } => death.reason,
                other => panic!("not dead: {other:?}"),
            }
        }
    }

    const SENT: fn() -> JobState = || JobState::Sent { wamid: "w".into() };

    #[test]
    fn what_is_settled_is_never_sent_again() {
        for redelivered in [false, true] {
            for state in [SENT(), JobState::Cancelled, JobState::Expired] {
                let setup = Setup { redelivered, ..setup().with(state, 0) };
                assert_eq!(setup.triage(), Triage::Settle(Settle::Ack));
            }
        }
    }

    #[test]
    fn an_open_attempt_is_unknown_and_parked_or_resent_as_the_campaign_says() {
        let mut setup = Setup { redelivered: true, ..setup().with(JobState::Opened, 0) };
        assert_eq!(setup.reason(), UNKNOWN_OUTCOME);
        setup.campaign.options.on_unknown = OnUnknown::Resend;
        assert_eq!(setup.triage(), Triage::Send { attempts: 1, release: 0 });
    }

    #[test]
    fn a_job_that_keeps_killing_the_daemon_is_parked_even_under_resend() {
        let mut setup = Setup { redelivered: true, ..setup().with(JobState::Opened, 0) };
        setup.campaign.options.on_unknown = OnUnknown::Resend;
        let lose = |setup: &mut Setup, attempts, lost| {
            let entry = setup.entry.as_mut().unwrap();
            (entry.attempts, entry.lost) = (attempts, lost);
        };
        lose(&mut setup, 9, 1);
        assert_eq!(setup.triage(), Triage::Send { attempts: 9, release: 0 }, "ordinary attempts do not count");
        lose(&mut setup, 10, 2);
        assert_eq!(setup.reason(), POISON);
        setup.campaign.options.on_unknown = OnUnknown::Park;
        assert_eq!(setup.reason(), UNKNOWN_OUTCOME, "under park it was tried once");
    }

    #[test]
    fn a_redelivery_without_an_entry_is_sent_only_while_the_ledger_is_whole() {
        let mut setup = Setup { redelivered: true, ..setup() };
        assert_eq!(setup.triage(), Triage::Send { attempts: 0, release: 0 });
        setup.campaign.lose_ledger(NOW);
        assert_eq!(setup.reason(), UNKNOWN_OUTCOME);
        setup.redelivered = false;
        assert_eq!(setup.triage(), Triage::Send { attempts: 0, release: 0 });
    }

    #[test]
    fn a_repeat_that_overtakes_its_first_waits_for_it_once() {
        let mut setup = setup();
        setup.redelivered = true;
        assert!(matches!(setup.triage(), Triage::Send { .. }), "returned to its queue by the broker: no other is on its way");
        setup.headers.redelivered = true;
        let Triage::Record { state, settle: Settle::Delay(GIVE_WAY), .. } = setup.triage() else { panic!("it does not wait") };
        let JobState::Delayed { until } = state else { panic!("{state:?}") };
        assert!(until > NOW);
        let mut setup = setup.with(state, 0);
        setup.headers.redelivered = false;
        assert_eq!(setup.triage(), Triage::Settle(Settle::Delay(GIVE_WAY)), "its first, that came meanwhile, waits as long");
        for over in [JobState::Delayed { until: NOW }, JobState::Waiting] {
            setup.entry.as_mut().unwrap().state = over;
            setup.headers = Headers { redelivered: true, ..Headers::default() };
            assert_eq!(
                setup.triage(),
                Triage::Settle(Settle::Delay(GIVE_WAY)),
                "a third, whatever a wall clock says of the second"
            );
            setup.headers.first_seen = Some(NOW);
            assert!(matches!(setup.triage(), Triage::Send { .. }), "it has waited");
        }
        setup.headers.first_seen = None;
        setup.campaign.cancel(NOW);
        setup.entry = None;
        assert!(matches!(setup.triage(), Triage::Record { state: JobState::Cancelled, .. }), "what is not sent need not wait");
    }

    #[test]
    fn what_an_older_copy_of_the_ledger_says_is_not_believed_of_a_redelivered_job() {
        let delayed = JobState::Delayed { until: NOW };
        for state in [JobState::Waiting, delayed] {
            let mut setup = Setup { redelivered: true, ..setup().with(state.clone(), 0) };
            assert!(matches!(setup.triage(), Triage::Send { .. }));
            setup.campaign.lose_ledger(NOW);
            assert_eq!(setup.reason(), UNKNOWN_OUTCOME, "{state:?}");
            setup.entry.as_mut().unwrap().era = 1;
            assert!(matches!(setup.triage(), Triage::Send { .. }), "written since");
            setup.entry.as_mut().unwrap().era = 0;
            setup.redelivered = false;
            assert!(matches!(setup.triage(), Triage::Send { .. }), "never delivered since it was put there");
        }
        let mut released = Setup { redelivered: true, ..setup().with(JobState::Dead(own_death("r", "", NOW)), 0) };
        released.headers.release = 1;
        released.campaign.lose_ledger(NOW);
        assert_eq!(released.reason(), UNKNOWN_OUTCOME, "a release the ledger has forgotten");
        let sent = Setup { redelivered: true, ..setup().with(SENT(), 0) };
        assert_eq!(sent.triage(), Triage::Settle(Settle::Ack));
    }

    #[test]
    fn what_goes_back_unbegun_is_in_no_doubt_when_it_comes_again() {
        let states = [JobState::Waiting, JobState::Delayed { until: NOW }, JobState::Dead(own_death("r", "", NOW))];
        let entries = states.map(|state| Entry { state, attempts: 1, lost: 0, release: 0, batches: 1, era: 0 });
        for (entry, release) in [(None, 0), (Some(&entries[0]), 0), (Some(&entries[1]), 0), (Some(&entries[2]), 1)] {
            let mut setup = setup();
            setup.entry = entry.cloned();
            setup.headers.release = release;
            setup.campaign.lose_ledger(NOW);
            let (headers, campaign) = (&setup.headers, &setup.campaign);
            assert_eq!(returned_unbegun(headers, true, campaign, entry), None, "it is in doubt already");
            let (state, attempts, release) = returned_unbegun(headers, false, campaign, entry).unwrap();
            let record = Record::new("j".parse().unwrap(), entry, 0, state, attempts, release, campaign.losses);
            assert_eq!(returned_unbegun(headers, false, campaign, Some(&record.now)), None, "once is enough");
            setup.entry = Some(record.now);
            setup.redelivered = true;
            assert_eq!(setup.triage(), Triage::Send { attempts, release });
        }
        let mut sent = setup().with(SENT(), 0);
        sent.campaign.lose_ledger(NOW);
        assert_eq!(returned_unbegun(&sent.headers, false, &sent.campaign, sent.entry.as_ref()), None);
    }

    #[test]
    fn a_release_is_sent_once_and_older_copies_are_dropped() {
        let mut setup = setup().with(SENT(), 1);
        assert_eq!(setup.triage(), Triage::Settle(Settle::Ack), "copy of release 0");
        setup.headers.release = 1;
        assert_eq!(setup.triage(), Triage::Settle(Settle::Ack), "release 1 is sent");
        setup.headers.release = 2;
        assert_eq!(setup.triage(), Triage::Send { attempts: 1, release: 2 });
    }

    #[test]
    fn a_dead_letter_is_published_again_only_after_a_redelivery() {
        let dead = JobState::Dead(own_death("r", "", NOW));
        let fresh = setup().with(dead.clone(), 0);
        assert_eq!(fresh.triage(), Triage::Settle(Settle::Ack));
        let again = Setup { redelivered: true, ..setup().with(dead, 0) };
        assert!(matches!(again.triage(), Triage::Settle(Settle::Dead(_))));
    }

    #[test]
    fn a_delayed_job_that_came_early_waits_for_the_rest() {
        let until = NOW.checked_add(jiff::SignedDuration::from_secs(10)).unwrap();
        assert_eq!(setup().with(JobState::Delayed { until }, 0).triage(), Triage::Settle(Settle::Delay(Duration::from_secs(10))));
        assert!(matches!(setup().with(JobState::Delayed { until: NOW }, 0).triage(), Triage::Send { .. }));
        let short = NOW.checked_add(SHORT).unwrap();
        assert!(matches!(setup().with(JobState::Delayed { until: short }, 0).triage(), Triage::Send { .. }), "not worth the way");
    }

    #[test]
    fn a_delayed_job_that_came_early_and_need_not_be_sent_any_more_is_settled() {
        let until = NOW.checked_add(jiff::SignedDuration::from_secs(10)).unwrap();
        let mut late = setup().with(JobState::Delayed { until }, 0);
        late.job.not_after = Some(Timestamp::from_second(-1).unwrap());
        assert!(matches!(late.triage(), Triage::Record { state: JobState::Expired, .. }));
        let mut cancelled = setup().with(JobState::Delayed { until }, 0);
        cancelled.campaign.cancel(NOW);
        assert!(matches!(cancelled.triage(), Triage::Record { state: JobState::Cancelled, .. }));
    }

    #[test]
    fn a_dead_letter_nobody_sent_says_why() {
        let Triage::Record { settle: Settle::Dead(death), .. } = (Setup { suppressed: true, ..setup() }).triage() else {
            panic!("not dead")
        };
        assert_eq!((death.description.as_str(), death.at), ("the recipient is on the account's suppression list", NOW));
        assert!(!death.may_have_been_sent);
    }

    #[test]
    fn late_suppressed_cancelled_and_misdirected_jobs_are_not_sent() {
        let mut late = setup();
        late.job.not_after = Some(Timestamp::from_second(-1).unwrap());
        assert!(matches!(late.triage(), Triage::Record { state: JobState::Expired, .. }));
        assert_eq!(Setup { suppressed: true, ..setup() }.reason(), "suppressed");
        let mut cancelled = setup();
        cancelled.campaign.cancel(NOW);
        assert!(matches!(cancelled.triage(), Triage::Record { state: JobState::Cancelled, .. }));
        let mut misdirected = setup();
        misdirected.job.account = Some("other".parse().unwrap());
        assert_eq!(misdirected.reason(), "wrong-account");
    }
}
