//! Waits for the account's turn: governor smooths, a sliding log of our own guarantees.

/// An account's rate limit: requests allowed in any trailing second and in any trailing 60 seconds; none is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In any second; at least 1.
    pub second: Option<u32>,
    /// In any 60 seconds; at least 1.
    pub minute: Option<u32>,
}
