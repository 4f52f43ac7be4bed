//! What the clients ask for: generated, or replayed from a trace.

mod generate;
mod zipf;

pub(crate) use generate::{Generator, Settings};
pub(crate) use zipf::Zipf;

use crate::trace::Trace;

/// One request of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) write: bool,
}

/// A numbered row of requests, the same for every scenario.
#[derive(Debug)]
pub(crate) enum Workload {
    Generated(Generator),
    Trace(Trace),
}

impl Workload {
    /// The n-th request; `None` after the last.
    pub(crate) fn request(&self, n: u64) -> Option<Request> {
        match self {
            Self::Generated(generator) => Some(generator.request(n)),
            Self::Trace(trace) => trace.request(n),
        }
    }

    /// How many products there are; their ids begin at 0.
    pub(crate) fn products(&self) -> u64 {
        match self {
            Self::Generated(generator) => generator.settings().products,
            Self::Trace(trace) => trace.distinct_keys(),
        }
    }

    /// All ids that are asked for are below this.
    pub(crate) fn ids(&self) -> u64 {
        match self {
            Self::Generated(generator) => {
                generator.settings().products + generator.settings().missing_ids()
            }
            Self::Trace(trace) => trace.distinct_keys(),
        }
    }

    /// How many requests there are, if they end.
    pub(crate) fn len(&self) -> Option<u64> {
        match self {
            Self::Generated(_) => None,
            Self::Trace(trace) => Some(trace.len()),
        }
    }

    /// One sentence for the report.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Generated(generator) => {
                let of = generator.settings();
                format!(
                    "Generated with seed {}: {} products, popularity by Zipf's law with exponent {}, {} % writes, \
                     {} % of the reads for products that do not exist, other products popular after every {} requests.",
                    of.seed,
                    of.products,
                    of.zipf,
                    percent(of.writes),
                    percent(of.missing),
                    of.shift_every
                )
            }
            Self::Trace(trace) => trace.describe(),
        }
    }
}

fn percent(share: f64) -> f64 {
    (share * 10_000.0).round() / 100.0
}
