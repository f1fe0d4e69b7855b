//! The default table, row by row, written by hand from the design and from Meta's list, not from `config/policy.toml`.

use std::time::Duration;

use super::Severity::{Critical, Info, Warning};
use super::*;

#[test]
fn the_compiled_in_rules_parse() {
    match Rules::parse(BUILTIN_TEXT, "config/policy.toml") {
        Ok(rules) => assert!(rules.iter().count() > 50),
        Err(mistakes) => panic!("{mistakes}"),
    }
}

/// What happens to the job; delays in seconds, as listed.
#[derive(Clone, Copy)]
enum Job {
    Hold,
    Dead,
    Suppress,
    Retry(&'static [u64]),
    WaitRetryAfter,
    Wait(u64),
    Unknown(&'static [u64]),
}
use Job::{Dead, Hold, Retry, Suppress, Unknown, Wait, WaitRetryAfter};

const C: Option<PauseOrder> = Some(PauseOrder { scope: Scope::Campaign, length: None, probe: false });
const A: Option<PauseOrder> = Some(PauseOrder { scope: Scope::Account, length: None, probe: false });

const fn timed(scope: Scope, seconds: u64, probe: bool) -> Option<PauseOrder> {
    Some(PauseOrder { scope, length: Some(Duration::from_secs(seconds)), probe })
}
/// Pause the account for a minute, then one job at a time until one succeeds.
const BREAKER: Option<PauseOrder> = timed(Scope::Account, 60, true);

type DelayOf = fn(JobAction) -> Option<Duration>;

/// One row: these replies, each by itself, mean this.
struct Row {
    replies: Vec<Reply>,
    subject: Subject,
    job: Job,
    pause: Option<PauseOrder>,
    alert: Option<Severity>,
    slows: bool,
    holds_account: bool,
    /// The n-th in a row brings this pause and this alert.
    then: Option<(usize, Option<PauseOrder>, Severity)>,
}

fn row(replies: impl IntoIterator<Item = Reply>, job: Job) -> Row {
    let replies = replies.into_iter().collect();
    Row { replies, subject: subject(), job, pause: None, alert: None, slows: false, holds_account: false, then: None }
}

fn metas<const N: usize>(numbers: [u32; N], job: Job) -> Row {
    row(numbers.map(meta), job)
}

impl Row {
    fn pauses(self, pause: Option<PauseOrder>, alert: Severity) -> Self {
        Self { pause, alert: Some(alert), ..self }
    }

    fn alerts(self, alert: Severity) -> Self {
        Self { alert: Some(alert), ..self }
    }

    fn slows(self) -> Self {
        Self { slows: true, ..self }
    }

    fn holds_account(self) -> Self {
        Self { holds_account: true, ..self }
    }

    fn then(self, times: usize, pause: Option<PauseOrder>, alert: Severity) -> Self {
        Self { then: Some((times, pause, alert)), ..self }
    }

    fn of_text(mut self) -> Self {
        self.subject.message = MessageKind::Text;
        self
    }

    fn by_mmlite(mut self) -> Self {
        self.subject.mmlite = true;
        self
    }

    fn check(&self) {
        for reply in &self.replies {
            self.check_job(reply);
            self.check_first(reply);
            self.check_repeated(reply);
        }
    }

    fn job_at(&self, reply: &Reply, attempts: u32) -> JobAction {
        let subject = Subject { attempts, ..self.subject.clone() };
        World::builtin().decide(&subject, reply).job
    }

    fn check_job(&self, reply: &Reply) {
        let is_drawn = |got: Duration, listed: u64| {
            let listed = Duration::from_secs(listed);
            assert!(listed.mul_f64(0.8) <= got && got <= listed, "{reply:?}: {got:?} for {listed:?}");
        };
        let (schedule, wrap): (&[u64], DelayOf) = match self.job {
            Hold => return assert_eq!(self.job_at(reply, 1), JobAction::Hold, "{reply:?}"),
            Dead => return assert_eq!(self.job_at(reply, 1), JobAction::DeadLetter, "{reply:?}"),
            Suppress => return assert_eq!(self.job_at(reply, 1), JobAction::Suppress, "{reply:?}"),
            WaitRetryAfter => return assert!(matches!(self.job_at(reply, 99), JobAction::Wait(_)), "{reply:?}"),
            Wait(seconds) => match self.job_at(reply, 99) {
                JobAction::Wait(got) => return is_drawn(got, seconds),
                other => panic!("{reply:?}: {other:?}"),
            },
            Retry(schedule) => (schedule, |job| match job {
                JobAction::Retry(delay) => Some(delay),
                JobAction::DeadLetter => None,
                other => panic!("{other:?}"),
            }),
            Unknown(schedule) => (schedule, |job| match job {
                JobAction::Unknown { retry } => retry,
                other => panic!("{other:?}"),
            }),
        };
        for (used, &listed) in (1..).zip(schedule) {
            is_drawn(wrap(self.job_at(reply, used)).unwrap_or_else(|| panic!("{reply:?}: no delay after {used}")), listed);
        }
        assert_eq!(wrap(self.job_at(reply, schedule.len() as u32 + 1)), None, "{reply:?}: the schedule is used up");
    }

    fn check_first(&self, reply: &Reply) {
        let decision = World::builtin().decide(&self.subject, reply);
        assert_eq!(decision.pause, self.pause, "{reply:?}");
        assert_eq!(decision.alert, self.alert, "{reply:?}");
        assert_eq!(decision.slow_down.is_some(), self.slows, "{reply:?}");
        assert_eq!(decision.hold_account.is_some(), self.holds_account, "{reply:?}");
        if self.pause.is_some() || self.alert.is_some() {
            assert!(!decision.advice.is_empty() && !decision.advice.contains('{'), "{reply:?}: {}", decision.advice);
        }
    }

    fn check_repeated(&self, reply: &Reply) {
        let decisions = World::builtin().repeat(&self.subject, reply, 50);
        for (nth, decision) in (1..).zip(&decisions) {
            let (pause, alert) = match self.then {
                Some((times, pause, alert)) if nth >= times => (pause, Some(alert)),
                _ => (self.pause, self.alert),
            };
            assert_eq!((decision.pause, decision.alert), (pause, alert), "{reply:?}, number {nth}");
        }
    }
}

fn check(rows: &[Row]) {
    rows.iter().for_each(Row::check);
}

#[test]
fn the_gateways_own_codes() {
    check(&[
        row([refused("BILL_001", 402)], Hold).pauses(A, Critical),
        row([refused("BILL_002", 400)], Hold).pauses(A, Critical),
        row([refused("RATE_001", 429)], WaitRetryAfter).holds_account().then(10, None, Warning),
        row([refused("AUTH_001", 401), refused("AUTH_002", 401), refused("AUTH_003", 401)], Hold).pauses(A, Critical),
        row([refused("AUTH_004", 500)], Retry(&[5, 15, 60, 300, 900, 3600, 3600])).alerts(Critical).then(5, BREAKER, Critical),
        row([refused("AUTH_005", 500), refused("SEC_001", 500)], Hold).pauses(A, Critical),
        row([refused("WABA_001", 401)], Hold).pauses(A, Critical),
        row([refused("WH_001", 403), refused("WH_002", 401), refused("WH_003", 403)], Dead).alerts(Warning),
        row([words(""), words("no idea"), meta(7_777_777), meta(9)], Dead).then(10, C, Warning),
    ]);
}

#[test]
fn the_way_there() {
    use TroubleKind::{Body, Connect, Dns, Reset, Timeout, Tls, Unavailable};
    let unreachable = [Dns, Connect, Tls, Unavailable].map(|kind| Reply::Unreachable(trouble(kind)));
    let unknown = [Timeout, Reset, Body].map(|kind| Reply::Unknown(trouble(kind)));
    check(&[
        row(unreachable, Retry(&[5, 15, 60, 300, 900, 3600, 3600])).alerts(Warning).then(5, BREAKER, Warning),
        row(unknown, Unknown(&[5, 60, 300, 900])).alerts(Warning).then(10, timed(Scope::Account, 60, false), Warning),
    ]);
}

#[test]
fn codes_nobody_knows() {
    let bare = |http_status| Reply::Refused(Refusal { http_status, ..Refusal::default() });
    check(&[
        row([refused("NEW_1", 400), bare(400)], Dead).alerts(Warning).then(5, C, Warning),
        row([refused("SYS_001", 404), bare(404), bare(200), refused("SYS_001", 499)], Dead).alerts(Warning).then(5, C, Warning),
        row([refused("SYS_001", 500), refused("SYS_009", 599)], Retry(&[30, 300, 900])).alerts(Warning).then(5, C, Warning),
        row([bare(429)], WaitRetryAfter).holds_account().then(10, None, Warning),
    ]);
}

#[test]
fn meta_stops_the_account() {
    check(&[
        metas([0, 3, 10, 33, 190, 200, 201, 299, 368, 131_005, 131_031, 131_037, 131_042, 131_045], Hold).pauses(A, Critical),
        metas([131_048, 471, 131_064, 133_000, 133_005, 133_006, 133_008, 133_009, 133_010], Hold).pauses(A, Critical),
        metas([133_016, 134_011], Hold).pauses(A, Critical),
        metas([131_057], Hold).pauses(BREAKER, Warning),
        metas([133_015], Hold).pauses(timed(Scope::Account, 300, true), Warning),
        metas([2_494_100], Hold).pauses(timed(Scope::Account, 120, true), Warning),
    ]);
}

#[test]
fn meta_is_down_or_too_fast() {
    check(&[
        metas([1], Retry(&[30, 30, 30])).then(10, C, Warning),
        metas([2], Retry(&[30, 60, 120, 300, 900, 3600])).slows().then(5, BREAKER, Warning),
        metas([131_016], Retry(&[30, 60, 120, 300, 900, 3600])).slows().then(5, BREAKER, Warning),
        metas([133_004], Retry(&[30, 60, 120, 300, 900, 3600])).then(5, BREAKER, Warning),
        metas([4, 80_007], Retry(&[60, 60, 60, 60, 60])).slows().then(10, None, Warning),
        metas([130_429], Wait(5)).slows().then(10, None, Warning),
        metas([131_000], Retry(&[30, 300])).then(10, C, Warning),
        metas([131_056], Retry(&[1, 4, 16, 64, 256])),
        metas([135_000], Retry(&[30])).then(10, C, Warning),
    ]);
}

#[test]
fn meta_refuses_the_recipient() {
    check(&[
        metas([130_403, 131_050], Suppress),
        metas([130_472, 472, 131_021, 131_026, 1026, 131_049], Dead),
        metas([130_497], Dead).then(5, None, Warning),
        metas([131_030], Dead).then(5, C, Warning),
        metas([131_047, 470], Dead),
        metas([131_047, 470], Dead).of_text().then(5, C, Warning),
    ]);
}

#[test]
fn meta_refuses_the_message() {
    check(&[
        metas([100, 131_008, 131_009, 131_053, 132_005], Dead).then(5, C, Warning),
        metas([131_009], Retry(&[600])).by_mmlite().then(5, C, Warning),
        metas([131_051], Dead).then(2, C, Warning),
        metas([132_000, 132_008, 132_012, 132_018], Dead).then(3, C, Warning),
        metas([131_055, 131_063, 132_001, 132_007, 132_016, 2062, 132_068, 132_069], Hold).pauses(C, Warning),
        metas([134_100, 134_102], Hold).pauses(C, Warning),
        metas([132_015, 2061], Hold).pauses(timed(Scope::Campaign, 3 * 3600, true), Warning),
        metas([134_101], Hold).pauses(timed(Scope::Campaign, 600, false), Info),
    ]);
}

#[test]
fn meta_numbers_that_no_send_should_bring() {
    check(&[
        metas([131_044, 131_052], Dead).alerts(Info),
        metas([1_752_041, 2_388_019, 2_388_039, 2_388_040, 2_388_047, 2_388_072, 2_388_073], Dead).alerts(Warning),
        metas([2_388_293, 2_388_299, 2_388_012, 2_388_091, 2_388_093, 2_388_103], Dead).alerts(Warning),
        metas([2_593_107, 2_593_108, 200_005, 200_006, 200_007, 139_000, 139_004, 139_100, 139_103], Dead).alerts(Warning),
        metas([506, 131_001, 131_002, 131_006, 131_043], Dead),
    ]);
    assert_eq!(&*World::builtin().decide(&subject(), &meta(506)).rule, "already-sent");
}

#[test]
fn the_texts_the_documentation_names() {
    check(&[
        row([words("Recipient is not registered on WhatsApp")], Dead),
        row([words("Message is outside the 24-hour window")], Dead),
        row([words("Message is outside the 24-hour window")], Dead).of_text().then(5, C, Warning),
        row([words("template with the name does not exist"), words("A template with the name x does not exist in tr")], Hold)
            .pauses(C, Warning),
        row([words("The media URL is not accessible")], Dead).then(5, C, Warning),
    ]);
}

/// A number decides before words do: titles are not stable.
#[test]
fn a_number_goes_before_words() {
    let Reply::Refused(refusal) = meta(131_026) else { panic!() };
    let reply = Reply::Refused(Refusal { description: "(#131026) template with the name does not exist".into(), ..refusal });
    assert_eq!(&*World::builtin().decide(&subject(), &reply).rule, "invalid-number");
}

#[test]
fn rate_001_waits_exactly_as_long_as_asked() {
    let Reply::Refused(refusal) = refused("RATE_001", 429) else { panic!() };
    for (asked, expected) in [(Some(60), 60), (None, 1)] {
        let reply = Reply::Refused(Refusal { retry_after: asked.map(Duration::from_secs), ..refusal.clone() });
        let decision = World::builtin().decide(&subject(), &reply);
        assert_eq!(decision.job, JobAction::Wait(Duration::from_secs(expected)));
        assert_eq!(decision.hold_account, Some(Duration::from_secs(expected)));
    }
}

#[test]
fn advice_names_account_and_campaign() {
    let decision = World::builtin().decide(&subject(), &refused("BILL_001", 402));
    assert!(decision.advice.contains("`campaignd account resume main`"), "{}", decision.advice);
    let decision = World::builtin().decide(&subject(), &meta(132_001));
    assert!(decision.advice.contains("`campaignd campaign resume spring`"), "{}", decision.advice);
}
