//! Numbers that nobody else has.

use std::hash::{BuildHasher, RandomState};
use std::process;
use std::time::SystemTime;

/// A number that no other process draws, also not a copy of this one: of a fork, or of a machine that was restored from a snapshot.
///
/// The operating system is asked each time, because whatever generates numbers in the process is copied with it, and who
/// looks at the process id each time, to notice a fork, makes a system call as well and does not notice a snapshot. It takes less than
/// a microsecond, and what these numbers are for goes over a network.
pub(crate) fn unique() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        // A system that has none to give now. This much differs between processes.
        RandomState::new().hash_one((process::id(), SystemTime::now(), fastrand::u64(..)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_process_draws_other_numbers() {
        // A fork copies the state of the generator.
        let draw = || {
            fastrand::seed(7);
            unique()
        };
        assert_ne!(draw(), draw());
    }
}
