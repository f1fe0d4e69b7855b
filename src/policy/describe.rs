//! Rules and decisions in words a person understands.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::rules::{Delay, JobPlan, Per, Repeated, Threshold};
use super::when::{CodePattern, When};
use super::{JobAction, PauseOrder, Scope, Severity, SlowDown};
use crate::units::show_duration;

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let has_code = !self.code.is_empty() || !self.meta.is_empty();
        if !has_code && !self.kind.is_empty() {
            parts.push(joined(&self.kind, |kind| format!("{kind:?}").to_lowercase()));
        }
        if !self.code.is_empty() {
            parts.push(joined(&self.code, ToString::to_string));
        }
        if !self.meta.is_empty() {
            parts.push(format!("Meta {}", joined(&self.meta, range)));
        }
        if !self.http.is_empty() {
            parts.push(format!("HTTP {}", joined(&self.http, range)));
        }
        if !self.trouble.is_empty() {
            parts.push(joined(&self.trouble, |trouble| format!("{trouble:?}").to_lowercase()));
        }
        if let Some(regex) = &self.description {
            parts.push(format!("text like /{}/", regex.as_str()));
        }
        if let Some(mmlite) = self.mmlite {
            parts.push(if mmlite { "by mmlite" } else { "not by mmlite" }.to_owned());
        }
        if !self.message.is_empty() {
            parts.push(format!("{} message", joined(&self.message, |kind| format!("{kind:?}").to_lowercase())));
        }
        f.write_str(if parts.is_empty() { "anything" } else { "" })?;
        f.write_str(&parts.join("; "))
    }
}

fn joined<T>(list: &[T], show: impl Fn(&T) -> String) -> String {
    list.iter().map(show).collect::<Vec<_>>().join(", ")
}

fn range(range: &RangeInclusive<u32>) -> String {
    let (from, to) = (range.start(), range.end());
    if from == to { from.to_string() } else { format!("{from}-{to}") }
}

impl fmt::Display for CodePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(code) => f.write_str(code),
            Self::Prefix(stem) => write!(f, "{stem}*"),
        }
    }
}

impl fmt::Display for JobPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(delays) => write!(f, "retry after {}; then dead-letter", joined(delays, |&delay| show_duration(delay))),
            Self::Wait(delay) => write!(f, "wait {delay}, no attempt used"),
            Self::Hold => f.write_str("hold"),
            Self::DeadLetter => f.write_str("dead-letter"),
            Self::Suppress => f.write_str("dead-letter, and suppress the recipient"),
            Self::Unknown(delays) if delays.is_empty() => f.write_str("dead-letter as outcome unknown"),
            Self::Unknown(delays) => {
                write!(f, "by on_unknown; resend after {}", joined(delays, |&delay| show_duration(delay)))
            }
        }
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RetryAfter => f.write_str("retry_after"),
            Self::For(length) => f.write_str(&show_duration(*length)),
        }
    }
}

impl fmt::Display for JobAction {
    /// A sentence about the job.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent => f.write_str("The job is done: the message was accepted."),
            Self::Retry(delay) => write!(f, "The job is tried again after {}; the attempt counts.", rounded(*delay)),
            Self::Wait(delay) => write!(f, "The job waits {}; the attempt does not count.", rounded(*delay)),
            Self::Hold => f.write_str("The job goes back to its queue untouched; the attempt does not count."),
            Self::DeadLetter => f.write_str("The job goes to the dead letters."),
            Self::Suppress => {
                f.write_str("The job goes to the dead letters, and its recipient gets nothing more from this account.")
            }
            Self::Unknown { retry: None } => {
                f.write_str("Nobody knows whether it was sent: the job goes to the dead letters as outcome unknown.")
            }
            Self::Unknown { retry: Some(delay) } => write!(
                f,
                "Nobody knows whether it was sent. With on_unknown = park (the default) the job goes to the dead letters as outcome \
                 unknown, for a person to release; with on_unknown = resend it is sent again after {}.",
                rounded(*delay)
            ),
        }
    }
}

/// Drawn delays have nanoseconds nobody wants to read.
fn rounded(length: Duration) -> String {
    let shown = if length.as_secs() < 10 {
        Duration::from_millis(whole(length.as_millis()))
    } else {
        Duration::from_secs(length.as_secs())
    };
    show_duration(shown)
}

fn whole(milliseconds: u128) -> u64 {
    u64::try_from(milliseconds).unwrap_or(u64::MAX)
}

impl fmt::Display for PauseOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.scope)?;
        match self.length {
            None => f.write_str(" until resumed")?,
            Some(length) => write!(f, " for {}", show_duration(length))?,
        }
        f.write_str(if self.probe { ", then one job at a time until one succeeds" } else { "" })
    }
}

impl fmt::Display for SlowDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to {:.0} % of the rate for {}", self.factor * 100.0, show_duration(self.length))
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InARow(times) => write!(f, "{times} in a row"),
            Self::Within { count, within } => write!(f, "{count} within {}", show_duration(*within)),
        }
    }
}

impl fmt::Display for Per {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Campaign => "campaign",
            Self::Account => "account",
            Self::Country => "country",
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Campaign => "campaign",
            Self::Account => "account",
        })
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

impl fmt::Display for Repeated {
    /// `after 5 in a row per account: pause account for 1m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(job) = &self.job {
            parts.push(job.to_string());
        }
        if let Some(pause) = &self.pause {
            parts.push(format!("pause {pause}"));
        }
        if let Some(slow_down) = &self.slow_down {
            parts.push(format!("slow down {slow_down}"));
        }
        if let Some(alert) = self.alert {
            parts.push(format!("alert {alert}"));
        }
        write!(f, "after {} per {}: {}", self.threshold, self.per, parts.join(", "))
    }
}
