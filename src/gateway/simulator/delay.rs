//! How long a request is on its way to the gateway and its answer on the way back: even jitter, and tails.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{fraction, spread};
use crate::units::parse_duration;

/// What requests and answers take.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Delay {
    /// From request to answer, half of it before the request is counted.
    pub latency: Duration,
    /// How far the latency strays, either way and evenly; at most the latency itself.
    pub jitter: Duration,
    /// Ways that take much longer.
    pub tail: Tail,
}

impl Delay {
    /// Two ways, up and down, by this many bits of chance.
    pub(super) fn roll(&self, bits: u64) -> (Duration, Duration) {
        let jitter = self.jitter.min(self.latency);
        let total = self.latency - jitter + (jitter * 2).mul_f64(fraction(spread(bits)));
        let up = total / 2;
        (up + self.tail.roll(bits ^ UP), total - up + self.tail.roll(bits ^ DOWN))
    }
}

const UP: u64 = 0x7570;
const DOWN: u64 = 0x646f_776e;

/// Some ways, up and down each for itself, take longer by anything up to a duration: written `260ms=3`, 3 % of ways.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Tail {
    /// How much longer at most.
    pub longer: Duration,
    /// Of all ways, from 0 to 100.
    pub percent: f64,
}

impl Tail {
    fn roll(self, bits: u64) -> Duration {
        let dice = spread(bits);
        if fraction(dice) * 100.0 >= self.percent {
            return Duration::ZERO;
        }
        self.longer.mul_f64(fraction(spread(dice)))
    }
}

impl FromStr for Tail {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (longer, percent) = text.split_once('=').ok_or("write DURATION=PERCENT, for example 260ms=3")?;
        let longer = parse_duration(longer.trim()).map_err(|error| error.to_string())?;
        let share = percent.trim().trim_end_matches('%').parse().ok().filter(|percent| (0.0..=100.0).contains(percent));
        let percent = share.ok_or_else(|| format!("{percent:?} is no number of per cent"))?;
        Ok(Self { longer, percent })
    }
}

impl fmt::Display for Tail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", crate::units::show_duration(self.longer), self.percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn without_a_tail_both_ways_are_half_of_a_latency_that_strays_evenly() {
        let delay = Delay { latency: 50 * MS, jitter: 20 * MS, ..Delay::default() };
        let ways: Vec<Duration> = (0..10_000)
            .map(|n| delay.roll(n))
            .map(|(up, down)| {
                assert!(down - up <= MS / 1_000_000);
                up
            })
            .collect();
        let (least, most) = (ways.iter().min().unwrap(), ways.iter().max().unwrap());
        assert!(*least >= 15 * MS && *least < 16 * MS && *most > 34 * MS && *most <= 35 * MS, "{least:?} to {most:?}");
        assert_eq!(Delay::default().roll(7), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn a_tail_lengthens_its_share_of_either_way() {
        let tail = Tail { longer: 260 * MS, percent: 3.0 };
        let delay = Delay { latency: 50 * MS, jitter: 30 * MS, tail };
        let ways: Vec<_> = (0..10_000).map(|n| delay.roll(n)).collect();
        let long = |way: Duration| way > 40 * MS;
        let (up, down) = (ways.iter().filter(|w| long(w.0)).count(), ways.iter().filter(|w| long(w.1)).count());
        let both = ways.iter().filter(|w| long(w.0) && long(w.1)).count();
        assert!((200..=320).contains(&up) && (200..=320).contains(&down) && both < 30, "{up}, {down}, {both}");
        assert!(ways.iter().all(|w| w.0 <= 300 * MS) && ways.iter().any(|w| w.0 > 270 * MS));
    }

    #[test]
    fn a_tail_is_a_duration_and_a_share() {
        assert_eq!("260ms = 3%".parse(), Ok(Tail { longer: 260 * MS, percent: 3.0 }));
        assert_eq!("1s=0.5".parse::<Tail>().unwrap().to_string(), "1s=0.5");
        for wrong in ["260ms", "3=260ms", "260ms=101", "260ms=-1", "260ms=NaN"] {
            assert!(wrong.parse::<Tail>().is_err(), "{wrong}");
        }
    }
}
