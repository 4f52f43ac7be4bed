//! What the cache costs: the parts of the benchmarks, which the crate of the peers uses as well.

#![allow(
    clippy::missing_panics_doc,
    reason = "a benchmark in which something goes wrong is to end"
)]

pub mod apart;
pub mod callgrind;
pub mod chart;
pub mod codecs;
pub mod hit;
pub mod hit_rate;
pub mod keys;
pub mod machine;
pub mod measure;
pub mod redis;
pub mod report;
pub mod results;
pub mod run;
pub mod scale;
pub mod stampede;
pub mod traces;
pub mod write_behind;
