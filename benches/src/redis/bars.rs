//! What the store on Redis is held against.

use super::turns::{Figures, ratio};
use super::{CLIENT, Op, STORE};
use crate::hit::is_own;
use crate::report::Bar;

const SHARED: &str = "client and server share the processors here, so what else runs moves the point from which gathering pays";
const SET: &str = "a `set` is a script that gives the entry its version and its end by the server's clock, and is refused once its \
    caller has given up; the client's is a plain `SET`";
const LOAD: &str = "a strategy takes a lease and fills under it, which is one round trip more and two scripts; the client's two \
    commands keep what has been invalidated meanwhile, and let everybody load at once";
const PEER: &str = "not explained further: with few callers nothing is gathered, and the store sends each command by the \
    client below, whose own row is the limit then";
/// The store against the client below, and against the best of the others.
pub(super) fn bars(op: Op, callers: usize, figures: &[Figures]) -> Vec<Bar> {
    let Some(store) = figures.iter().find(|figures| figures.name == STORE) else {
        return Vec::new();
    };
    let (bar, why) = match (op, callers) {
        (Op::Get, 16) => (0.9, SHARED),
        (Op::Get, 64) => (1.5, SHARED),
        (Op::Get, 256) => (1.9, SHARED),
        (Op::Get | Op::GetMany, _) => (0.95, SHARED),
        (Op::Set, _) => (0.95, SET),
        (Op::GetOrLoad, _) => (0.95, LOAD),
    };
    let named = format!("{}, {callers} callers", name(op));
    let to_client = format!("`{STORE}` to {CLIENT}, {named}");
    let mut bars = vec![Bar::at_least(to_client, store.ratio, bar).because(why)];
    let peers = || figures.iter().filter(|peer| !is_own(peer.name) && peer.name != CLIENT);
    if op != Op::Get {
        return bars;
    }
    if let Some(peer) = peers().max_by(|a, b| a.rate.total_cmp(&b.rate)) {
        let what = format!("`{STORE}` to the fastest peer ({}), {named}", peer.name);
        bars.push(Bar::at_least(what, ratio(&store.rates, &peer.rates), 1.0).because(PEER));
    }
    if let Some(peer) = peers().min_by(|a, b| a.cpu.total_cmp(&b.cpu)) {
        let what = format!("`{STORE}` to the most frugal peer ({}), {named}, CPU", peer.name);
        bars.push(Bar::at_most(what, store.cpu / peer.cpu, 1.0).because(PEER));
    }
    bars
}

fn name(op: Op) -> &'static str {
    match op {
        Op::Get => "get",
        Op::Set => "set",
        Op::GetOrLoad => "get_or_load of a cold key",
        Op::GetMany => "get_many of 100",
    }
}
