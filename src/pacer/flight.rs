//! How many requests may be under way at once: as many as the rate and the gateway's latency make, and some more.
//!
//! With a rate that is Little's law. Without one it is the gradient of the latency, as in Netflix's concurrency-limits (Gradient2): the
//! number grows gently while answers come about as fast as usual, and shrinks when they come slower.

use std::time::Duration;

/// Never fewer; latency may change.
const LEAST: f64 = 8.0;

/// Before anything is known, without a rate.
const FIRST: f64 = 32.0;

/// Before anything is known, the gateway is taken to be as slow as this, in seconds: a slow one gets the whole rate from the start, and one
/// that hangs gets no more than so many seconds' requests, which would then be in doubt.
const FIRST_TRIP: f64 = 2.5;

/// Room over what Little's law asks for, so that latency may grow for a moment.
const HEADROOM: f64 = 1.5;

/// How much slower than usual answers may become before the number shrinks.
const TOLERANCE: f64 = 1.5;

/// Least share that a round of slow answers leaves.
const STEEPEST: f64 = 0.5;

/// Weight of a round in the number, and in the usual latency.
const SMOOTHING: f64 = 0.2;
const WEIGHT: f64 = 1.0 / 16.0;

/// The number, and what it is made of. Latencies in seconds.
#[derive(Debug)]
pub(super) struct Flight {
    most: f64,
    usual: f64,
    stray: f64,
    long: f64,
    /// Of this round: answers, the sum of their latencies, and whether the number was made use of.
    answers: f64,
    sum: f64,
    used: bool,
    /// No round has been slow yet, so the number may double.
    starting: bool,
}

impl Default for Flight {
    fn default() -> Self {
        Self { most: FIRST, usual: 0.0, stray: 0.0, long: 0.0, answers: 0.0, sum: 0.0, used: false, starting: true }
    }
}

impl Flight {
    /// An answer after `trip`, with so many under way, at so many requests per second; none without limit. `lead` is how much longer
    /// than the way each is under way.
    pub(super) fn answered(&mut self, trip: Duration, in_flight: usize, rate: Option<f64>, lead: Duration) {
        let trip = trip.as_secs_f64();
        if self.usual == 0.0 {
            (self.usual, self.stray, self.long) = (trip, trip / 2.0, trip);
        }
        // weights of TCP's round trip estimate, RFC 6298
        self.stray += ((trip - self.usual).abs() - self.stray) / 4.0;
        self.usual += (trip - self.usual) / 8.0;
        match rate {
            Some(rate) => self.most = LEAST + rate * (self.usual + 2.0 * self.stray + lead.as_secs_f64()) * HEADROOM,
            None => self.climb(trip, in_flight),
        }
    }

    fn climb(&mut self, trip: f64, in_flight: usize) {
        self.answers += 1.0;
        self.sum += trip;
        self.used |= in_flight as f64 >= self.most / 2.0;
        if self.answers < self.most {
            return;
        }
        let short = self.sum / self.answers;
        self.long += (short - self.long) * WEIGHT;
        if self.long > 2.0 * short {
            self.long *= 0.95; // the usual came down
        }
        let gradient = (TOLERANCE * self.long / short.max(1e-6)).clamp(STEEPEST, 1.0);
        self.starting &= gradient >= 1.0;
        if self.used || gradient < 1.0 {
            let aim = if self.starting { self.most * 2.0 } else { self.most * gradient + self.most.sqrt() };
            let weight = if self.starting { 1.0 } else { SMOOTHING };
            self.most += (aim - self.most) * weight;
        }
        (self.answers, self.sum, self.used) = (0.0, 0.0, false);
    }

    /// Most requests under way now at this rate, up to this ceiling; at least one.
    pub(super) fn most(&mut self, rate: Option<f64>, ceiling: usize) -> usize {
        if let (Some(rate), true) = (rate, self.usual == 0.0) {
            self.most = LEAST + rate * FIRST_TRIP;
        }
        self.most = self.most.clamp(LEAST, (ceiling as f64).max(LEAST));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between LEAST and the ceiling")]
        let most = self.most as usize;
        most.min(ceiling).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at_rate(flight: &mut Flight, latency: Duration, answers: usize) -> usize {
        (0..answers).for_each(|_| flight.answered(latency, 0, Some(80.0), MS));
        flight.most(Some(80.0), 256)
    }

    #[test]
    fn the_rate_is_held_at_any_latency_with_no_more_than_that_takes() {
        let mut flight = Flight::default();
        for (latency, needed) in [(20, 2), (2000, 160), (20, 2), (50, 4)] {
            let most = at_rate(&mut flight, latency * MS, 200);
            assert!(most > needed && most <= 8 + needed * 2, "{most} at {latency} ms");
        }
        // Latency that jumps is learnt from a few answers.
        assert!(at_rate(&mut flight, 2000 * MS, 4) > 160);
        assert_eq!(flight.most(Some(80.0), 64), 64);
    }

    #[test]
    fn before_any_answer_a_slow_gateway_gets_the_rate_and_one_that_hangs_no_flood() {
        let most = |rate, ceiling| Flight::default().most(rate, ceiling);
        assert!((160..=220).contains(&most(Some(80.0), 1000)), "two seconds' requests and little more");
        assert_eq!(most(Some(80.0), 64), 64);
        assert!(most(Some(1.0), 256) <= 11);
        assert_eq!(most(None, 256), 32);
    }

    /// A gateway that does 1,000/s and has 20 ms of latency: beyond 20 under way it only queues.
    fn queueing(flight: &mut Flight, rounds: usize, per_second: f64) -> usize {
        for _ in 0..rounds {
            let most = flight.most(None, 1000);
            let latency = Duration::from_secs_f64((most as f64 / per_second).max(0.020));
            (0..most).for_each(|_| flight.answered(latency, most, None, MS));
        }
        flight.most(None, 1000)
    }

    #[test]
    fn without_a_rate_it_grows_while_latency_stays_and_shrinks_when_it_rises() {
        let mut flight = Flight::default();
        let fast = queueing(&mut flight, 50, 100_000.0);
        assert_eq!(fast, 1000);
        let slow = (1..40).map(|_| queueing(&mut flight, 1, 500.0)).min().unwrap();
        assert!(slow < 600, "{slow}");
    }

    #[test]
    fn what_is_not_made_use_of_does_not_grow() {
        let mut flight = Flight::default();
        (0..1000).for_each(|_| flight.answered(20 * MS, 3, None, MS));
        assert_eq!(flight.most(None, 1000), 32);
    }

    #[test]
    fn there_is_half_as_much_room_again_as_a_steady_way_takes_and_room_for_writing() {
        let at = |latency: Duration, lead: Duration, rate: f64| {
            let mut flight = Flight::default();
            (0..200).for_each(|_| flight.answered(latency, 0, Some(rate), lead));
            flight.most(Some(rate), 10_000)
        };
        assert!((248..=249).contains(&at(2000 * MS, MS, 80.0)), "160 under way");
        assert!((82..=84).contains(&at(20 * MS, 30 * MS, 1000.0)), "50 under way or being written");
    }

    #[test]
    fn a_first_answer_and_a_single_slow_one_make_some_room_but_not_for_all_to_be_as_slow() {
        let mut flight = Flight::default();
        let first = at_rate(&mut flight, 100 * MS, 1);
        assert!((26..=30).contains(&first), "{first}");
        at_rate(&mut flight, 20 * MS, 200);
        let slow = at_rate(&mut flight, 1000 * MS, 1);
        assert!((50..=100).contains(&slow), "{slow}");
    }

    /// Answers of as many rounds at this latency, with so many under way each.
    fn unlimited(flight: &mut Flight, rounds: usize, latency: Duration, used: impl Fn(usize) -> usize) -> usize {
        for _ in 0..rounds {
            let most = flight.most(None, 1000);
            (0..=most).for_each(|_| flight.answered(latency, used(most), None, MS));
        }
        flight.most(None, 1000)
    }

    #[test]
    fn it_doubles_while_no_round_was_slow_and_grows_gently_after_that() {
        let mut flight = Flight::default();
        (0..32).for_each(|_| flight.answered(20 * MS, 32, None, MS));
        assert_eq!(flight.most(None, 1000), 64);
        unlimited(&mut flight, 1, 20 * MS, |most| most);
        let before = unlimited(&mut flight, 1, 200 * MS, |most| most);
        let after = unlimited(&mut flight, 20, 20 * MS, |most| most);
        assert!((before * 13 / 10..before * 2).contains(&after), "from {before} to {after} in 20 rounds");
    }

    #[test]
    fn slow_answers_shrink_it_though_few_places_are_used() {
        let mut flight = Flight::default();
        unlimited(&mut flight, 3, 20 * MS, |most| most);
        let before = unlimited(&mut flight, 5, 20 * MS, |_| 1);
        let after = unlimited(&mut flight, 5, 200 * MS, |_| 1);
        assert!(after < before * 3 / 4, "from {before} to {after}");
    }

    #[test]
    fn a_gateway_that_became_slower_for_good_is_used_in_full_again() {
        let mut flight = Flight::default();
        unlimited(&mut flight, 10, 20 * MS, |most| most);
        let shrunk = unlimited(&mut flight, 5, 60 * MS, |most| most);
        assert!(shrunk < 900, "{shrunk}");
        assert_eq!(unlimited(&mut flight, 200, 60 * MS, |most| most), 1000);
    }

    #[test]
    fn after_a_slow_hour_it_soon_knows_again_what_fast_is() {
        let mut flight = Flight::default();
        unlimited(&mut flight, 50, 1000 * MS, |most| most);
        let fast = unlimited(&mut flight, 32, 20 * MS, |most| most);
        let slow = unlimited(&mut flight, 5, 100 * MS, |most| most);
        assert!(slow < fast * 9 / 10, "from {fast} to {slow}");
    }
}
