//! Which value of the ledger speaks last of a job: in memory, so that a job never heard of costs no read.
//!
//! Jobs are told apart by 53 bits of a hash. Two jobs may share them (in a campaign of a million, with one chance in 18,000); the
//! index then points to the later of the two, and the reader, who compares the whole job id, looks through the ledger for the other.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::ledger::StoredJob;

/// What is kept of a job's hash: the highest bits choose a table, the others are in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

const KEPT_BITS: u32 = 48;
const KEPT: u64 = (1 << KEPT_BITS) - 1;

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

    const fn kept(self) -> u64 {
        self.0 & KEPT
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

    /// Puts what waits for one part of one table.
    fn take_in(&mut self, waiting: &mut Vec<(Fingerprint, u32)>) {
        let shard = waiting.first().map_or(0, |(fingerprint, _)| fingerprint.shard());
        let Some(table) = self.0.get_mut(shard) else { return };
        if table.is_full(waiting.len()) {
            table.resize(2 * (table.slots.len() + waiting.len()));
        }
        waiting.drain(..).for_each(|(fingerprint, number)| table.put(fingerprint, number));
    }
}

/// Parts of each table that puts wait for.
const PARTS: usize = 8;

/// Puts that wait for a part.
const TOGETHER: usize = 256;

/// Fills an index from a ledger that is read. Its tables double until all is in, and only then are made to fit. Puts to the same part
/// of a table are done together, so that they find it in the processor's cache: one by one, each would wait for memory, and a start
/// with a million jobs would take half as long again.
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
            self.index.take_in(waiting);
        }
    }

    /// The index with all that was put; it begins again with none.
    pub(super) fn finish(&mut self) -> Index {
        self.waiting.iter_mut().for_each(|waiting| self.index.take_in(waiting));
        let mut index = std::mem::take(&mut self.index);
        index.0.iter_mut().for_each(|table| table.resize(table.taken + table.taken / 4 + 1));
        index
    }
}

/// A hash table that stays full: it grows by an eighth, where the standard library's doubles. An entry takes 12 to 14 bytes.
#[derive(Debug, Default)]
struct Table {
    /// An entry is in the first free slot from its own place on, round the end.
    slots: Vec<Slot>,
    taken: usize,
}

/// What is kept of a fingerprint, then the number plus one, which is 0 in a free slot: ten bytes without a gap.
#[derive(Debug, Clone, Copy)]
struct Slot([u8; 10]);

impl Slot {
    const FREE: Self = Self([0; 10]);

    const fn new(kept: u64, marked: u32) -> Self {
        let ([a, b, c, d, e, f, _, _], [g, h, i, j]) = (kept.to_le_bytes(), marked.to_le_bytes());
        Self([a, b, c, d, e, f, g, h, i, j])
    }

    const fn kept(self) -> u64 {
        let [a, b, c, d, e, f, g, h, _, _] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h]) & KEPT
    }

    const fn marked(self) -> u32 {
        let [.., g, h, i, j] = self.0;
        u32::from_le_bytes([g, h, i, j])
    }
}

impl Table {
    fn get(&self, fingerprint: Fingerprint) -> Option<u32> {
        self.slots.get(self.slot_of(fingerprint)?)?.marked().checked_sub(1)
    }

    fn put(&mut self, fingerprint: Fingerprint, number: u32) {
        if self.is_full(1) {
            self.resize(self.slots.len() + (self.slots.len() / 8).max(8));
        }
        // The writer uses up a ledger's numbers before the last.
        self.set(fingerprint, number.saturating_add(1));
    }

    /// It must grow before it takes in `more`.
    const fn is_full(&self, more: usize) -> bool {
        (self.taken + more) * 20 > self.slots.len() * 17
    }

    fn set(&mut self, fingerprint: Fingerprint, marked: u32) {
        if let Some(slot) = self.slot_of(fingerprint).and_then(|at| self.slots.get_mut(at)) {
            self.taken += usize::from(slot.marked() == 0);
            *slot = Slot::new(fingerprint.kept(), marked);
        }
    }

    /// Where the fingerprint is, or the free slot where it belongs. There is always a free one.
    fn slot_of(&self, fingerprint: Fingerprint) -> Option<usize> {
        let own = ((u64::from(fingerprint.place()) * self.slots.len() as u64) >> 32) as usize;
        let kept = fingerprint.kept();
        let (before, after) = (self.slots.get(..own)?, self.slots.get(own..)?);
        let here = |slot: &Slot| slot.marked() == 0 || slot.kept() == kept;
        after.iter().position(here).map(|at| own + at).or_else(|| before.iter().position(here))
    }

    /// Makes it of this size, which all that is in it must leave slots free of.
    fn resize(&mut self, size: usize) {
        let mut other = Self { slots: Vec::new(), taken: 0 };
        other.slots.reserve_exact(size);
        other.slots.resize(size, Slot::FREE);
        for slot in std::mem::take(&mut self.slots) {
            if slot.marked() != 0 {
                other.set(Fingerprint(slot.kept()), slot.marked()); // in a table all are of one shard
            }
        }
        *self = other;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

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
            let longest = table.slots.split(|slot| slot.marked() == 0).map(<[_]>::len).max().unwrap();
            assert!(longest < table.taken / 4, "{longest} slots without a free one to end the search");
        }
    }

    #[test]
    fn a_fingerprint_lies_in_its_table_where_it_lies_among_all() {
        let place = |kept: u64| Fingerprint::of_hash(kept).place();
        assert_eq!([0, KEPT / 2 + 1, KEPT].map(place), [0, 1 << 31, u32::MAX]);
    }

    /// Of one table, each in its own place.
    fn some() -> impl Iterator<Item = (Fingerprint, u32)> {
        (0..).map(|n| (Fingerprint::of_hash(u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15) & KEPT), n))
    }

    #[test]
    fn an_index_that_is_filled_grows_seldom_and_takes_little_room_in_the_end() {
        for most in [1, 2, 3, 4, 10_000] {
            let mut filling = Filling::default();
            let mut sizes = BTreeSet::new();
            for (fingerprint, number) in some().take(most) {
                filling.put(fingerprint, number);
                let table = &filling.index.0[0];
                assert_eq!(table.taken % TOGETHER, 0, "puts to a part are done together");
                assert!(table.slots.len() <= 4 * (table.taken + TOGETHER), "{} for {}", table.slots.len(), table.taken);
                sizes.insert(table.slots.len());
            }
            assert!(sizes.len() < 8, "{sizes:?}");
            let table = &filling.finish().0[0];
            assert_eq!(table.taken, most);
            let room = table.slots.capacity();
            assert!(!table.is_full(0) && room <= most * 5 / 4 + 1, "{room} for {most}");
        }
    }

    #[test]
    fn a_table_grows_seldom_though_by_little() {
        let mut index = Index::default();
        let sizes: BTreeSet<usize> = some()
            .take(10_000)
            .map(|(fingerprint, number)| {
                index.put(fingerprint, number);
                index.0[0].slots.len()
            })
            .collect();
        assert!(sizes.len() < 70, "{sizes:?}");
        let table = Table { slots: vec![Slot::FREE; 20], taken: 16 };
        assert!(!table.is_full(1) && table.is_full(2), "three in twenty stay free");
    }
}
