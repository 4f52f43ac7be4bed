//! Zipf's law: the product of rank r is asked for 1 / r^s as often as the first.

/// Draws ranks by Zipf's law, exactly, from a table of cumulated shares.
#[derive(Debug)]
pub(crate) struct Zipf {
    cumulated: Vec<f64>,
}

impl Zipf {
    /// The law over `ranks` ranks (at least one) with the exponent `s`; 0 is uniform.
    pub(crate) fn new(ranks: u64, s: f64) -> Self {
        let mut total = 0.0;
        let mut cumulated: Vec<f64> = (1..=ranks.max(1))
            .map(|rank| {
                total += (rank as f64).powf(-s);
                total
            })
            .collect();
        for share in &mut cumulated {
            *share /= total;
        }
        Self { cumulated }
    }

    /// The rank, counted from 0, that a uniform number in `0.0..1.0` stands for.
    pub(crate) fn rank(&self, uniform: f64) -> u64 {
        let rank = self.cumulated.partition_point(|&share| share <= uniform);
        rank.min(self.cumulated.len() - 1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ranks_have_the_share_that_the_law_gives_them() {
        let zipf = Zipf::new(10_000, 0.99);
        let mut rng = fastrand::Rng::with_seed(1);
        let draws = 200_000;
        let ranks: Vec<u64> = (0..draws).map(|_| zipf.rank(rng.f64())).collect();
        let share =
            |below| ranks.iter().filter(|&&rank| rank < below).count() as f64 / f64::from(draws);
        let law = |below: u32| {
            let weight = |ranks| (1..=ranks).map(|r| f64::from(r).powf(-0.99)).sum::<f64>();
            weight(below) / weight(10_000)
        };
        for below in [1, 10, 100, 1_000, 5_000] {
            let (drawn, expected) = (share(u64::from(below)), law(below));
            assert!(
                (drawn - expected).abs() < 0.01,
                "first {below}: {drawn}, not {expected}"
            );
        }
    }

    #[test]
    fn every_draw_is_a_rank() {
        let zipf = Zipf::new(3, 1.2);
        assert_eq!(zipf.rank(0.0), 0);
        assert_eq!(zipf.rank(0.999_999_999_999), 2);
        assert_eq!(zipf.rank(1.0), 2);
        assert_eq!(Zipf::new(0, 1.0).rank(0.5), 0);
    }
}
