//! Which value of the ledger speaks last of a job: in memory, so that a job never heard of costs no read.
//!
//! Jobs are told apart by a 64-bit hash. Two jobs may share one; the index then points to the later of the two, and the reader,
//! who compares the whole job id, looks through the ledger for the other.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::ledger::StoredJob;

/// A job's hash, in two halves so that an entry takes 12 bytes, not 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u32; 2]);

impl Fingerprint {
    pub(super) fn of(job: StoredJob<'_>) -> Self {
        let hash = match job {
            // part of a SHA-256 is as good a hash as any
            StoredJob::Derived([a, b, c, d, e, f, g, h, ..]) => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            StoredJob::Given(text) => {
                let mut hasher = DefaultHasher::new();
                text.hash(&mut hasher);
                hasher.finish()
            }
        };
        Self([(hash >> 32) as u32, hash as u32])
    }
}

/// Tables an index is divided into: one that grows holds its old and its new slots at once, so none should be large.
const SHARDS: usize = 16;

/// Fingerprint to the number of the ledger value that spoke last of it.
#[derive(Debug, Default)]
pub(super) struct Index([Table; SHARDS]);

impl Index {
    pub(super) fn get(&self, fingerprint: Fingerprint) -> Option<u32> {
        self.0.get(shard(fingerprint))?.get(fingerprint)
    }

    pub(super) fn put(&mut self, fingerprint: Fingerprint, number: u32) {
        if let Some(table) = self.0.get_mut(shard(fingerprint)) {
            table.put(fingerprint, number);
        }
    }
}

/// Parts of each table that puts wait for.
const PARTS: usize = 16;

/// Puts that wait for a part.
const TOGETHER: usize = 256;

/// Fills an index from a ledger that is read. Puts to the same part of a table are done together, so that they find it in the
/// processor's cache: one by one, each would wait for memory, and a start with a million jobs would take half as long again.
#[derive(Debug, Default)]
pub(super) struct Filling {
    index: Index,
    waiting: Vec<Vec<(Fingerprint, u32)>>,
}

impl Filling {
    pub(super) fn put(&mut self, fingerprint: Fingerprint, number: u32) {
        if self.waiting.is_empty() {
            self.waiting.resize_with(SHARDS * PARTS, Vec::new);
        }
        // places within a table follow the other half
        let Fingerprint([_, low]) = fingerprint;
        let part = shard(fingerprint) * PARTS + (low >> (u32::BITS - PARTS.ilog2())) as usize;
        let Some(waiting) = self.waiting.get_mut(part) else { return };
        waiting.push((fingerprint, number));
        if waiting.len() >= TOGETHER {
            waiting.drain(..).for_each(|(fingerprint, number)| self.index.put(fingerprint, number));
        }
    }

    /// The index with all that was put; it begins again with none.
    pub(super) fn finish(&mut self) -> Index {
        for waiting in &mut self.waiting {
            waiting.drain(..).for_each(|(fingerprint, number)| self.index.put(fingerprint, number));
        }
        std::mem::take(&mut self.index)
    }
}

/// By the lowest bits of one half; within a table, the other half says where.
const fn shard(Fingerprint([high, _]): Fingerprint) -> usize {
    high as usize % SHARDS
}

/// A hash table that stays full: it grows by a quarter, where the standard library's doubles. An entry takes 14 to 18 bytes, not 15 to 30.
#[derive(Debug, Default)]
struct Table {
    /// Fingerprint and number plus one; a free slot has 0 there. An entry is in the first free slot from its own on, round the end.
    slots: Vec<[u32; 3]>,
    taken: usize,
}

impl Table {
    fn get(&self, fingerprint: Fingerprint) -> Option<u32> {
        let [_, _, number] = *self.slots.get(self.slot_of(fingerprint)?)?;
        number.checked_sub(1)
    }

    fn put(&mut self, fingerprint: Fingerprint, number: u32) {
        if self.taken * 20 >= self.slots.len() * 17 {
            self.grow();
        }
        // The writer uses up a ledger's numbers before the last.
        self.set(fingerprint, number.saturating_add(1));
    }

    fn set(&mut self, fingerprint: Fingerprint, marked: u32) {
        let Fingerprint([high, low]) = fingerprint;
        if let Some(slot) = self.slot_of(fingerprint).and_then(|at| self.slots.get_mut(at)) {
            self.taken += usize::from(matches!(slot, [_, _, 0]));
            *slot = [high, low, marked];
        }
    }

    /// Where the fingerprint is, or the free slot where it belongs. There is always a free one.
    fn slot_of(&self, Fingerprint([high, low]): Fingerprint) -> Option<usize> {
        let size = self.slots.len();
        let own = ((u64::from(low) * size as u64) >> 32) as usize;
        let (before, after) = (self.slots.get(..own)?, self.slots.get(own..)?);
        let here = |slot: &[u32; 3]| matches!(*slot, [_, _, 0]) || matches!(*slot, [h, l, _] if h == high && l == low);
        after.iter().position(here).map(|at| own + at).or_else(|| before.iter().position(here))
    }

    fn grow(&mut self) {
        let size = (self.slots.len() + self.slots.len() / 4).max(8);
        let mut larger = Self { slots: Vec::new(), taken: 0 };
        larger.slots.reserve_exact(size);
        larger.slots.resize(size, [0; 3]);
        for [high, low, marked] in std::mem::take(&mut self.slots) {
            if marked != 0 {
                larger.set(Fingerprint([high, low]), marked);
            }
        }
        *self = larger;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_map_would(puts in proptest::collection::vec((0_u64..300, any::<u64>(), 0_u32..u32::MAX), 0..2000)) {
            let (mut index, mut filling) = (Index::default(), Filling::default());
            let mut map = HashMap::new();
            for (few, many, number) in puts {
                // some that come again, some that share a slot, some from anywhere
                for hash in [few, few << 32, few * 0x0100_0000_0010, many] {
                    let fingerprint = Fingerprint([(hash >> 32) as u32, hash as u32]);
                    prop_assert_eq!(index.get(fingerprint), map.get(&hash).copied());
                    index.put(fingerprint, number);
                    filling.put(fingerprint, number);
                    map.insert(hash, number);
                }
            }
            let filled = filling.finish();
            for (hash, number) in map {
                let fingerprint = Fingerprint([(hash >> 32) as u32, hash as u32]);
                prop_assert_eq!((index.get(fingerprint), filled.get(fingerprint)), (Some(number), Some(number)));
                prop_assert_eq!(filling.finish().get(fingerprint), None);
            }
        }
    }

    #[test]
    fn jobs_of_either_form_are_spread_over_all_tables_and_take_little_room() {
        let mut index = Index::default();
        for number in 0..16_000 {
            let derived = Sha256::digest(number.to_string());
            for job in [StoredJob::Given(&number.to_string()), StoredJob::Derived(derived[..16].try_into().unwrap())] {
                index.put(Fingerprint::of(job), number);
            }
        }
        for table in &index.0 {
            assert!((1_800..2_200).contains(&table.taken), "{} of 2000", table.taken);
            let bytes = table.slots.capacity() * size_of::<[u32; 3]>();
            assert!(bytes <= 18 * table.taken, "{bytes} bytes for {} jobs", table.taken);
            let longest = table.slots.split(|&[_, _, marked]| marked == 0).map(<[_]>::len).max().unwrap();
            assert!(longest < table.taken / 4, "{longest} slots without a free one to end the search");
        }
    }
}
