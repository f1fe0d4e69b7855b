//! The demo's recipients: most are ordinary, a few per cent fail as recipients do in real campaigns.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use rand::seq::SliceRandom;

use crate::cli::words::count;
use crate::dice::Dice;
use crate::gateway::simulator::{Fault, Special};

/// What they get.
pub(super) const MESSAGE: &str = r#"{
  "type": "template",
  "template": {
    "name": "spring_sale",
    "language": { "code": "tr" },
    "components": [
      { "type": "body", "parameters": [ { "type": "text", "text": "{{ name }}" }, { "type": "text", "text": "{{ code }}" } ] }
    ]
  }
}
"#;

const NAMES: [&str; 12] =
    ["Ayşe", "Mehmet", "Zeynep", "Ali", "Elif", "Mustafa", "Emine", "Can", "Fatma", "Deniz", "Hüseyin", "Özge"];

/// A kind of recipient: what it is called, its share in 1,000, and the fault it meets; `times` before it gets through, 0 for always.
struct Kind {
    name: &'static str,
    permille: u32,
    fault: Fault,
    times: u32,
}

const KINDS: [Kind; 7] = [
    Kind { name: "not on WhatsApp", permille: 25, fault: Fault::Meta(131_026), times: 0 },
    Kind { name: "who opted out of marketing", permille: 6, fault: Fault::Meta(131_050), times: 0 },
    Kind { name: "in one of Meta's experiments", permille: 4, fault: Fault::Meta(130_472), times: 0 },
    Kind { name: "with a bad parameter", permille: 2, fault: Fault::Special(Special::NoReason), times: 0 },
    Kind { name: "who need a second try", permille: 12, fault: Fault::Special(Special::Unavailable), times: 1 },
    Kind { name: "whose answer gets lost", permille: 2, fault: Fault::Special(Special::ResetAfter), times: 0 },
    Kind { name: "whose answer never comes", permille: 1, fault: Fault::Special(Special::HangAfter), times: 0 },
];

/// Everybody, in the order of the file.
pub(super) struct Audience {
    pub(super) numbers: Vec<u64>,
    kinds: Vec<(&'static str, u32)>,
}

impl Audience {
    pub(super) fn draw(size: u32, dice: &mut Dice) -> Self {
        let mut numbers = BTreeSet::new();
        let mut kinds = Vec::new();
        for kind in &KINDS {
            let share = size * kind.permille / 1_000;
            let number = |serial| match kind.times {
                0 => kind.fault.recipient(serial),
                times => kind.fault.recipient_times(times, serial),
            };
            let before = numbers.len();
            numbers.extend((0..share).map(number));
            kinds.push((kind.name, u32::try_from(numbers.len() - before).unwrap_or(0)));
        }
        let rest = (size as usize).saturating_sub(numbers.len());
        let rest = rest as u64;
        // The last tenth is ordinary, so that nobody has to wait for the last retries.
        let (ordinary, last) = (905_320_000_000, rest.min(u64::from(size) / 10));
        numbers.extend((ordinary + last)..(ordinary + rest));
        let mut numbers: Vec<u64> = numbers.into_iter().collect();
        numbers.shuffle(dice);
        numbers.extend(ordinary..ordinary + last);
        Self { numbers, kinds }
    }

    pub(super) fn csv(&self) -> String {
        let mut text = String::from("to,name,code\n");
        for ((index, number), name) in self.numbers.iter().enumerate().zip(NAMES.iter().cycle()) {
            let _ = writeln!(text, "{number},{name},SPRING{index:05}");
        }
        text
    }

    /// The kinds of failure among them, in words.
    pub(super) fn describe(&self) -> String {
        let some = self.kinds.iter().filter(|(_, number)| *number > 0);
        let words: Vec<String> = some.map(|(name, number)| format!("{} {name}", count(u64::from(*number)))).collect();
        match words.split_last() {
            None => "none who will fail".into(),
            Some((last, [])) => last.clone(),
            Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn everybody_is_there_once_and_the_seed_decides_the_order() {
        for size in [10, 500, 2_000, 100_000] {
            let audience = Audience::draw(size, &mut Dice::seed_from_u64(1));
            let distinct: BTreeSet<u64> = audience.numbers.iter().copied().collect();
            assert_eq!((audience.numbers.len(), distinct.len()), (size as usize, size as usize));
        }
        let order = |seed| Audience::draw(500, &mut Dice::seed_from_u64(seed)).numbers;
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }
}
