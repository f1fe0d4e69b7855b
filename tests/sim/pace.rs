//! What is promised about the rate, checked where requests leave.
//!
//! Within one life of the daemon no window of a second or of a minute holds more requests than its limit. A daemon does not know
//! what left before it was started; it behaves as if that had been the limit all along, so from its start on its requests come at
//! the limit's even pace at most, but for one that is let go early because it will not be there before its time. What a disk has
//! held back leaves as soon as it is written, in one go: that is not promised away.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::plan::Limit;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Requests of one account in one life of the daemon.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    limit: Limit,
    began: Option<Instant>,
    /// Of the last minute.
    left: VecDeque<Instant>,
    count: u32,
}

impl Pace {
    pub(crate) fn life_begins(&mut self, limit: Limit, now: Instant) {
        *self = Self { limit, began: Some(now), ..Self::default() };
    }

    /// A request leaves; the window that is full with it.
    pub(crate) fn departs(&mut self, now: Instant) -> Result<Option<&'static str>, String> {
        let Some(began) = self.began else { return Err("a request left without a daemon".into()) };
        while self.left.front().is_some_and(|at| now - *at >= MINUTE) {
            self.left.pop_front();
        }
        self.left.push_back(now);
        self.count += 1;
        let second = self.left.iter().rev().take_while(|at| now - **at < SECOND).count();
        let limit = self.limit;
        if second > limit.second as usize || self.left.len() > limit.minute as usize {
            return Err(format!("{second} requests in a second, {} in a minute, limits {limit:?}", self.left.len()));
        }
        let age = now - began;
        let even = f64::from(limit.second).min(f64::from(limit.minute) / 60.0) * age.as_secs_f64();
        if age < MINUTE && f64::from(self.count) > even + 2.0 {
            return Err(format!("{} requests in the first {age:?}, limits {limit:?}", self.count));
        }
        Ok(if self.left.len() == limit.minute as usize {
            Some("the limit of a minute is reached")
        } else {
            (second == limit.second as usize).then_some("the limit of a second is reached")
        })
    }
}
