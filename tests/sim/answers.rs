//! The gateway's answers, every one of its contract and some that no contract knows, as status and body; and which of them stop what.

use std::time::Duration;

use campaignd::dice::Dice;
use campaignd::gateway::{Reply, Trouble, TroubleKind, connexease};
use rand::RngExt;
use rand::seq::IndexedRandom;

/// An answer as it comes over the wire.
pub(crate) type Wire = (u16, &'static str, u32, &'static str);

/// The recipient is refused, or the message: the job dies, the campaign goes on or is paused when it happens in a row.
const REFUSED: &[Wire] = &[
    (502, "GW_001", 131_026, "Message undeliverable"),
    (502, "GW_001", 131_049, "Not delivered to maintain a healthy ecosystem"),
    (502, "GW_001", 131_050, "User has stopped marketing messages"),
    (502, "GW_001", 130_472, "User is part of an experiment"),
    (502, "GW_001", 131_047, "Re-engagement message"),
    (502, "GW_001", 132_000, "Number of parameters does not match"),
    (502, "GW_001", 100, "Invalid parameter"),
    (502, "GW_001", 999_999, "Nobody knows this number"),
    (502, "GW_001", 0, "905300000001 is not registered on WhatsApp"),
    (200, "GW_001", 131_026, "Message undeliverable"),
    (400, "", 0, "no code at all"),
    (403, "WH_003", 0, "webhook signature invalid"),
    (404, "SYS_404", 0, "a code nobody knows"),
];

/// Tried again by itself.
const TRANSIENT: &[Wire] = &[
    (500, "AUTH_004", 0, "authentication service error"),
    (502, "GW_001", 131_000, "Something went wrong"),
    (502, "GW_001", 131_016, "Service unavailable"),
    (502, "GW_001", 130_429, "Rate limit hit"),
    (502, "GW_001", 131_056, "Pair rate limit hit"),
    (429, "RATE_001", 0, "Rate limit exceeded"),
    (200, "RATE_001", 0, "Rate limit exceeded"),
    (500, "SYS_500", 0, "a code nobody knows"),
];

/// The account stops until a person resumes it.
const ACCOUNT: &[Wire] = &[
    (401, "AUTH_001", 0, "API key not found"),
    (401, "AUTH_002", 0, "Authorization header missing"),
    (401, "AUTH_003", 0, "not a bearer token"),
    (500, "AUTH_005", 0, "corrupted authentication data"),
    (500, "SEC_001", 0, "token decryption failed"),
    (402, "BILL_001", 0, "Insufficient balance"),
    (400, "BILL_002", 0, "no billing account"),
    (401, "WABA_001", 0, "credentials missing"),
    (502, "GW_001", 131_031, "Business account locked"),
    (502, "GW_001", 190, "Access token has expired"),
];

/// The campaign stops until a person resumes it.
const CAMPAIGN: &[Wire] = &[
    (502, "GW_001", 132_001, "Template does not exist"),
    (502, "GW_001", 132_016, "Template is disabled"),
    (502, "GW_001", 0, "template with the name hello does not exist"),
];

/// Bodies that are no envelope, or one that contradicts its status: nobody knows what happened.
const ODD: &[(u16, &str)] = &[
    (200, "<html>OK</html>"),
    (200, ""),
    (200, r#"{"isSuccess":true}"#),
    (200, r#"{"isSuccess":true,"data":{"messages":[{"id":"wam"#),
    (204, ""),
    (500, "<html>Internal Server Error</html>"),
    (502, r#"{"isSuccess":true,"data":{"messages":[{"id":"wamid.X"}]}}"#),
    (504, "upstream timed out"),
];

const UNREACHABLE: [TroubleKind; 3] = [TroubleKind::Dns, TroubleKind::Connect, TroubleKind::Tls];

/// What an answer stops until a person resumes it.
pub(crate) enum Stop {
    Account,
    Campaign,
}

/// By the gateway's contract, not by the rules under test.
pub(crate) fn stop(reply: &Reply) -> Option<Stop> {
    let Reply::Refused(refusal) = reply else { return None };
    let code = refusal.code.as_deref()?;
    let is = |wires: &[Wire]| {
        wires.iter().any(|(_, known, meta, words)| {
            let same_meta = *meta == refusal.meta.unwrap_or(0);
            *known == code && same_meta && (code != "GW_001" || refusal.description.contains(words))
        })
    };
    if is(ACCOUNT) { Some(Stop::Account) } else { is(CAMPAIGN).then_some(Stop::Campaign) }
}

/// For how long nothing of the account may leave after this answer.
pub(crate) fn rest(reply: &Reply) -> Option<Duration> {
    let Reply::Refused(refusal) = reply else { return None };
    refusal.retry_after.filter(|_| refusal.code.as_deref() == Some("RATE_001"))
}

pub(crate) fn refused(dice: &mut Dice) -> Reply {
    read(REFUSED.choose(dice))
}

pub(crate) fn transient(dice: &mut Dice) -> Reply {
    match dice.random_range(0..10) {
        0 => connexease::reply(503, None, b"no upstream"),
        1 => connexease::reply(429, Some(Duration::from_secs(2)), b"slow down"),
        2 => too_fast("sec", 1),
        3 => too_fast("min", 5),
        _ => read(TRANSIENT.choose(dice)),
    }
}

pub(crate) fn stopping(dice: &mut Dice) -> Reply {
    if dice.random_bool(0.5) { read(ACCOUNT.choose(dice)) } else { read(CAMPAIGN.choose(dice)) }
}

pub(crate) fn odd(dice: &mut Dice) -> Reply {
    let (status, body) = ODD.choose(dice).unwrap();
    connexease::reply(*status, None, body.as_bytes())
}

pub(crate) fn balance_gone() -> Reply {
    read(ACCOUNT.iter().find(|(_, code, ..)| *code == "BILL_001"))
}

pub(crate) fn too_fast(window: &str, seconds: u64) -> Reply {
    let body = format!(
        r#"{{"isSuccess":false,"errors":{{"code":"RATE_001","description":"Rate limit exceeded","params":{{"limit_type":"{window}","retry_after":"{seconds}s"}}}}}}"#
    );
    connexease::reply(429, None, body.as_bytes())
}

pub(crate) fn accepted(to: u64) -> Reply {
    let body = format!(r#"{{"isSuccess":true,"data":{{"messages":[{{"id":"wamid.{to}"}}]}}}}"#);
    connexease::reply(200, None, body.as_bytes())
}

pub(crate) fn unreachable(dice: &mut Dice) -> Reply {
    Reply::Unreachable(trouble(*UNREACHABLE.choose(dice).unwrap()))
}

pub(crate) fn unknown(kind: TroubleKind) -> Reply {
    Reply::Unknown(trouble(kind))
}

/// An answer's name among all there are.
pub(crate) fn name(reply: &Reply) -> String {
    match reply {
        Reply::Accepted { .. } => "accepted".into(),
        other => format!("{other:?}"),
    }
}

/// The names of all answers.
pub(crate) fn names() -> Vec<String> {
    let wires = [REFUSED, TRANSIENT, ACCOUNT, CAMPAIGN].into_iter().flatten().map(|wire| read(Some(wire)));
    let odd = ODD.iter().map(|(status, body)| connexease::reply(*status, None, body.as_bytes()));
    let lost = [TroubleKind::Reset, TroubleKind::Timeout].map(unknown);
    let away = UNREACHABLE.map(|kind| Reply::Unreachable(trouble(kind)));
    let fast = [too_fast("sec", 1), too_fast("min", 5), accepted(0)];
    wires.chain(odd).chain(lost).chain(away).chain(fast).map(|reply| name(&reply)).collect()
}

fn trouble(kind: TroubleKind) -> Trouble {
    Trouble { kind, http_status: None, detail: "simulated".into(), retry_after: None }
}

/// The answer as the product's own client reads it.
fn read(wire: Option<&Wire>) -> Reply {
    let (status, code, meta, words) = wire.unwrap();
    let words = if *meta == 0 { (*words).to_owned() } else { format!("(#{meta}) {words}") };
    let code = if code.is_empty() { String::new() } else { format!(r#""code":"{code}","#) };
    let body = format!(r#"{{"isSuccess":false,"errors":{{{code}"description":"{words}"}}}}"#);
    connexease::reply(*status, None, body.as_bytes())
}
