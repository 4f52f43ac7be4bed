//! The generated workload: what the clients of a shop ask for.

use fastrand::Rng;

use super::{Request, Zipf};

/// Makes the n-th request from `n` and the seed alone, so that every scenario is asked the same.
#[derive(Debug)]
pub(crate) struct Generator {
    settings: Settings,
    zipf: Zipf,
    /// Spreads the ranks over the ids: popular products are not neighbours.
    stride: u64,
}

/// The shape of a generated workload.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    /// Products that exist, with the ids from 0.
    pub(crate) products: u64,
    /// The exponent of Zipf's law.
    pub(crate) zipf: f64,
    /// The share of requests that are writes.
    pub(crate) writes: f64,
    /// The share of reads that ask for an id that does not exist.
    pub(crate) missing: f64,
    /// After so many requests other products are the popular ones.
    pub(crate) shift_every: u64,
}

impl Settings {
    /// How many different ids that do not exist are asked for.
    pub(crate) fn missing_ids(&self) -> u64 {
        (self.products / 100).max(1)
    }
}

impl Generator {
    pub(crate) fn new(settings: Settings) -> Self {
        let zipf = Zipf::new(settings.products, settings.zipf);
        let stride = (7_919..)
            .find(|&stride| gcd(stride, settings.products) == 1)
            .unwrap_or(1);
        Self {
            settings,
            zipf,
            stride,
        }
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The n-th request.
    pub(crate) fn request(&self, n: u64) -> Request {
        let of = &self.settings;
        let mut rng = Rng::with_seed(of.seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let write = rng.f64() < of.writes;
        if !write && rng.f64() < of.missing {
            return Request {
                id: of.products + rng.u64(..of.missing_ids()),
                write,
            };
        }
        let moved = n / of.shift_every * (of.products / 7 + 1);
        let rank = self.zipf.rank(rng.f64()) + moved;
        Request {
            id: rank % of.products * self.stride % of.products,
            write,
        }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn settings(seed: u64) -> Settings {
        Settings {
            seed,
            products: 1_000,
            zipf: 0.99,
            writes: 0.05,
            missing: 0.02,
            shift_every: 10_000,
        }
    }

    fn requests(seed: u64, range: std::ops::Range<u64>) -> Vec<(u64, bool)> {
        let generator = Generator::new(settings(seed));
        range
            .map(|n| generator.request(n))
            .map(|r| (r.id, r.write))
            .collect()
    }

    fn most_popular(requests: &[(u64, bool)]) -> u64 {
        let mut counts = HashMap::new();
        for (id, _) in requests {
            *counts.entry(*id).or_insert(0) += 1;
        }
        counts
            .into_iter()
            .max_by_key(|&(_, count)| count)
            .unwrap()
            .0
    }

    #[test]
    fn the_same_seed_makes_the_same_requests() {
        assert_eq!(requests(7, 0..5_000), requests(7, 0..5_000));
        assert_ne!(requests(7, 0..5_000), requests(8, 0..5_000));
    }

    #[test]
    fn writes_and_reads_of_nothing_have_their_shares() {
        let requests = requests(1, 0..100_000);
        let share = |of: &dyn Fn(&(u64, bool)) -> bool| {
            requests.iter().filter(|r| of(r)).count() as f64 / requests.len() as f64
        };
        assert!((share(&|r| r.1) - 0.05).abs() < 0.005);
        assert!((share(&|r| r.0 >= 1_000) - 0.95 * 0.02).abs() < 0.005);
        assert!(
            requests
                .iter()
                .all(|&(id, write)| id < 1_000 || (!write && id < 1_010))
        );
    }

    #[test]
    fn the_hot_set_moves_during_the_run() {
        let (first, second) = (requests(1, 0..10_000), requests(1, 10_000..20_000));
        assert_ne!(most_popular(&first), most_popular(&second));
        assert_eq!(most_popular(&first), most_popular(&requests(2, 0..10_000)));
    }

    #[test]
    fn every_rank_is_another_product() {
        for products in [1, 2, 7_919, 10_000] {
            let generator = Generator::new(Settings {
                products,
                ..settings(1)
            });
            let spread = |rank| rank * generator.stride % products;
            let ids: HashSet<u64> = (0..products).map(spread).collect();
            assert_eq!(ids.len() as u64, products);
        }
    }
}
