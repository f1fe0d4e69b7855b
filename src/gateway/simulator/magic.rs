//! Magic numbers: recipients that make the simulated gateway fail in a chosen way. All have 15 digits and pass as Austrian mobiles.

use std::fmt::Write as _;

use super::fault::{Fault, ROWS};
use super::meta;

/// 43 670 CCCCCC SSSS: Meta's number C, always.
const META: u64 = 43_670;
/// 43 671 FF NN SSSSSS: fault F, the first N times; always if N is 00.
const NAMED: u64 = 43_671;
/// 43 672 CCCCCC N SSS: Meta's number C, the first N times.
const META_TIMES: u64 = 43_672;
/// 43 680 CCCCCCC SSS: Meta's number C of seven digits, always.
const META_LONG: u64 = 43_680;

/// What is behind the prefix: ten digits.
const BELOW: u64 = 10_000_000_000;

/// What a magic number asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spell {
    pub(super) fault: Fault,
    /// How many times before it succeeds; none is always.
    pub(super) times: Option<u32>,
}

/// What this recipient asks for, if it is magic.
pub(super) fn spell(recipient: u64) -> Option<Spell> {
    let digits = recipient % BELOW;
    match recipient / BELOW {
        META => Some(Spell { fault: meta_fault(digits / 10_000), times: None }),
        META_LONG => Some(Spell { fault: meta_fault(digits / 1_000), times: None }),
        META_TIMES => Some(Spell { fault: meta_fault(digits / 10_000), times: times(digits / 1_000 % 10) }),
        NAMED => {
            let number = digits / 100_000_000;
            let row = ROWS.iter().find(|row| u64::from(row.number) == number)?;
            Some(Spell { fault: row.fault, times: times(digits / 1_000_000 % 100) })
        }
        _ => None,
    }
}

fn meta_fault(number: u64) -> Fault {
    Fault::Meta(u32::try_from(number).unwrap_or_default())
}

fn times(number: u64) -> Option<u32> {
    u32::try_from(number).ok().filter(|&times| times > 0)
}

impl Fault {
    /// A recipient whose every message meets this fault. `serial` tells many of them apart; its last digits are used:
    /// 3 to 6, by the kind of fault.
    #[must_use]
    pub fn recipient(self, serial: u32) -> u64 {
        let serial = u64::from(serial);
        match self {
            Self::Meta(number) if number < 1_000_000 => META * BELOW + u64::from(number) * 10_000 + serial % 10_000,
            Self::Meta(number) => META_LONG * BELOW + u64::from(number % 10_000_000) * 1_000 + serial % 1_000,
            named => NAMED * BELOW + named.number() * 100_000_000 + serial % 1_000_000,
        }
    }

    /// A recipient who meets this fault the first `times` times and then gets the message. 1 to 99 times; for Meta's numbers 1 to
    /// 9, and only those of at most six digits.
    #[must_use]
    pub fn recipient_times(self, times: u32, serial: u32) -> u64 {
        let (times, serial) = (u64::from(times), u64::from(serial));
        match self {
            Self::Meta(number) => {
                META_TIMES * BELOW + u64::from(number % 1_000_000) * 10_000 + times.clamp(1, 9) * 1_000 + serial % 1_000
            }
            named => NAMED * BELOW + named.number() * 100_000_000 + times.clamp(1, 99) * 1_000_000 + serial % 1_000_000,
        }
    }

    fn number(self) -> u64 {
        self.row().map_or(0, |row| u64::from(row.number))
    }
}

/// The table of magic numbers, for people.
#[must_use]
pub fn table() -> String {
    let mut text = String::from(
        "Magic recipients of the simulated gateway. Digits written S are free, to tell recipients apart.\n\n\
         43 670 CCCCCC SSSS   GW_001 with Meta's number CCCCCC (six digits, zeros in front), every time\n\
         43 672 CCCCCC N SSS  the same the first N times (1 to 9), then the message is accepted\n\
         43 680 CCCCCCC SSS   GW_001 with a number of Meta's of seven digits, every time\n\
         43 671 FF NN SSSSSS  fault FF of this table the first NN times (01 to 99), then accepted; NN = 00: every time\n\n\
         FF  name (for --fault)    what happens\n",
    );
    for row in &ROWS {
        let _ = writeln!(text, "{:02}  {:20}  {}", row.number, row.name, row.about);
    }
    let (meta, twice) = (Fault::Meta(131_026), Fault::Special(super::fault::Special::Unavailable));
    let _ = write!(
        text,
        "\nFor example {} meets (#131026) {} every time;\n{} is answered 503 twice and gets the message at the third try.",
        meta.recipient(1),
        meta::title(131_026),
        twice.recipient_times(2, 1),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_reads_back_from_its_numbers() {
        for fault in Fault::named().chain([0, 1, 100, 131_026, 999_999, 1_752_041, 2_494_100].map(Fault::Meta)) {
            assert_eq!(spell(fault.recipient(7)), Some(Spell { fault, times: None }), "{fault}");
            assert_ne!(fault.recipient(7), fault.recipient(8));
        }
        for fault in Fault::named().chain([100, 131_026].map(Fault::Meta)) {
            assert_eq!(spell(fault.recipient_times(3, 7)), Some(Spell { fault, times: Some(3) }), "{fault}");
        }
    }

    #[test]
    fn magic_numbers_are_possible_numbers_and_others_are_not_magic() {
        for fault in Fault::named().chain([Fault::Meta(131_026), Fault::Meta(2_494_100)]) {
            let number = fault.recipient(1);
            assert!(number.to_string().parse::<crate::job::Recipient>().is_ok());
            let parsed = phonenumber::parse(None, format!("+{number}")).unwrap();
            assert!(phonenumber::is_valid(&parsed), "{number}");
        }
        for number in [905_321_234_567, 43_670, 436_701_310_260, 436_719_900_000_001, 1_000_000] {
            assert_eq!(spell(number), None, "{number}");
        }
    }

    #[test]
    fn the_table_names_every_fault() {
        let table = table();
        assert!(Fault::named().all(|fault| table.contains(&fault.to_string())));
    }
}
