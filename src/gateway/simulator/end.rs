//! How one request ends at the simulated gateway: what is answered, and what the books say of it.

use super::account::Counts;
use super::answer::{Cut, Verdict, What};
use super::books::Ending;
use super::code::Code;
use super::fault::{Fault, Special, Stage};
use super::meta;

/// `params` of `RATE_001`, by window.
const SECOND_FULL: &str = r#"{"limit_type":"sec","retry_after":"1s"}"#;
const MINUTE_FULL: &str = r#"{"limit_type":"min","retry_after":"60s"}"#;

/// How one request ended: for the caller, and for the books.
pub(super) struct End {
    pub(super) verdict: Verdict,
    pub(super) outcome: &'static str,
    pub(super) ending: Ending,
}

pub(super) fn full(counts: Counts) -> Option<&'static str> {
    if counts.second.is_some_and(|count| count.full) {
        Some(SECOND_FULL)
    } else if counts.minute.is_some_and(|count| count.full) {
        Some(MINUTE_FULL)
    } else {
        None
    }
}

/// Ends the request here if its fault belongs to this stage.
pub(super) fn strike(fault: Option<Fault>, stage: Stage, counts: Counts) -> Result<(), End> {
    let Some(fault) = fault.filter(|fault| fault.stage() == stage) else { return Ok(()) };
    Err(match fault {
        Fault::Code(Code::Rate001) => rate_limited(SECOND_FULL, counts, fault.name()),
        Fault::Code(code) => refused(What::refused(code), counts, fault.name()),
        Fault::Meta(0) => refused(upstream("(#0) AuthException".to_owned()), counts, fault.name()),
        Fault::Meta(number) => refused(upstream(format!("(#{number}) {}", meta::title(number))), counts, fault.name()),
        Fault::Special(special) => strike_special(special, counts, fault.name()),
    })
}

fn strike_special(special: Special, counts: Counts, name: &'static str) -> End {
    let gateway = |words: &str| refused(upstream(words.to_owned()), counts, name);
    match special {
        Special::RateMinute => rate_limited(MINUTE_FULL, counts, name),
        Special::RateOldForm => rate_limited(r#"{"limit_type":"sec","retry_after":"1 seconds"}"#, counts, name),
        Special::RateGarbled => rate_limited(r#"{"limit_type":"sec","retry_after":"soon"}"#, counts, name),
        Special::RateNegative => rate_limited(r#"{"limit_type":"sec","retry_after":"-5s"}"#, counts, name),
        Special::RateAbsurd => rate_limited(r#"{"limit_type":"sec","retry_after":"99999999999s"}"#, counts, name),
        Special::NotRegistered => gateway("The recipient phone number is not registered on WhatsApp."),
        Special::OutsideWindow => gateway("Message failed to send: outside the 24-hour window."),
        Special::NoSuchTemplate => gateway("The template with the name does not exist in this language."),
        Special::MediaNotAccessible => gateway("The media URL is not accessible."),
        Special::FalseSuccess => {
            let what = upstream("(#131026) Message undeliverable".to_owned());
            let what = match what {
                What::Refused { code, description, params, .. } => What::Refused { code, description, params, status: 200 },
                other => other,
            };
            refused(what, counts, name)
        }
        _ => gateway(""),
    }
}

pub(super) fn upstream(words: String) -> What {
    let facts = Code::Gw001.facts();
    What::Refused { code: Code::Gw001, description: words.into(), params: "{}", status: facts.status }
}

pub(super) fn refused(what: What, counts: Counts, outcome: &'static str) -> End {
    End { verdict: Verdict::Answer { what, counts }, outcome, ending: Ending::NotSent }
}

pub(super) fn rate_limited(params: &'static str, counts: Counts, outcome: &'static str) -> End {
    let facts = Code::Rate001.facts();
    let what = What::Refused { code: Code::Rate001, description: facts.description.into(), params, status: facts.status };
    End { verdict: Verdict::Answer { what, counts }, outcome, ending: Ending::RateLimited }
}

pub(super) fn accepted(fault: Option<Fault>, to: u64, wamid: u64, counts: Counts) -> End {
    match fault {
        Some(Fault::Special(special)) if Fault::Special(special).is_sent() => {
            let mut end = lost(special, Fault::Special(special).name(), Ending::Accepted, to, wamid);
            if let Verdict::Answer { counts: told, .. } = &mut end.verdict {
                *told = counts;
            }
            end
        }
        _ => {
            let verdict = Verdict::Answer { what: What::Accepted { to, wamid }, counts };
            End { verdict, outcome: "accepted", ending: Ending::Accepted }
        }
    }
}

pub(super) fn lost(how: Special, outcome: &'static str, ending: Ending, to: u64, wamid: u64) -> End {
    let verdict = match how {
        Special::HangBefore | Special::HangAfter => Verdict::Hang,
        Special::ResetBefore | Special::ResetAfter => Verdict::Cut(Cut::Reset),
        Special::CloseBefore | Special::CloseAfter => Verdict::Cut(Cut::Close),
        _ => Verdict::Answer { what: What::Odd { how, to, wamid }, counts: Counts::default() },
    };
    End { verdict, outcome, ending }
}
