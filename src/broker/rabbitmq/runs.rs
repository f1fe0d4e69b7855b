//! Acknowledgements in runs: which `basic.ack` frames take a set of deliveries off, with as few frames as the tags allow.

use std::collections::VecDeque;

/// One `basic.ack`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    /// The delivery tag.
    pub(super) number: u64,
    /// Whether it covers everything before it too.
    pub(super) multiple: bool,
}

/// What has been acknowledged on one channel, whose delivery tags are 1, 2, 3, …
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Tags up to this one are all acknowledged.
    low: u64,
    /// Whether `low + 1`, `low + 2`, … are. Bounded by the prefetch.
    above: VecDeque<bool>,
    /// How many are, above `low`.
    ahead: u64,
}

impl Window {
    /// Marks `numbers` (ascending) acknowledged, of those up to `delivered`, and says which frames tell the broker so.
    ///
    /// Numbers never delivered or acknowledged before are left out: naming one would close the channel.
    pub(super) fn runs(&mut self, numbers: &[u64], delivered: u64) -> Vec<Ack> {
        let fresh: Vec<u64> = numbers.iter().copied().filter(|&number| number <= delivered && self.mark(number)).collect();
        while self.above.front() == Some(&true) {
            self.above.pop_front();
            self.low += 1;
            self.ahead -= 1;
        }
        let covered = fresh.iter().take_while(|&&number| number <= self.low).count();
        let (prefix, rest) = fresh.split_at(covered);
        // The frame names the last fresh tag of the prefix: naming one acknowledged before would close the channel.
        let run = prefix.last().map(|&number| Ack { number, multiple: prefix.len() > 1 });
        run.into_iter().chain(rest.iter().map(|&number| Ack { number, multiple: false })).collect()
    }

    /// How many of the first `delivered` are not acknowledged.
    pub(super) fn unsettled(&self, delivered: u64) -> u64 {
        delivered.saturating_sub(self.low + self.ahead)
    }

    /// `false` if it was acknowledged before.
    fn mark(&mut self, number: u64) -> bool {
        let Some(offset) = number.checked_sub(self.low + 1) else { return false };
        let Ok(offset) = usize::try_from(offset) else { return false };
        if self.above.len() <= offset {
            self.above.resize(offset + 1, false);
        }
        let Some(slot) = self.above.get_mut(offset) else { return false };
        let fresh = !std::mem::replace(slot, true);
        self.ahead += u64::from(fresh);
        fresh
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const fn one(number: u64) -> Ack {
        Ack { number, multiple: false }
    }

    const fn run(number: u64) -> Ack {
        Ack { number, multiple: true }
    }

    #[test]
    fn a_run_from_the_head_is_one_frame() {
        let mut window = Window::default();
        assert_eq!(window.runs(&[1, 2, 3], 5), [run(3)]);
        assert_eq!(window.runs(&[5], 5), [one(5)]);
        assert_eq!(window.unsettled(5), 1);
        assert_eq!(window.runs(&[4], 5), [one(4)], "5 was named before, so the frame names 4");
        assert_eq!(window.unsettled(5), 0);
    }

    #[test]
    fn what_was_never_delivered_or_is_settled_already_is_left_out() {
        let mut window = Window::default();
        assert_eq!(window.runs(&[0, 1, 1, 9], 2), [one(1)]);
        assert_eq!(window.runs(&[1], 2), []);
        assert_eq!(window.unsettled(2), 1);
    }

    /// The broker's side: a set of unacknowledged tags, and a closed channel on a tag it does not know.
    fn broker(unacked: &mut BTreeSet<u64>, ack: Ack) {
        assert!(unacked.contains(&ack.number), "unknown delivery tag {}", ack.number);
        if ack.multiple {
            unacked.retain(|&n| n > ack.number);
        } else {
            unacked.remove(&ack.number);
        }
    }

    proptest! {
        #[test]
        fn the_broker_ends_up_with_exactly_what_was_not_acknowledged(
            batches in proptest::collection::vec(proptest::collection::btree_set(0u64..80, 0..20), 0..20),
        ) {
            let delivered = 60;
            let mut unacked: BTreeSet<u64> = (1..=delivered).collect();
            let mut expected = unacked.clone();
            let mut window = Window::default();
            for batch in batches {
                let numbers: Vec<u64> = batch.iter().copied().collect();
                for ack in window.runs(&numbers, delivered) {
                    broker(&mut unacked, ack);
                }
                expected.retain(|n| !batch.contains(n));
                prop_assert_eq!(&unacked, &expected);
                prop_assert_eq!(window.unsettled(delivered), expected.len() as u64);
            }
        }
    }
}
