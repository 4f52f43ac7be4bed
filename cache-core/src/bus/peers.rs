//! What is known of other publishers.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::message::{Body, Message};
use crate::Resync;

/// Of more publishers than that nobody keeps track.
const MOST: usize = 4096;

/// A publisher is silent after so many heartbeats that did not come.
const BEATS: u32 = 4;

/// However often it says that it beats.
const SILENCE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

#[derive(Debug, Default)]
pub(super) struct Peers(HashMap<u64, Peer>);

#[derive(Debug)]
struct Peer {
    /// The number of its last change.
    last: u64,
    heard: Instant,
    silent_after: Duration,
}

/// What the number of a message tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Nothing is missing.
    Complete,
    /// Something may be missing: so many messages, if that is known.
    Missing(Resync, u64),
}

impl Peers {
    /// Takes note of a message's number.
    pub(super) fn heard(&mut self, message: &Message, now: Instant) -> Told {
        let Message { publisher, number, body } = message;
        if *body == Body::End {
            let known = self.0.remove(publisher);
            return known.map_or(Told::Complete, |peer| peer.missing(*number));
        }
        // A change has the number itself; a heartbeat says that all up to there have been sent.
        let before =
            if matches!(body, Body::Heartbeat { .. }) { *number } else { number.saturating_sub(1) };
        let Some(peer) = self.0.get_mut(publisher) else {
            let crowded = self.0.len() >= MOST;
            if crowded {
                self.0.clear();
            }
            let silent_after = SILENCE.1;
            let mut peer = Peer { last: *number, heard: now, silent_after };
            peer.beats(body);
            self.0.insert(*publisher, peer);
            let from_the_first = before == 0 && !crowded;
            return if from_the_first {
                Told::Complete
            } else {
                Told::Missing(Resync::Newcomer, 0)
            };
        };
        peer.heard = now;
        peer.beats(body);
        let told = peer.missing(before);
        peer.last = peer.last.max(*number);
        told
    }

    /// Forgets those who have been silent for too long, and says whether there were any.
    pub(super) fn silent(&mut self, now: Instant) -> bool {
        let before = self.0.len();
        self.0.retain(|_, peer| now.saturating_duration_since(peer.heard) < peer.silent_after);
        self.0.len() < before
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Peer {
    /// Whether changes up to this number are missing.
    fn missing(&self, up_to: u64) -> Told {
        match up_to.saturating_sub(self.last) {
            0 => Told::Complete,
            missing => Told::Missing(Resync::Hole, missing),
        }
    }

    fn beats(&mut self, body: &Body) {
        if let Body::Heartbeat { every, .. } = body {
            self.silent_after = every.saturating_mul(BEATS).clamp(SILENCE.0, SILENCE.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Change;

    const EVERY: Duration = Duration::from_secs(1);

    fn change(number: u64) -> Message {
        Message { publisher: 1, number, body: Body::Change(Change::Clear) }
    }

    fn beat(number: u64) -> Message {
        Message { publisher: 1, number, body: Body::Heartbeat { beat: 9, every: EVERY } }
    }

    fn told(messages: &[Message]) -> Vec<Told> {
        let (mut peers, now) = (Peers::default(), Instant::now());
        messages.iter().map(|message| peers.heard(message, now)).collect()
    }

    const COMPLETE: Told = Told::Complete;
    const NEW: Told = Told::Missing(Resync::Newcomer, 0);

    fn hole(missing: u64) -> Told {
        Told::Missing(Resync::Hole, missing)
    }

    #[test]
    fn from_the_first_message_on_nothing_is_missing() {
        assert_eq!(told(&[beat(0), change(1), beat(1), change(2), change(3)]), [COMPLETE; 5]);
        assert_eq!(told(&[change(1), change(2)]), [COMPLETE; 2]);
    }

    #[test]
    fn a_change_that_is_left_out_is_missing() {
        assert_eq!(told(&[beat(0), change(2)]), [COMPLETE, hole(1)]);
        assert_eq!(told(&[beat(0), change(1), change(5), change(6)])[2..], [hole(3), COMPLETE]);
    }

    #[test]
    fn a_heartbeat_tells_that_the_last_change_is_missing() {
        assert_eq!(told(&[beat(0), change(1), beat(2), beat(2)])[2..], [hole(1), COMPLETE]);
    }

    #[test]
    fn a_publisher_tells_at_its_end_what_is_missing() {
        let end = |number| Message { publisher: 1, number, body: Body::End };
        assert_eq!(told(&[beat(3), end(3)]), [NEW, COMPLETE]);
        assert_eq!(told(&[beat(3), end(4)]), [NEW, hole(1)]);
    }

    #[test]
    fn what_comes_twice_or_late_is_not_missing() {
        assert_eq!(told(&[beat(0), change(1), change(1), beat(0), change(2)]), [COMPLETE; 5]);
    }

    #[test]
    fn a_publisher_that_is_met_later_may_have_said_something() {
        assert_eq!(told(&[beat(3), change(4)]), [NEW, COMPLETE]);
        assert_eq!(told(&[change(2)]), [NEW]);
    }

    #[test]
    fn who_is_silent_for_four_beats_is_forgotten() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        peers.heard(&beat(0), now);
        assert!(!peers.silent(now + EVERY * 3));
        assert!(peers.silent(now + EVERY * 4));
        assert!(!peers.silent(now + EVERY * 5), "once");
        assert_eq!(peers.len(), 0);
    }

    #[test]
    fn a_crowd_of_publishers_takes_bounded_room() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        for publisher in 0..100_000 {
            peers.heard(&Message { publisher, number: 0, body: beat(0).body }, now);
        }
        assert!(peers.len() <= MOST);
    }
}
