//! The truth: who got how many messages, what became of every request, and when it came.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use crate::job::Recipient;

/// Arrivals kept, newest last (8 MB when full).
const MAX_ARRIVALS: usize = 1_000_000;
/// An arrival is packed into a word: microseconds above, how it ended below.
const ENDING_BITS: u32 = 2;

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The message was accepted: its recipient gets it, whether or not the answer arrived.
    Accepted,
    /// It was a sandbox request that passed every check.
    Sandboxed,
    /// It was refused for want of rate capacity.
    RateLimited,
    /// Nothing was sent, for another reason.
    NotSent,
}

/// One request as it came to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Since the simulator started.
    pub at: Duration,
    /// What became of it.
    pub ending: Ending,
}

/// A copy of the books.
#[derive(Debug, Clone, Default)]
pub struct Books {
    /// Requests that arrived.
    pub requests: u64,
    /// Messages accepted, over all recipients.
    pub accepted: u64,
    /// Sandbox requests that passed every check.
    pub sandboxed: u64,
    /// Requests by what was answered: `accepted`, `sandboxed`, a code or the name of a fault. They add up to `requests`.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// `GW_001` answers by Meta's number.
    pub meta: BTreeMap<u32, u64>,
    recipients: HashMap<u64, u32>,
    arrivals: VecDeque<u64>,
}

impl Books {
    /// How many messages this recipient got.
    #[must_use]
    pub fn times(&self, recipient: u64) -> u32 {
        self.recipients.get(&recipient).copied().unwrap_or(0)
    }

    /// The same for a [`Recipient`].
    #[must_use]
    pub fn times_of(&self, recipient: Recipient) -> u32 {
        self.times(recipient.number())
    }

    /// Every recipient who got a message, and how many, in no order.
    pub fn recipients(&self) -> impl ExactSizeIterator<Item = (u64, u32)> {
        self.recipients.iter().map(|(&recipient, &times)| (recipient, times))
    }

    /// Whoever got more than one, in order.
    #[must_use]
    pub fn more_than_once(&self) -> Vec<u64> {
        let mut found: Vec<u64> = self.recipients().filter(|(_, times)| *times > 1).map(|(recipient, _)| recipient).collect();
        found.sort_unstable();
        found
    }

    /// Requests with this outcome.
    #[must_use]
    pub fn outcome(&self, name: &str) -> u64 {
        self.outcomes.get(name).copied().unwrap_or(0)
    }

    /// The newest million arrivals, oldest first.
    pub fn arrivals(&self) -> impl ExactSizeIterator<Item = Arrival> {
        self.arrivals.iter().map(|&word| Arrival {
            at: Duration::from_micros(word >> ENDING_BITS),
            ending: match word & 3 {
                0 => Ending::Accepted,
                1 => Ending::Sandboxed,
                2 => Ending::RateLimited,
                _ => Ending::NotSent,
            },
        })
    }

    /// Notes one request that came `now` microseconds after the start. `to` counts as reached if the ending says so.
    pub(super) fn note(&mut self, now: u64, outcome: &'static str, ending: Ending, to: Option<u64>) {
        self.requests += 1;
        *self.outcomes.entry(outcome).or_default() += 1;
        let bits = match ending {
            Ending::Accepted => 0,
            Ending::Sandboxed => 1,
            Ending::RateLimited => 2,
            Ending::NotSent => 3,
        };
        if self.arrivals.len() == MAX_ARRIVALS {
            self.arrivals.pop_front();
        }
        self.arrivals.push_back((now << ENDING_BITS) | bits);
        match ending {
            Ending::Accepted => {
                self.accepted += 1;
                if let Some(to) = to {
                    *self.recipients.entry(to).or_default() += 1;
                }
            }
            Ending::Sandboxed => self.sandboxed += 1,
            Ending::RateLimited | Ending::NotSent => {}
        }
    }

    pub(super) fn note_meta(&mut self, number: u32) {
        *self.meta.entry(number).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_accepted_and_remembers_every_arrival() {
        let mut books = Books::default();
        books.note(5, "accepted", Ending::Accepted, Some(905));
        books.note(6, "reset-after", Ending::Accepted, Some(905));
        books.note(7, "RATE_001", Ending::RateLimited, Some(906));
        books.note(8, "sandboxed", Ending::Sandboxed, Some(906));
        books.note(9, "BILL_001", Ending::NotSent, Some(906));
        assert_eq!((books.requests, books.accepted, books.sandboxed), (5, 2, 1));
        assert_eq!((books.times(905), books.times(906)), (2, 0));
        assert_eq!(books.more_than_once(), [905]);
        assert_eq!(books.outcomes.values().sum::<u64>(), books.requests);
        let endings: Vec<Ending> = books.arrivals().map(|arrival| arrival.ending).collect();
        assert_eq!(endings, [Ending::Accepted, Ending::Accepted, Ending::RateLimited, Ending::Sandboxed, Ending::NotSent]);
        assert_eq!(books.arrivals().next().unwrap().at, Duration::from_micros(5));
    }
}
