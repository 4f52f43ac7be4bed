use std::hash::{BuildHasher, Hash, Hasher};
#[cfg(feature = "quick-cache")]
use std::marker::PhantomData;

use foldhash::SharedSeed;
use foldhash::quality::{FoldHasher, RandomState};
#[cfg(feature = "quick-cache")]
use smol_str::SmolStr;

/// Hashes one string, seeded at random.
///
/// `str` ends its hash with a byte that keeps strings in a row apart. A key is alone, and that byte
/// costs as much as four others. The fast variant of the hash spreads badly with some seeds.
///
/// Keys of 16 to 32 bytes, which are most, are hashed without a call.
#[derive(Clone)]
pub(crate) struct KeyHash {
    seed: u64,
    seeds: &'static SharedSeed,
}

impl Default for KeyHash {
    fn default() -> Self {
        Self { seed: RandomState::default().hash_one(0), seeds: SharedSeed::global_random() }
    }
}

impl BuildHasher for KeyHash {
    type Hasher = KeyHasher;

    #[inline]
    fn build_hasher(&self) -> KeyHasher {
        KeyHasher { state: self.clone(), hash: 0 }
    }

    // As it is by default, but always inlined: it is a large part of a hit.
    #[allow(clippy::manual_hash_one, reason = "this is it")]
    #[inline(always)]
    fn hash_one<T: Hash>(&self, key: T) -> u64 {
        let mut hasher = self.build_hasher();
        key.hash(&mut hasher);
        hasher.finish()
    }
}

pub(crate) struct KeyHasher {
    state: KeyHash,
    hash: u64,
}

impl Hasher for KeyHasher {
    #[inline]
    fn write(&mut self, key: &[u8]) {
        let KeyHash { seed, seeds } = self.state;
        self.hash = match ends(key) {
            Some((first, last)) => {
                // The two may overlap, so the length is part of the seed.
                let mut hasher = FoldHasher::with_seed(seed.rotate_left(key.len() as u32), seeds);
                hasher.write_u128(first);
                hasher.write_u128(last);
                hasher.finish()
            }
            None => {
                let mut hasher = FoldHasher::with_seed(seed, seeds);
                hasher.write(key);
                hasher.finish()
            }
        };
    }

    #[inline]
    fn write_u8(&mut self, _end_of_string: u8) {}

    #[inline]
    fn finish(&self) -> u64 {
        self.hash
    }
}

/// A key that is looked up. It hashes as a `str` does.
#[cfg(feature = "quick-cache")]
pub(crate) struct Sought<'a, Caller>(pub(crate) &'a str, pub(crate) PhantomData<fn(Caller)>);

#[cfg(feature = "quick-cache")]
impl<Caller> Hash for Sought<'_, Caller> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0.as_bytes());
    }
}

#[cfg(feature = "quick-cache")]
impl<Caller> quick_cache::Equivalent<SmolStr> for Sought<'_, Caller> {
    #[inline]
    fn equivalent(&self, key: &SmolStr) -> bool {
        same(self.0.as_bytes(), key.as_bytes())
    }
}

/// Whether two keys are the same, without a call for those of 4 to 32 bytes.
#[cfg(feature = "quick-cache")]
#[inline]
fn same(one: &[u8], other: &[u8]) -> bool {
    /// Keys of `N` to twice as many bytes are the same if they begin and end with the same `N`.
    #[inline(always)]
    fn ends<const N: usize>(one: &[u8], other: &[u8]) -> bool {
        one.first_chunk::<N>() == other.first_chunk() && one.last_chunk::<N>() == other.last_chunk()
    }
    one.len() == other.len()
        && match one.len() {
            16..=32 => ends::<16>(one, other),
            8..16 => ends::<8>(one, other),
            4..8 => ends::<4>(one, other),
            _ => one == other,
        }
}

/// The first and the last 16 bytes of 16 to 32: all of them.
///
/// Hashing these takes no call and no loop.
#[inline]
fn ends(bytes: &[u8]) -> Option<(u128, u128)> {
    if bytes.len() > 32 {
        return None;
    }
    let first = u128::from_ne_bytes(*bytes.first_chunk()?);
    let last = u128::from_ne_bytes(*bytes.last_chunk()?);
    Some((first, last))
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
                for width in [1, 8, 16, 30] {
                    let mut buckets = [0; 64];
                    for key in (0..10_000).map(|i| format!("user:{i:0width$}")) {
                        buckets[(hash.hash_one(&*key) >> shift) as usize % 64] += 1;
                    }
                    // The mean is 156, and these are seven standard deviations to either side.
                    let (least, most) = (buckets.iter().min(), buckets.iter().max());
                    assert!(least > Some(&70) && most < Some(&250), "{least:?} to {most:?}");
                }
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

    #[test]
    #[cfg(feature = "quick-cache")]
    fn a_key_is_found_by_itself_and_by_no_key_that_differs_in_one_byte_or_in_length() {
        use quick_cache::Equivalent;

        let hash = KeyHash::default();
        let alphabet = "abcdefghijklmnopqrstuvwxyz0123456789".repeat(2);
        for len in 0..72 {
            let key = &alphabet[..len];
            let sought = Sought::<()>(key, PhantomData);
            assert!(sought.equivalent(&SmolStr::new(key)));
            assert_eq!(hash.hash_one(&sought), hash.hash_one(SmolStr::new(key)));
            for at in 0..len {
                let other = format!("{}-{}", &key[..at], &key[at + 1..]);
                assert!(!sought.equivalent(&SmolStr::new(&other)), "{key:?}, {other:?}");
                assert!(!sought.equivalent(&SmolStr::new(&key[..at])));
                assert!(!Sought::<()>(&key[..at], PhantomData).equivalent(&SmolStr::new(key)));
            }
        }
    }
}
