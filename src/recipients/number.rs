//! Could this be somebody's phone number? What the world's numbering plans say, from libphonenumber's data.
//!
//! The `phonenumber` crate keeps only the last hundred patterns compiled, which a file with many countries defeats; here each
//! country's patterns are compiled once, when its first number comes.

use std::collections::HashMap;

use phonenumber::Type;
use phonenumber::metadata::{DATABASE, Descriptor, Metadata};
use regex::{Regex, RegexBuilder};

use crate::job::Recipient;

/// Kinds of number that a person, or a business as a person, may have on a phone.
const LIKELY: [Type; 4] = [Type::Mobile, Type::FixedLine, Type::Voip, Type::PersonalNumber];
/// Other numbers that exist and might have WhatsApp, such as a company's toll-free number.
const OTHER: [Type; 2] = [Type::TollFree, Type::SharedCost];

/// Forms WhatsApp itself uses that the numbering plan no longer has: Mexican mobiles with a 1 after the country code.
const WHATSAPP_FORMS: [(u16, &str, usize); 1] = [(52, "1", 11)];

/// Why it cannot be a number. Says nothing of the number beyond its country code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Impossible {
    #[error("recipient begins with no country code; write the country code and digits, for example 905321234567")]
    NoCountry,
    #[error("recipient has {digits} digits after country code +{code}; no number there is that long")]
    Length { code: u16, digits: usize },
}

/// What the numbering plan says of a possible number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// ISO 3166 code of its country; `001` for codes that belong to none.
    pub(super) country: &'static str,
    /// Its country calling code.
    pub(super) code: u16,
    /// It lies in a range somebody has been given.
    pub(super) likely: bool,
}

/// The world's numbering plans, loaded as they are needed.
#[derive(Default)]
pub(super) struct NumberPlans {
    codes: HashMap<u16, Vec<Region>>,
}

struct Region {
    country: &'static str,
    lengths: u32,
    leading_digits: Option<Regex>,
    ranges: Vec<(u32, Regex)>,
}

impl NumberPlans {
    /// What is known of this number.
    pub(super) fn standing(&mut self, to: Recipient) -> Result<Standing, Impossible> {
        let digits = to.digits();
        let (code, national) = (1..=3).find_map(|length| split(&digits, length)).ok_or(Impossible::NoCountry)?;
        let regions = self.codes.entry(code).or_insert_with(|| regions_of(code));
        let main = regions.first().ok_or(Impossible::NoCountry)?;
        if WHATSAPP_FORMS.iter().any(|(c, lead, n)| *c == code && national.len() == *n && national.starts_with(lead)) {
            return Ok(Standing { country: main.country, code, likely: true });
        }
        let length = 1_u32.checked_shl(u32::try_from(national.len()).unwrap_or(u32::MAX)).unwrap_or(0);
        if !regions.iter().any(|region| region.lengths & length != 0) {
            return Err(Impossible::Length { code, digits: national.len() });
        }
        let claims = |region: &&Region| match &region.leading_digits {
            Some(leading) => leading.is_match(national),
            None => region.has(national, length),
        };
        let found = regions.iter().find(claims);
        let likely = found.is_some_and(|region| region.has(national, length));
        Ok(Standing { country: found.unwrap_or(main).country, code, likely })
    }
}

impl Region {
    fn has(&self, national: &str, length: u32) -> bool {
        self.ranges.iter().any(|(lengths, range)| lengths & length != 0 && range.is_match(national))
    }
}

/// Country codes are prefix-free, so the first that exists is the one.
fn split(digits: &str, length: usize) -> Option<(u16, &str)> {
    let (code, national) = digits.split_at_checked(length)?;
    let code = code.parse().ok()?;
    DATABASE.region(&code).is_some().then_some((code, national))
}

fn regions_of(code: u16) -> Vec<Region> {
    DATABASE.region(&code).unwrap_or_default().into_iter().filter_map(|id| DATABASE.by_id(id)).map(region).collect()
}

fn region(meta: &'static Metadata) -> Region {
    let descriptors = meta.descriptors();
    let of = |kinds: &[Type]| kinds.iter().filter_map(|kind| descriptors.get(*kind)).collect::<Vec<&Descriptor>>();
    let (likely, other) = (of(&LIKELY), of(&OTHER));
    let mut ranges: Vec<(u32, Regex)> = Vec::new();
    let mut seen: Vec<(&str, u32)> = Vec::new();
    for descriptor in &likely {
        let key = (descriptor.national_number().as_str(), lengths(descriptor));
        if !seen.contains(&key) {
            seen.push(key);
            ranges.extend(compile(key.0, "$").map(|range| (key.1, range)));
        }
    }
    Region {
        country: meta.id(),
        lengths: likely.iter().chain(&other).fold(0, |all, descriptor| all | lengths(descriptor)),
        leading_digits: meta.leading_digits().and_then(|pattern| compile(pattern.as_str(), "")),
        ranges,
    }
}

fn lengths(descriptor: &Descriptor) -> u32 {
    descriptor.possible_length().iter().fold(0, |all, &length| all | 1_u32.checked_shl(u32::from(length)).unwrap_or(0))
}

/// Digits only, so ASCII rules do: the compiled pattern is then a fraction of the size.
fn compile(pattern: &str, end: &str) -> Option<Regex> {
    RegexBuilder::new(&format!("^(?:{pattern}){end}")).ignore_whitespace(true).unicode(false).build().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn standing(digits: &str) -> Result<Standing, Impossible> {
        NumberPlans::default().standing(digits.parse().unwrap())
    }

    #[test]
    fn knows_countries_and_ranges() {
        for (digits, country, likely) in [
            ("905321234567", "TR", true),
            ("12015550123", "US", true),
            ("14165550123", "CA", true),
            ("77015550123", "KZ", true),
            ("79161234567", "RU", true),
            ("447912345678", "GB", true),
            ("5215512345678", "MX", true),
            ("525512345678", "MX", true),
            ("5491123456789", "AR", true),
            ("393123456789", "IT", true),
            ("902125551234", "TR", true),
            ("901111111111", "TR", false),
        ] {
            let standing = standing(digits).unwrap();
            assert_eq!((standing.country, standing.likely), (country, likely), "{digits}");
        }
    }

    #[test]
    fn refuses_only_what_cannot_be_a_number() {
        assert_eq!(standing("90532123456"), Err(Impossible::Length { code: 90, digits: 9 }));
        assert_eq!(standing("12530000"), Err(Impossible::Length { code: 1, digits: 7 }));
        assert_eq!(standing("2101234567"), Err(Impossible::NoCountry));
    }

    proptest! {
        #[test]
        fn never_panics(number in 1_000_000u64..=999_999_999_999_999) {
            let _ = standing(&number.to_string());
        }
    }
}
