//! What others use of the account's limit: the gateway's own count of a window, less what is ours in it.
//!
//! Which of our requests were in the window when one of them arrived is known to a few requests only. So two things are learnt: on
//! average, which is exact after a second; and at once, what no doubt explains. Whoever has just come is seen before his second is
//! full: while the short average runs before the long one, it is taken to go on like that.

use super::log::{Micros, SECOND};

/// Over how long the average is taken that says whether there is anybody.
const AVERAGE: f64 = 0.5 * SECOND as f64;

/// Over how long the short average is taken, whose peaks are heeded.
const SHORT: f64 = 0.1 * SECOND as f64;

/// Most weight of one answer in an average.
const MOST_WEIGHT: f64 = 0.2;

/// Over how long their usual number is taken, and how far they stray from it.
const LONG: f64 = 4.0 * SECOND as f64;

/// How long a peak is heeded, once to twice.
const PEAK: Micros = 4 * SECOND;

/// How many times further than usual they may stray beyond their latest peak.
const STRAY: f64 = 0.25;

/// How far ahead of the short average they are expected, in its distances from the average. An even sender who comes is expected in full
/// when about a third of a second's requests have come: soon enough to make room while a reserve of that much still holds.
const AHEAD: f64 = 4.0;

/// An average below this part of the doubt is nobody.
const NOBODY: f64 = 0.125;

/// Requests of others in one window.
#[derive(Debug, Default)]
pub(super) struct Others {
    mean: f64,
    short: f64,
    long: f64,
    stray: f64,
    doubt: f64,
    heard: Micros,
    /// The highest of this span and the span before.
    peaks: [f64; 2],
    /// The highest count that no doubt explains, as above.
    sure: [f64; 2],
    span_ends: Micros,
}

impl Others {
    /// An answer by which `others` requests in the window are not ours, give or take `doubt`; or any number more, as in a full one.
    pub(super) fn add(&mut self, others: f64, doubt: f64, or_more: bool, now: Micros) {
        if or_more && others < self.short {
            return;
        }
        if now >= self.span_ends {
            let gone = now >= self.span_ends + PEAK;
            for peaks in [&mut self.peaks, &mut self.sure] {
                *peaks = [0.0, if gone { 0.0 } else { peaks[0] }];
            }
            self.span_ends = now + PEAK;
        }
        let since = now.saturating_sub(self.heard).max(0) as f64;
        (self.heard, self.doubt) = (now, doubt);
        let others = others.max(-doubt);
        let towards =
            |mean: &mut f64, value: f64, time: f64| *mean += (value - *mean) * (since / (since + time)).min(MOST_WEIGHT);
        towards(&mut self.mean, others, AVERAGE);
        towards(&mut self.short, others, SHORT);
        towards(&mut self.long, self.short, LONG);
        towards(&mut self.stray, (self.short - self.long).abs(), LONG);
        self.peaks[0] = self.peaks[0].max(self.short);
        self.sure[0] = self.sure[0].max(others - doubt);
    }

    /// How many requests of others the window must be expected to hold.
    pub(super) fn expected(&self) -> u32 {
        let higher = |peaks: [f64; 2]| peaks[0].max(peaks[1]);
        let ahead = self.short + AHEAD * (self.short - self.mean);
        let usual = if self.mean < NOBODY * self.doubt { 0.0 } else { ahead.max(higher(self.peaks) + STRAY * self.stray) };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
        let expected = usual.max(higher(self.sure)).ceil() as u32;
        expected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAP: Micros = SECOND / 80;

    #[test]
    fn nobody_is_nobody_however_uncertain_the_count() {
        let mut others = Others::default();
        for n in 0..1000 {
            others.add(f64::from([-2, 1, 0, 2, -1][n as usize % 5]), 3.0, false, n * GAP);
            assert_eq!(others.expected(), 0);
        }
    }

    #[test]
    fn a_burst_is_seen_at_once_a_steady_sender_exactly_and_both_are_forgotten() {
        let mut others = Others::default();
        let mut hear = |count: f64, from: Micros, until: Micros| {
            (from..until).for_each(|n| others.add(count, 3.0, false, n * GAP));
            others.expected()
        };
        assert_eq!(hear(0.0, 0, 80), 0);
        assert_eq!(hear(20.0, 80, 81), 17);
        assert!((10..=11).contains(&hear(10.0, 81, 30 * 80)));
        assert_eq!(hear(0.0, 30 * 80, 40 * 80), 0);
    }

    #[test]
    fn an_even_sender_who_comes_is_expected_in_full_before_half_of_his_second_is_over() {
        let mut others = Others::default();
        let mut hear = |from: Micros, until: Micros, count: &dyn Fn(Micros) -> f64| {
            (from..until).for_each(|n| others.add(count(n), 4.9, false, n * GAP));
            others.expected()
        };
        hear(0, 800, &|_| 0.0);
        // ten a second: one more in the window for every eighth of ours
        let coming = |n: Micros| ((n - 800) / 8 + 1) as f64;
        assert_eq!(hear(800, 808, &coming), 0, "one may be our own mistake");
        assert!((4..=10).contains(&hear(808, 824, &coming)));
        assert!((9..=16).contains(&hear(824, 840, &coming)));
        hear(840, 880, &coming);
        assert!((10..=13).contains(&hear(880, 1600, &|_| 10.0)), "what was expected of his coming is not kept");
        // of as much doubt as a way of great jitter leaves, the same average is nobody
        let mut unsure = Others::default();
        (0..800).for_each(|n| unsure.add(1.0, 12.0, false, n * GAP));
        assert_eq!(unsure.expected(), 0);
    }

    #[test]
    fn a_full_window_never_lowers_what_is_expected() {
        let mut others = Others::default();
        for n in 0..160 {
            others.add(10.0, 3.0, false, n * GAP);
        }
        let before = others.expected();
        (160..320).for_each(|n| others.add(-30.0, 3.0, true, n * GAP));
        assert_eq!(others.expected(), before);
    }

    /// Hears the same count from one time to another, once in each gap.
    fn hear(others: &mut Others, count: f64, doubt: f64, gap: Micros, (from, until): (Micros, Micros)) -> u32 {
        let times = (from..until).step_by(usize::try_from(gap).unwrap());
        times.for_each(|now| others.add(count, doubt, false, now));
        others.expected()
    }

    #[test]
    fn a_burst_is_heeded_for_four_to_eight_seconds_and_for_none_once_nothing_was_heard_for_longer() {
        let mut others = Others::default();
        others.add(20.0, 3.0, false, 0);
        for (until, expected) in [(SECOND, 17..=18), (3 * SECOND, 17..=18), (7 * SECOND, 17..=18), (11 * SECOND, 0..=0)] {
            let heeded = hear(&mut others, 0.0, 3.0, GAP, (until - SECOND, until));
            assert!(expected.contains(&heeded), "{heeded} after {until}");
        }
        others.add(20.0, 3.0, false, 12 * SECOND);
        assert!(others.expected() >= 17);
        assert_eq!(hear(&mut others, 0.0, 3.0, GAP, (70 * SECOND, 72 * SECOND)), 0);
    }

    #[test]
    fn one_who_came_in_bursts_lately_is_expected_beyond_his_highest_and_an_even_one_is_not() {
        let (mut bursts, mut even) = (Others::default(), Others::default());
        for second in 0..25 {
            let count = if second % 2 == 1 || second > 20 { 40.0 } else { 0.0 };
            hear(&mut bursts, count, 3.0, GAP, (second * SECOND, (second + 1) * SECOND));
            hear(&mut even, 40.0, 3.0, GAP, (second * SECOND, (second + 1) * SECOND));
        }
        let (bursts, even) = (bursts.expected(), even.expected());
        assert!(bursts == 44 && even <= 41, "{bursts}, {even}");
    }

    #[test]
    fn a_sender_within_doubt_is_seen_soon_and_forgotten_soon_after_its_last_peak() {
        let mut others = Others::default();
        hear(&mut others, 0.0, 12.0, GAP, (0, SECOND));
        assert!(hear(&mut others, 10.0, 12.0, GAP, (SECOND, SECOND * 13 / 10)) >= 5);
        hear(&mut others, 10.0, 12.0, GAP, (SECOND * 13 / 10, 10 * SECOND));
        assert_eq!(hear(&mut others, 0.0, 12.0, GAP, (10 * SECOND, 12 * SECOND)), 0);
    }

    #[test]
    fn counts_that_are_off_now_and_then_are_nobody_and_make_no_peak_of_somebody() {
        let mut others = Others::default();
        let dense = GAP / 10;
        for n in 0..8000 {
            others.add(if n % 100 < 10 { 5.0 } else { 0.0 }, 40.0, false, n * dense);
            assert_eq!(others.expected(), 0, "after {n}");
        }
        hear(&mut others, 6.0, 40.0, dense, (10 * SECOND, 40 * SECOND));
        others.add(34.0, 40.0, false, 40 * SECOND);
        assert!((6..=8).contains(&others.expected()), "{}", others.expected());
    }

    #[test]
    fn whose_use_has_just_grown_may_soon_use_more_still() {
        let mut others = Others::default();
        let steady = hear(&mut others, 10.0, 40.0, GAP, (0, 60 * SECOND));
        assert!((10..=11).contains(&steady), "{steady}");
        let grown = hear(&mut others, 20.0, 40.0, GAP, (60 * SECOND, 60 * SECOND + SECOND / 5));
        assert!((23..=50).contains(&grown), "{grown}");
        assert!(hear(&mut others, 20.0, 40.0, GAP, (61 * SECOND, 120 * SECOND)) <= 21);
    }
}
