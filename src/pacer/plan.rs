//! What an account is paced by: its limits, what of them is left to others, and how requests are spread.

/// An account's rate limit: requests allowed in any trailing second and in any trailing 60 seconds; none is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In any second; at least 1.
    pub second: Option<u32>,
    /// In any 60 seconds; at least 1.
    pub minute: Option<u32>,
}

/// How an account is to be paced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// What the gateway allows at most.
    pub limits: Limits,
    /// What of it is left to other programs on the same key.
    pub reserve: Reserve,
    /// How requests are spread.
    pub pace: Pace,
}

impl From<Limits> for Plan {
    fn from(limits: Limits) -> Self {
        Self { limits, reserve: Reserve::default(), pace: Pace::Smooth }
    }
}

/// Room left to other programs that use the same key. They find it free at any moment; when they need more, they get that too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reserve {
    /// So many requests of any second. Of a minute the part that they are of the account's second, in requests too: 12 of 80 a second are
    /// 720 of 4,800 a minute. Without a limit by the second, so many of any minute. The number stays when the gateway lowers a limit.
    Requests(u32),
    /// This part of each limit in force, from 0 to below 1.
    Share(f64),
}

impl Default for Reserve {
    fn default() -> Self {
        Self::Requests(0)
    }
}

impl Reserve {
    /// The part of the account's limits that it is.
    #[must_use]
    pub fn share(self, limits: Limits) -> f64 {
        match self {
            Self::Requests(requests) => {
                limits.second.or(limits.minute).map_or(0.0, |limit| f64::from(requests) / f64::from(limit))
            }
            Self::Share(share) => share,
        }
    }
}

impl Plan {
    /// What is reserved of a window's limit: `configured` by the account, `in_force` at the gateway.
    pub(super) fn reserved(&self, configured: Option<u32>, in_force: u32) -> u32 {
        let of = match self.reserve {
            Reserve::Requests(_) => configured.unwrap_or(in_force),
            Reserve::Share(_) => in_force,
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "less than the limit")]
        let reserved = (f64::from(of) * self.reserve.share(self.limits) - ROUNDING).ceil() as u32;
        reserved
    }
}

/// So much less than a whole request is one still, when a number went through a share.
const ROUNDING: f64 = 1e-9;

/// How requests are spread when the minute's limit is lower than the second's for a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// Evenly over the minute.
    #[default]
    Smooth,
    /// As fast as the second's limit allows, until the minute is used up.
    Burst,
}

/// The smooth rate under both limits, per second.
pub(super) fn rate(limits: Limits) -> Option<f64> {
    let second = limits.second.map(f64::from);
    let minute = limits.minute.map(|n| f64::from(n) / 60.0);
    match (second, minute) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stays_when_a_limit_falls_and_a_share_shrinks() {
        let limits = Limits { second: Some(80), minute: Some(4800) };
        let reserved = |reserve, (second, minute)| {
            let plan = Plan { reserve, ..limits.into() };
            (plan.reserved(limits.second, second), plan.reserved(limits.minute, minute))
        };
        assert_eq!(reserved(Reserve::Requests(12), (80, 4800)), (12, 720));
        assert_eq!(reserved(Reserve::Requests(12), (40, 1000)), (12, 720));
        assert_eq!(reserved(Reserve::Share(0.15), (80, 4800)), (12, 720));
        assert_eq!(reserved(Reserve::Share(0.15), (40, 1000)), (6, 150));
    }
}
