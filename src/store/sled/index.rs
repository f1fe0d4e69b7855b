//! Which value of the ledger speaks last of a job: in memory, so that a job never heard of costs no read.
//!
//! Jobs are told apart by a 64-bit hash. Two jobs may share one; the index then points to the later of the two, and the reader,
//! who compares the whole job id, looks through the ledger for the other.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};

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

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [high, low] = self.0;
        state.write_u64(u64::from(high) << 32 | u64::from(low));
    }
}

/// A fingerprint is a hash already.
#[derive(Debug, Default)]
pub(super) struct Unhashed(u64);

impl Hasher for Unhashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// Maps an index is divided into: a map that grows holds its old and its new table at once, so none should be large.
const SHARDS: usize = 16;

/// Fingerprint to the number of the ledger value that spoke last of it.
#[derive(Debug, Default)]
pub(super) struct Index([HashMap<Fingerprint, u32, BuildHasherDefault<Unhashed>>; SHARDS]);

impl Index {
    pub(super) fn get(&self, fingerprint: Fingerprint) -> Option<u32> {
        self.0.get(shard(fingerprint))?.get(&fingerprint).copied()
    }

    pub(super) fn put(&mut self, fingerprint: Fingerprint, number: u32) {
        if let Some(map) = self.0.get_mut(shard(fingerprint)) {
            map.insert(fingerprint, number);
        }
    }
}

/// By bits from the middle of the hash: within a map, the lowest and the highest tell entries apart.
const fn shard(Fingerprint([high, _]): Fingerprint) -> usize {
    high as usize % SHARDS
}
