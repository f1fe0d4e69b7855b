//! The country calling code of a number, so that repetitions can be counted by country.

use crate::job::Recipient;

/// Calling codes of two digits (ITU-T E.164, list of assigned codes). 1 and 7 stand alone; all others have three digits.
const TWO_DIGITS: [u16; 44] = [
    20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46, 47, 48, 49, 51, 52, 53, 54, 55, 56, 57, 58, 60, 61, 62, 63, 64,
    65, 66, 81, 82, 84, 86, 90, 91, 92, 93, 94, 95, 98,
];

/// The calling code a number begins with. Countries that share a code (+1, +7) count as one.
pub(super) fn calling_code(to: Recipient) -> u16 {
    let mut head = to.number();
    while head >= 1000 {
        head /= 10;
    }
    let three = u16::try_from(head).unwrap_or_default();
    let (one, two) = (three / 100, three / 10);
    if one == 1 || one == 7 {
        one
    } else if TWO_DIGITS.contains(&two) {
        two
    } else {
        three
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_one_two_and_three_digits() {
        for (number, code) in [
            ("14155550100", 1),
            ("79161234567", 7),
            ("905321234567", 90),
            ("4915112345678", 49),
            ("989121234567", 98),
            ("351912345678", 351),
            ("972501234567", 972),
            ("2348012345678", 234),
        ] {
            assert_eq!(calling_code(number.parse().unwrap()), code, "{number}");
        }
    }
}
