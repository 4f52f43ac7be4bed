//! The keys, the values, and the order in which keys are asked for.

use std::sync::Arc;

/// About 200 bytes, as many cached values are.
#[derive(Clone, Debug)]
pub struct Value(pub [u8; 200]);

/// What is stored under a key.
#[must_use]
pub fn value() -> Arc<Value> {
    Arc::new(Value([7; 200]))
}

/// The key with this number: 21 bytes.
#[must_use]
pub fn spell(key: u64) -> String {
    format!("user:profile:{key:08}")
}

/// Keys in the order in which they are asked for, the same for everybody, as strings and as integers.
#[derive(Debug)]
pub struct Order {
    /// As [`spell`] has them. They are not those that are stored, but equal to them.
    pub strings: Vec<String>,
    /// The numbers.
    pub integers: Vec<u64>,
}

impl Order {
    /// `requests` of `keys` keys, the popular ones by Zipf's law with exponent 0.99.
    #[must_use]
    pub fn zipf(keys: usize, requests: usize) -> Self {
        let zipf = Zipf::new(keys, 0.99, 7);
        let mut random = fastrand::Rng::with_seed(11);
        Self::of((0..requests).map(|_| zipf.draw(&mut random)).collect())
    }

    /// `requests` of `keys` keys, all equally popular.
    #[must_use]
    pub fn uniform(keys: usize, requests: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(11);
        Self::of((0..requests).map(|_| random.u64(0..keys as u64)).collect())
    }

    fn of(integers: Vec<u64>) -> Self {
        Self { strings: integers.iter().map(|key| spell(*key)).collect(), integers }
    }
}

/// Draws keys by Zipf's law. Which of them are popular is random.
#[derive(Debug)]
pub struct Zipf {
    sums: Vec<f64>,
    keys: Vec<u64>,
}

impl Zipf {
    /// The law over `keys` keys.
    #[must_use]
    pub fn new(keys: usize, exponent: f64, seed: u64) -> Self {
        let mut shuffled: Vec<u64> = (0..keys as u64).collect();
        fastrand::Rng::with_seed(seed).shuffle(&mut shuffled);
        let mut sum = 0.0;
        let add = |rank: usize| {
            sum += (rank as f64).powf(-exponent);
            sum
        };
        Self { sums: (1..=keys).map(add).collect(), keys: shuffled }
    }

    /// The next key.
    pub fn draw(&self, random: &mut fastrand::Rng) -> u64 {
        let drawn = random.f64() * self.sums.last().copied().unwrap_or(0.0);
        self.keys[self.sums.partition_point(|sum| *sum < drawn).min(self.keys.len() - 1)]
    }
}
