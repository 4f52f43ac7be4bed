//! What is known of other publishers.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::message::{Body, Message};
use crate::{Moment, Resync};

/// Of more publishers than that nobody keeps track.
const MOST: usize = 4096;

/// A publisher is silent after so many heartbeats that did not come.
const BEATS: u32 = 4;

/// However often it says that it beats: four of the fastest and of the slowest heartbeats that there are.
const SILENCE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(240));

#[derive(Debug)]
pub(super) struct Peers {
    each: HashMap<u64, Peer>,
    /// How many of them are known up to a moment, for each.
    known: BTreeMap<Moment, usize>,
    /// How often somebody beats who has not said so.
    beat: Duration,
}

#[derive(Debug)]
struct Peer {
    /// The number of its last change.
    last: u64,
    heard: Instant,
    /// All that it published before this has been heard, or is known to be missing.
    known: Moment,
    beat: Duration,
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
    /// Those who have not said how often they beat are taken to do it `beat`.
    pub(super) fn new(beat: Duration) -> Self {
        Self { each: HashMap::new(), known: BTreeMap::new(), beat }
    }

    /// Takes note of a message's number. What its publisher sent before `known` has come before it, as far as [`Bus`](crate::Bus)
    /// promises that.
    pub(super) fn heard(&mut self, message: &Message, now: Instant, known: Moment) -> Told {
        let Message { publisher, number, body } = message;
        if *body == Body::End {
            return match self.each.remove(publisher) {
                Some(peer) => {
                    leave(&mut self.known, peer.known);
                    peer.missing(*number)
                }
                None if *number == 0 => Told::Complete,
                // There will be no heartbeat, and no silence, to tell that its changes were not heard.
                None => Told::Missing(Resync::Newcomer, 0),
            };
        }
        // A change has the number itself; a heartbeat says that all up to there have been sent.
        let before =
            if matches!(body, Body::Heartbeat { .. }) { *number } else { number.saturating_sub(1) };
        let crowded = self.each.len() >= MOST && !self.each.contains_key(publisher);
        if crowded {
            self.each.clear();
            self.known.clear();
        }
        *self.known.entry(known).or_default() += 1;
        match self.each.entry(*publisher) {
            Entry::Vacant(place) => {
                let mut peer = Peer { last: *number, heard: now, known, beat: self.beat };
                peer.beats(body);
                place.insert(peer);
                let from_the_first = before == 0 && !crowded;
                if from_the_first { Told::Complete } else { Told::Missing(Resync::Newcomer, 0) }
            }
            Entry::Occupied(place) => {
                let peer = place.into_mut();
                leave(&mut self.known, peer.known);
                (peer.heard, peer.known) = (now, known);
                peer.beats(body);
                let told = peer.missing(before);
                peer.last = peer.last.max(*number);
                told
            }
        }
    }

    /// Forgets those who have been silent for too long, and says whether there were any.
    pub(super) fn silent(&mut self, now: Instant) -> bool {
        let before = self.each.len();
        self.each.retain(|_, peer| {
            let stays = now.saturating_duration_since(peer.heard) < peer.silent_after();
            if !stays {
                leave(&mut self.known, peer.known);
            }
            stays
        });
        self.each.len() < before
    }

    /// The moment up to which what each of them has published is known, if there are any.
    pub(super) fn known(&self) -> Option<Moment> {
        self.known.first_key_value().map(|(known, _)| *known)
    }

    /// How often the slowest of them beats.
    pub(super) fn slowest(&self) -> Duration {
        self.each.values().map(|peer| peer.beat).max().unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.each.len()
    }
}

/// One less is known up to this moment.
fn leave(known: &mut BTreeMap<Moment, usize>, moment: Moment) {
    if let Some(count) = known.get_mut(&moment) {
        *count -= 1;
        if *count == 0 {
            known.remove(&moment);
        }
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
            self.beat = *every;
        }
    }

    fn silent_after(&self) -> Duration {
        self.beat.saturating_mul(BEATS).clamp(SILENCE.0, SILENCE.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Change, Clock};

    const EVERY: Duration = Duration::from_secs(1);

    fn change(number: u64) -> Message {
        Message { publisher: 1, number, body: Body::Change(Change::Clear) }
    }

    fn beat(number: u64) -> Message {
        Message { publisher: 1, number, body: Body::Heartbeat { beat: 9, every: EVERY } }
    }

    fn at(seconds: u64) -> Moment {
        Clock::manual().0.now().plus(EVERY * u32::try_from(seconds).expect("a few"))
    }

    fn told(messages: &[Message]) -> Vec<Told> {
        let (mut peers, now) = (Peers::new(EVERY), Instant::now());
        messages.iter().map(|message| peers.heard(message, now, at(0))).collect()
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
    fn a_publisher_that_is_first_heard_at_its_end_has_been_missed() {
        let end = |number| Message { publisher: 1, number, body: Body::End };
        assert_eq!(told(&[end(0)]), [COMPLETE]);
        assert_eq!(told(&[end(1)]), [NEW]);
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
        let (mut peers, now) = (Peers::new(EVERY * 9), Instant::now());
        peers.heard(&beat(0), now, at(0));
        assert!(!peers.silent(now + EVERY * 3));
        assert!(peers.silent(now + EVERY * 4));
        assert!(!peers.silent(now + EVERY * 5), "once");
        assert_eq!(peers.len(), 0);
    }

    #[test]
    fn who_has_not_said_how_often_it_beats_is_silent_like_others() {
        let (mut peers, now) = (Peers::new(EVERY), Instant::now());
        peers.heard(&change(1), now, at(0));
        assert!(!peers.silent(now + EVERY * 3));
        assert!(peers.silent(now + EVERY * 4));
    }

    #[test]
    fn what_is_known_is_what_is_known_of_each() {
        let (mut peers, now) = (Peers::new(EVERY), Instant::now());
        let from = |publisher, body| Message { publisher, number: 0, body };
        let beat = |publisher| from(publisher, beat(0).body);
        assert_eq!(peers.known(), None);
        peers.heard(&beat(1), now, at(1));
        peers.heard(&beat(2), now, at(2));
        peers.heard(&beat(3), now + EVERY, at(2));
        assert_eq!(peers.known(), Some(at(1)));
        peers.heard(&beat(1), now + EVERY, at(4));
        assert_eq!(peers.known(), Some(at(2)));
        assert!(peers.silent(now + EVERY * 4));
        assert_eq!(peers.known(), Some(at(2)), "of one of the two");
        peers.heard(&from(3, Body::End), now, at(5));
        assert_eq!(peers.known(), Some(at(4)));
        peers.heard(&from(1, Body::End), now, at(5));
        assert_eq!((peers.known(), peers.known.len()), (None, 0));
    }

    #[test]
    fn a_crowd_of_publishers_takes_bounded_room() {
        let (mut peers, now) = (Peers::new(EVERY), Instant::now());
        for publisher in 0..100_000 {
            let known = at(publisher);
            peers.heard(&Message { publisher, number: 0, body: beat(0).body }, now, known);
        }
        assert!(peers.len() <= MOST && peers.known.len() == peers.len());
    }
}
