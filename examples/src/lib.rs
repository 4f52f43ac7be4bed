//! One runnable file for each question that a user asks: `cargo run -p cache-examples --example quick_start`.

/// Runs what the README shows.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
