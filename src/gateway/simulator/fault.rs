//! Everything the simulated gateway can do wrong on purpose, with a name and a number for each.

use std::fmt;
use std::str::FromStr;

use super::code::Code;

/// One way to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// Refused with this code and its usual words; `RATE_001` for the second window.
    Code(Code),
    /// `GW_001` with Meta's number in the description.
    Meta(u32),
    /// One of the named situations of [`Fault::named`].
    Special(Special),
}

/// The faults that have neither a code of their own nor a number of Meta's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the table below says what each does")]
pub enum Special {
    RateMinute,
    RateOldForm,
    RateGarbled,
    RateNegative,
    RateAbsurd,
    NotRegistered,
    OutsideWindow,
    NoSuchTemplate,
    MediaNotAccessible,
    NoReason,
    FalseSuccess,
    HangBefore,
    ResetBefore,
    CloseBefore,
    HtmlBefore,
    Unavailable,
    BareError,
    BareBadRequest,
    Redirect,
    HangAfter,
    ResetAfter,
    CloseAfter,
    Html,
    GatewayTimeout,
    Truncated,
    Huge,
    Empty,
    NoMessageId,
    NoHeaders,
    GarbledHeaders,
}

/// Where on its way through the gateway a request meets the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// In front of the gateway: nothing is counted, nothing sent.
    Front,
    /// The key is checked: neither quota nor balance is used.
    Key,
    /// The windows are counted.
    Rate,
    /// The balance is checked.
    Balance,
    /// The WhatsApp Business account is looked up.
    Account,
    /// Meta is called; not for `is_fake`.
    Meta,
    /// The message has been accepted; only the answer suffers.
    After,
}

/// One row of the table of named faults.
pub(super) struct Row {
    /// Two digits in a magic number.
    pub(super) number: u8,
    pub(super) name: &'static str,
    pub(super) fault: Fault,
    pub(super) stage: Stage,
    pub(super) about: &'static str,
}

const fn code(number: u8, code: Code) -> Row {
    let facts = code.facts();
    Row { number, name: facts.name, fault: Fault::Code(code), stage: facts.stage, about: facts.description }
}

const fn special(number: u8, name: &'static str, special: Special, stage: Stage, about: &'static str) -> Row {
    Row { number, name, fault: Fault::Special(special), stage, about }
}

/// Every fault but Meta's numbers.
pub(super) const ROWS: [Row; 46] = {
    use Special as S;
    use Stage::{After, Front, Meta, Rate};
    [
        code(1, Code::Auth001),
        code(2, Code::Auth002),
        code(3, Code::Auth003),
        code(4, Code::Auth004),
        code(5, Code::Auth005),
        code(6, Code::Wh001),
        code(7, Code::Wh002),
        code(8, Code::Wh003),
        code(10, Code::Rate001),
        special(11, "rate-minute", S::RateMinute, Rate, "RATE_001 for the minute window, retry_after 60s"),
        special(12, "rate-old-form", S::RateOldForm, Rate, "RATE_001 with retry_after \"1 seconds\""),
        special(13, "rate-garbled", S::RateGarbled, Rate, "RATE_001 with retry_after \"soon\""),
        special(14, "rate-negative", S::RateNegative, Rate, "RATE_001 with retry_after \"-5s\""),
        special(15, "rate-absurd", S::RateAbsurd, Rate, "RATE_001 with retry_after \"99999999999s\""),
        code(20, Code::Bill001),
        code(21, Code::Bill002),
        code(22, Code::Waba001),
        code(23, Code::Sec001),
        code(24, Code::Sys400),
        code(25, Code::Sys500),
        code(30, Code::Gw001),
        special(31, "not-registered", S::NotRegistered, Meta, "GW_001: not registered on WhatsApp"),
        special(32, "outside-window", S::OutsideWindow, Meta, "GW_001: outside the 24-hour window"),
        special(33, "no-such-template", S::NoSuchTemplate, Meta, "GW_001: template with the name does not exist"),
        special(34, "media-not-accessible", S::MediaNotAccessible, Meta, "GW_001: media URL is not accessible"),
        special(35, "no-reason", S::NoReason, Meta, "GW_001 without a description"),
        special(36, "false-success", S::FalseSuccess, Meta, "HTTP 200 with isSuccess false: GW_001 (#131026)"),
        special(50, "hang-before", S::HangBefore, Front, "no answer, and nothing was done"),
        special(51, "reset-before", S::ResetBefore, Front, "connection reset (RST), and nothing was done"),
        special(52, "close-before", S::CloseBefore, Front, "connection closed without an answer, and nothing was done"),
        special(53, "html-before", S::HtmlBefore, Front, "HTTP 502 with a proxy's HTML page, and nothing was done"),
        special(54, "unavailable", S::Unavailable, Front, "HTTP 503 without envelope, with Retry-After: 1"),
        special(55, "bare-error", S::BareError, Front, "HTTP 500 with a text body, and nothing was done"),
        special(56, "bare-bad-request", S::BareBadRequest, Front, "HTTP 400 without envelope"),
        special(57, "redirect", S::Redirect, Front, "HTTP 307 to another path"),
        special(70, "hang-after", S::HangAfter, After, "the message is accepted, and no answer comes"),
        special(71, "reset-after", S::ResetAfter, After, "the message is accepted, then the connection reset (RST)"),
        special(72, "close-after", S::CloseAfter, After, "the message is accepted, then the connection closed"),
        special(73, "html", S::Html, After, "the message is accepted, and HTTP 200 with an HTML page answers"),
        special(
            74,
            "gateway-timeout",
            S::GatewayTimeout,
            After,
            "the message is accepted, and HTTP 504 with an HTML page answers",
        ),
        special(75, "truncated", S::Truncated, After, "the message is accepted, and the answer's JSON ends half way"),
        special(76, "huge", S::Huge, After, "the message is accepted, and a body of 1 MiB answers"),
        special(77, "empty", S::Empty, After, "the message is accepted, and HTTP 200 with no body answers"),
        special(78, "no-message-id", S::NoMessageId, After, "the message is accepted, and the success has no message id"),
        special(79, "no-headers", S::NoHeaders, After, "accepted as usual, without X-RateLimit headers"),
        special(
            80,
            "garbled-headers",
            S::GarbledHeaders,
            After,
            "accepted as usual, with X-RateLimit headers that make no sense",
        ),
    ]
};

impl Fault {
    /// Every fault that has a name; Meta's numbers come on top.
    pub fn named() -> impl Iterator<Item = Self> {
        ROWS.iter().map(|row| row.fault)
    }

    pub(super) fn row(self) -> Option<&'static Row> {
        static TABLE: [Row; 46] = ROWS;
        TABLE.iter().find(|row| row.fault == self)
    }

    pub(super) fn stage(self) -> Stage {
        self.row().map_or(Stage::Meta, |row| row.stage)
    }

    /// The name it is counted under.
    pub(super) fn name(self) -> &'static str {
        self.row().map_or(Code::Gw001.name(), |row| row.name)
    }

    /// Whether the message was accepted all the same, so that its recipient has it.
    #[must_use]
    pub fn is_sent(self) -> bool {
        self.stage() == Stage::After
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Meta(number) => write!(f, "meta:{number}"),
            named => f.pad(named.name()),
        }
    }
}

impl FromStr for Fault {
    type Err = NoSuchFault;

    /// A name of the table, or `meta:131026`.
    fn from_str(text: &str) -> Result<Self, NoSuchFault> {
        let wrong = || NoSuchFault::new(text);
        if let Some(number) = text.strip_prefix("meta:") {
            return number.parse().ok().filter(|&number: &u32| number < 10_000_000).map(Self::Meta).ok_or_else(wrong);
        }
        ROWS.iter().find(|row| row.name.eq_ignore_ascii_case(text)).map(|row| row.fault).ok_or_else(wrong)
    }
}

/// No fault has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no fault is called {0:?}; `campaignd simulate --magic` lists them, and Meta's are written meta:131026")]
pub struct NoSuchFault(String);

impl NoSuchFault {
    pub(super) fn new(text: &str) -> Self {
        Self(text.chars().take(40).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_unique_and_read_back() {
        for (index, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..index].iter().all(|other| other.number < row.number && other.name != row.name), "{}", row.name);
            assert_eq!(row.fault.to_string().parse(), Ok(row.fault));
            assert!(row.number < 100);
        }
        assert_eq!("meta:131026".parse(), Ok(Fault::Meta(131_026)));
        assert!("meta:12345678".parse::<Fault>().is_err());
        assert!("nonsense".parse::<Fault>().is_err());
    }

    #[test]
    fn every_code_can_be_provoked() {
        for facts in &super::super::code::CODES {
            assert_eq!(Fault::Code(facts.code).stage(), facts.stage, "{}", facts.name);
            assert!(Fault::Code(facts.code).row().is_some(), "{}", facts.name);
        }
    }
}
