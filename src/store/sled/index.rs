//! Which value of the ledger speaks last of a job: in memory, so that a job never heard of costs no read.
//!
//! Jobs are told apart by 53 bits of a hash. Two jobs may share them (in a campaign of a million, with one chance in 18,000); the
//! index then points to the later of the two, and the reader, who compares the whole job id, looks through the ledger for the other.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::ledger::StoredJob;

/// What is kept of a job's hash: the highest bits choose a table, the others are in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

const KEPT_BYTES: usize = 6;
const KEPT_BITS: u32 = 8 * KEPT_BYTES as u32;

impl Fingerprint {
    pub(super) fn of(job: StoredJob<'_>) -> Self {
        Self::of_hash(match job {
            // part of a SHA-256 is as good a hash as any
            StoredJob::Derived([a, b, c, d, e, f, g, h, ..]) => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            StoredJob::Given(text) => {
                let mut hasher = DefaultHasher::new();
                text.hash(&mut hasher);
                hasher.finish()
            }
        })
    }

    const fn of_hash(hash: u64) -> Self {
        Self(hash & (((SHARDS as u64) << KEPT_BITS) - 1))
    }

    const fn shard(self) -> usize {
        (self.0 >> KEPT_BITS) as usize
    }

    /// Where it lies between the first (0) and the last of its table.
    const fn place(self) -> u32 {
        (self.0 >> (KEPT_BITS - u32::BITS)) as u32
    }

    const fn kept(self) -> [u8; KEPT_BYTES] {
        let [a, b, c, d, e, f, ..] = self.0.to_le_bytes();
        [a, b, c, d, e, f]
    }
}

/// Tables an index is divided into: one that grows holds its old and its new slots at once, so none should be large.
const SHARDS: usize = 32;

/// Fingerprint to the number of the ledger value that spoke last of it.
#[derive(Debug, Default)]
pub(super) struct Index([Table; SHARDS]);

impl Index {
    pub(super) fn get(&self, fingerprint: Fingerprint) -> Option<u32> {
        self.0.get(fingerprint.shard())?.get(fingerprint)
    }

    pub(super) fn put(&mut self, fingerprint: Fingerprint, number: u32) {
        if let Some(table) = self.0.get_mut(fingerprint.shard()) {
            table.put(fingerprint, number);
        }
    }
}

/// Parts of each table that puts wait for.
const PARTS: usize = 8;

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
        let part = fingerprint.shard() * PARTS + (fingerprint.place() >> (u32::BITS - PARTS.ilog2())) as usize;
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

/// A hash table that stays full: it grows by an eighth, where the standard library's doubles. An entry takes 12 to 14 bytes.
#[derive(Debug, Default)]
struct Table {
    /// An entry is in the first free slot from its own place on, round the end.
    slots: Vec<Slot>,
    taken: usize,
}

/// Ten bytes without a gap.
#[derive(Debug, Clone, Copy)]
struct Slot {
    kept: [u8; KEPT_BYTES],
    /// The number plus one; 0 in a free slot.
    marked: [u8; 4],
}

impl Slot {
    const FREE: Self = Self { kept: [0; KEPT_BYTES], marked: [0; 4] };

    const fn is_free(&self) -> bool {
        u32::from_le_bytes(self.marked) == 0
    }
}

impl Table {
    fn get(&self, fingerprint: Fingerprint) -> Option<u32> {
        let slot = self.slots.get(self.slot_of(fingerprint)?)?;
        u32::from_le_bytes(slot.marked).checked_sub(1)
    }

    fn put(&mut self, fingerprint: Fingerprint, number: u32) {
        if self.taken * 20 >= self.slots.len() * 17 {
            self.grow(fingerprint.shard());
        }
        // The writer uses up a ledger's numbers before the last.
        self.set(fingerprint, number.saturating_add(1).to_le_bytes());
    }

    fn set(&mut self, fingerprint: Fingerprint, marked: [u8; 4]) {
        if let Some(slot) = self.slot_of(fingerprint).and_then(|at| self.slots.get_mut(at)) {
            self.taken += usize::from(slot.is_free());
            *slot = Slot { kept: fingerprint.kept(), marked };
        }
    }

    /// Where the fingerprint is, or the free slot where it belongs. There is always a free one.
    fn slot_of(&self, fingerprint: Fingerprint) -> Option<usize> {
        let own = ((u64::from(fingerprint.place()) * self.slots.len() as u64) >> 32) as usize;
        let kept = fingerprint.kept();
        let (before, after) = (self.slots.get(..own)?, self.slots.get(own..)?);
        let here = |slot: &Slot| slot.is_free() || slot.kept == kept;
        after.iter().position(here).map(|at| own + at).or_else(|| before.iter().position(here))
    }

    fn grow(&mut self, shard: usize) {
        let size = self.slots.len() + (self.slots.len() / 8).max(8);
        let mut larger = Self { slots: Vec::new(), taken: 0 };
        larger.slots.reserve_exact(size);
        larger.slots.resize(size, Slot::FREE);
        for Slot { kept: [a, b, c, d, e, f], marked } in std::mem::take(&mut self.slots) {
            if marked != [0; 4] {
                let kept = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
                larger.set(Fingerprint((shard as u64) << KEPT_BITS | kept), marked);
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
                    let fingerprint = Fingerprint::of_hash(hash);
                    prop_assert_eq!(index.get(fingerprint), map.get(&fingerprint.0).copied());
                    index.put(fingerprint, number);
                    filling.put(fingerprint, number);
                    map.insert(fingerprint.0, number);
                }
            }
            let filled = filling.finish();
            for (kept, number) in map {
                let fingerprint = Fingerprint(kept);
                prop_assert_eq!((index.get(fingerprint), filled.get(fingerprint)), (Some(number), Some(number)));
                prop_assert_eq!(filling.finish().get(fingerprint), None);
            }
        }
    }

    #[test]
    fn jobs_of_either_form_are_spread_over_all_tables_and_take_little_room() {
        let mut index = Index::default();
        for number in 0..32_000 {
            let derived = Sha256::digest(number.to_string());
            for job in [StoredJob::Given(&number.to_string()), StoredJob::Derived(derived[..16].try_into().unwrap())] {
                index.put(Fingerprint::of(job), number);
            }
        }
        for table in &index.0 {
            assert!((1_800..2_200).contains(&table.taken), "{} of 2000", table.taken);
            let bytes = table.slots.capacity() * size_of::<Slot>();
            assert!(bytes <= 14 * table.taken, "{bytes} bytes for {} jobs", table.taken);
            let longest = table.slots.split(Slot::is_free).map(<[_]>::len).max().unwrap();
            assert!(longest < table.taken / 4, "{longest} slots without a free one to end the search");
        }
    }
}
