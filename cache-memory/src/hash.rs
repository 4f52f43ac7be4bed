use std::hash::{BuildHasher, Hasher};

use foldhash::quality::{FoldHasher, RandomState};

/// Hashes one string, seeded at random.
///
/// `str` ends its hash with a byte that keeps strings in a row apart. A key is alone, and that byte
/// costs as much as four others. The fast variant of the hash spreads badly with some seeds.
#[derive(Clone, Default)]
pub(crate) struct KeyHash(RandomState);

impl BuildHasher for KeyHash {
    type Hasher = KeyHasher;

    #[inline]
    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(self.0.build_hasher())
    }
}

pub(crate) struct KeyHasher(FoldHasher<'static>);

impl Hasher for KeyHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    #[inline]
    fn write_u8(&mut self, _end_of_string: u8) {}

    #[inline]
    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn similar_keys_spread_over_shards_and_buckets_whatever_the_seed() {
        for hash in (0..50).map(|_| KeyHash::default()) {
            // What the engines look at: the low bits, the middle, and the highest seven.
            for shift in [0, 32, 57] {
                let mut buckets = [0; 64];
                for key in (0..10_000).map(|i| format!("user:{i}")) {
                    buckets[(hash.hash_one(&*key) >> shift) as usize % 64] += 1;
                }
                // The mean is 156, and these are seven standard deviations to either side.
                let (least, most) = (buckets.iter().min(), buckets.iter().max());
                assert!(least > Some(&70) && most < Some(&250), "{least:?} to {most:?}");
            }
        }
    }

    #[test]
    fn keys_that_differ_in_length_only_hash_apart() {
        let hash = KeyHash::default();
        let zeros = "\0".repeat(64);
        let hashes: HashSet<u64> = (0..64).map(|len| hash.hash_one(&zeros[..len])).collect();
        assert_eq!(hashes.len(), 64);
    }
}
