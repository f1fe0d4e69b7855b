//! The documented error codes with their HTTP statuses, groups and words.

use std::fmt;
use std::str::FromStr;

use super::fault::{NoSuchFault, Stage};

/// A code of the gateway's error envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the gateway's own names; the table below says what each means")]
pub enum Code {
    Auth001,
    Auth002,
    Auth003,
    Auth004,
    Auth005,
    Wh001,
    Wh002,
    Wh003,
    Rate001,
    Bill001,
    Bill002,
    Waba001,
    Sec001,
    Gw001,
    Sys400,
    Sys500,
}

/// What goes with a code.
pub(super) struct Facts {
    pub(super) code: Code,
    pub(super) name: &'static str,
    pub(super) status: u16,
    pub(super) group: &'static str,
    pub(super) description: &'static str,
    pub(super) stage: Stage,
}

const fn facts(
    code: Code,
    name: &'static str,
    status: u16,
    group: &'static str,
    description: &'static str,
    stage: Stage,
) -> Facts {
    Facts { code, name, status, group, description, stage }
}

/// Every code, in the order of [`Code`]. SYS codes are mentioned by the documentation and not described.
pub(super) const CODES: [Facts; 16] = {
    use Stage::{Account, Balance, Key, Meta, Rate};
    [
        facts(Code::Auth001, "AUTH_001", 401, "UNAUTHORIZED", "API key not found, invalid, revoked or expired.", Key),
        facts(Code::Auth002, "AUTH_002", 401, "UNAUTHORIZED", "Authorization header is missing.", Key),
        facts(Code::Auth003, "AUTH_003", 401, "UNAUTHORIZED", "Authorization header must be: Bearer <API key>.", Key),
        facts(Code::Auth004, "AUTH_004", 500, "INTERNAL_SERVER_ERROR", "Authentication service error.", Key),
        facts(Code::Auth005, "AUTH_005", 500, "INTERNAL_SERVER_ERROR", "Corrupted authentication data.", Key),
        facts(Code::Wh001, "WH_001", 403, "FORBIDDEN", "hub.verify_token mismatch.", Key),
        facts(Code::Wh002, "WH_002", 401, "UNAUTHORIZED", "X-Hub-Signature-256 header is missing.", Key),
        facts(Code::Wh003, "WH_003", 403, "FORBIDDEN", "Webhook signature is invalid.", Key),
        facts(Code::Rate001, "RATE_001", 429, "TOO_MANY_REQUESTS", "Rate limit exceeded. Please try again later.", Rate),
        facts(
            Code::Bill001,
            "BILL_001",
            402,
            "PAYMENT_REQUIRED",
            "Insufficient balance. Please add balance to continue.",
            Balance,
        ),
        facts(Code::Bill002, "BILL_002", 400, "BAD_REQUEST", "No billing account found.", Balance),
        facts(Code::Waba001, "WABA_001", 401, "UNAUTHORIZED", "WhatsApp Business credentials are missing.", Account),
        facts(Code::Sec001, "SEC_001", 500, "INTERNAL_SERVER_ERROR", "Token decryption failed.", Account),
        facts(Code::Gw001, "GW_001", 502, "BAD_GATEWAY", "Upstream request failed.", Meta),
        facts(Code::Sys400, "SYS_400", 400, "BAD_REQUEST", "The request could not be handled.", Meta),
        facts(Code::Sys500, "SYS_500", 500, "INTERNAL_SERVER_ERROR", "Something went wrong.", Meta),
    ]
};

impl Code {
    #[expect(clippy::indexing_slicing, reason = "one row per variant, in their order; a test holds it to that")]
    pub(super) const fn facts(self) -> &'static Facts {
        const TABLE: &[Facts; 16] = &CODES;
        &TABLE[self as usize]
    }

    /// As the gateway writes it, for example `GW_001`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().name
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Code {
    type Err = NoSuchFault;

    fn from_str(text: &str) -> Result<Self, NoSuchFault> {
        let found = CODES.iter().find(|facts| facts.name.eq_ignore_ascii_case(text));
        found.map(|facts| facts.code).ok_or_else(|| NoSuchFault::new(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_row() {
        for (row, facts) in CODES.iter().enumerate() {
            assert_eq!(facts.code as usize, row, "{}", facts.name);
            assert_eq!(facts.name.parse(), Ok(facts.code));
        }
    }
}
