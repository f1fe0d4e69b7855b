//! The proof: the gateway's own books against what the engine says of each recipient.

use std::collections::HashMap;

use super::audience::Audience;
use crate::cli::table::print;
use crate::cli::words::{count, many};
use crate::engine::{CampaignView, DeadLetter};
use crate::exit::{Exit, Failure};
use crate::gateway::simulator::Books;
use crate::job::Job;

/// What the books say of everybody.
#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    /// Got it once, and counts as sent.
    sent: u64,
    /// Got none, and is among the failed.
    failed: u64,
    /// Is parked as outcome unknown, and got it once.
    unknown_sent: u64,
    /// Is parked as outcome unknown, and got none.
    unknown_not_sent: u64,
    /// Got more than one.
    twice: u64,
    /// Got none, and is not among the failed.
    forgotten: u64,
    /// Got one, and is said to have surely failed.
    miscounted: u64,
}

impl Verdict {
    fn of(numbers: &[u64], letters: &[DeadLetter], times: impl Fn(u64) -> u32) -> Self {
        let dead = dead_numbers(letters);
        let mut verdict = Self::default();
        for &number in numbers {
            let place = match (times(number), dead.get(&number)) {
                (0, None) => &mut verdict.forgotten,
                (1, None) => &mut verdict.sent,
                (0, Some(true)) => &mut verdict.unknown_not_sent,
                (1, Some(true)) => &mut verdict.unknown_sent,
                (0, Some(false)) => &mut verdict.failed,
                (1, Some(false)) => &mut verdict.miscounted,
                _ => &mut verdict.twice,
            };
            *place += 1;
        }
        verdict
    }

    const fn holds(&self) -> bool {
        self.twice == 0 && self.forgotten == 0 && self.miscounted == 0
    }
}

/// Recipients in the dead letters; `true` when nobody knows whether they got the message.
fn dead_numbers(letters: &[DeadLetter]) -> HashMap<u64, bool> {
    let number = |letter: &DeadLetter| {
        let job = Job::parse(letter.body.as_deref()?.as_bytes()).ok()?;
        Some((job.to.number(), letter.death.may_have_been_sent))
    };
    letters.iter().filter_map(number).collect()
}

/// Compares, tells, and says whether they agree.
pub(super) fn show(audience: &Audience, view: &CampaignView, letters: &[DeadLetter], books: &Books) -> Result<Exit, Failure> {
    let verdict = Verdict::of(&audience.numbers, letters, |number| books.times(number));
    let strangers = books.recipients().len() as u64 > verdict.sent + verdict.unknown_sent + verdict.twice + verdict.miscounted;
    let unknown = verdict.unknown_sent + verdict.unknown_not_sent;
    let counts_agree = view.sent == verdict.sent && view.dead == verdict.failed + unknown && !strangers;
    let mut lines = vec![
        "\nThe gateway's own books, recipient by recipient:".to_owned(),
        line(true, verdict.sent, "got exactly one message and count as sent"),
        line(true, verdict.failed, "got none and are among the failed"),
    ];
    if unknown > 0 {
        lines.push(line(
            true,
            unknown,
            "are parked as outcome unknown, for a person to decide: their answer was lost on the way",
        ));
        lines.push(format!("        ({} of them did get it, which only the simulator can know)", count(verdict.unknown_sent)));
    }
    lines.push(line(verdict.twice == 0, verdict.twice, "got more than one"));
    lines.push(line(verdict.forgotten == 0, verdict.forgotten, "were forgotten"));
    if verdict.miscounted > 0 {
        lines.push(line(false, verdict.miscounted, "got one and are said to have failed"));
    }
    if !counts_agree {
        let (sent, dead) = (count(view.sent), count(view.dead));
        lines.push(format!("    ✗ the engine counts {sent} sent and {dead} failed, which is not what the books say"));
    }
    let whole = verdict.holds() && counts_agree;
    let requests = many(books.requests, "request");
    lines.push(if whole { format!("\nThe books agree. It took {requests}.") } else { "\nThe books do not agree.".to_owned() });
    print(lines.join("\n"))?;
    Ok(if whole { Exit::Ok } else { Exit::Failed })
}

fn line(good: bool, number: u64, words: &str) -> String {
    format!("    {} {:>6} {words}", if good { '✓' } else { '✗' }, count(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Death;
    use crate::outcome::UNKNOWN_OUTCOME;

    fn letter(number: u64, reason: &str) -> DeadLetter {
        let body = format!(r#"{{"campaign_id":"c","to":"{number}","message":{{"type":"text","text":{{"body":"x"}}}}}}"#);
        let at = jiff::Timestamp::UNIX_EPOCH;
        DeadLetter {
            campaign: "c".parse().unwrap(),
            job: None,
            to: None,
            death: Death { may_have_been_sent: reason == UNKNOWN_OUTCOME, ..Death::new(at, reason) },
            attempts: 1,
            release: 0,
            first_seen: None,
            body: Some(body),
        }
    }

    #[test]
    fn every_way_of_being_wrong_is_told_apart() {
        let numbers = [90_530_000_001, 90_530_000_002, 90_530_000_003, 90_530_000_004, 90_530_000_005];
        let letters = [letter(numbers[1], "r"), letter(numbers[2], UNKNOWN_OUTCOME)];
        let good = Verdict::of(&numbers, &letters, |number| u32::from(number != numbers[1]));
        assert_eq!(good, Verdict { sent: 3, failed: 1, unknown_sent: 1, ..Verdict::default() });
        assert!(good.holds());
        let times = |wrong: u64, times: u32| {
            Verdict::of(&numbers, &letters, |number| if number == wrong { times } else { u32::from(number != numbers[1]) })
        };
        for bad in [times(numbers[0], 2), times(numbers[0], 0), times(numbers[1], 1), times(numbers[2], 2)] {
            assert!(!bad.holds(), "{bad:?}");
        }
    }
}
