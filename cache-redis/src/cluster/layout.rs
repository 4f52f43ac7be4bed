//! What a node says about who serves which slot.

use std::collections::{HashMap, HashSet};

use redis::Value;

use super::slot::SLOTS;
use crate::settings::Address;

/// No node.
pub(super) const NOBODY: u16 = u16::MAX;

/// More primaries, or replicas, than any cluster has: each primary gets connections.
const NODES: usize = 2048;

/// The answer to `CLUSTER SLOTS`.
#[derive(Debug)]
pub(super) struct Layout {
    /// For each slot, which of the primaries serves it.
    pub(super) owners: Box<[u16]>,
    pub(super) primaries: Vec<Address>,
    pub(super) replicas: Vec<Address>,
}

impl Layout {
    /// Reads the answer of the node at `asked`; nothing if it is malformed, or has no slots.
    pub(super) fn read(answer: &Value, asked: &Address) -> Option<Self> {
        let Value::Array(ranges) = answer else {
            return None;
        };
        let mut numbers = HashMap::new();
        let mut seen = HashSet::new();
        let mut left = usize::from(SLOTS);
        let mut layout = Self {
            owners: vec![NOBODY; usize::from(SLOTS)].into(),
            primaries: Vec::new(),
            replicas: Vec::new(),
        };
        for range in ranges {
            let Value::Array(range) = range else {
                return None;
            };
            let [Value::Int(first), Value::Int(last), primary, replicas @ ..] = &range[..] else {
                return None;
            };
            let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
            // Of ranges that overlap nobody knows which one is right, and there is no end to them.
            let count = last.checked_sub(first)?.checked_add(1)?;
            left = left.checked_sub(count)?;
            let slots = first..=last;
            // One without an address is failing: its slots are nobody's until somebody takes them over.
            if let Some(primary) = node(primary, asked) {
                let next = layout.primaries.len();
                let number = *numbers.entry(primary.clone()).or_insert(next);
                if number == next {
                    layout.primaries.push(primary);
                }
                let number = u16::try_from(number).ok().filter(|_| number < NODES)?;
                layout.owners.get_mut(slots)?.fill(number);
            }
            for replica in replicas.iter().filter_map(|replica| node(replica, asked)) {
                if layout.replicas.len() < NODES && seen.insert(replica.clone()) {
                    layout.replicas.push(replica);
                }
            }
        }
        (!layout.primaries.is_empty()).then_some(layout)
    }
}

/// Host, port, and more that does not matter.
fn node(node: &Value, asked: &Address) -> Option<Address> {
    let Value::Array(node) = node else {
        return None;
    };
    let [host, Value::Int(port), ..] = &node[..] else {
        return None;
    };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        // A node that does not know its own name: the one that was asked is there.
        Value::Nil => "",
        _ => return None,
    };
    let port = u16::try_from(*port).ok().filter(|port| *port != 0)?;
    address(host, port, asked)
}

/// An address as a node gives it. Without a host it is that of the node itself, and `?` is that nobody
/// knows.
fn address(host: &str, port: u16, asked: &Address) -> Option<Address> {
    match (host, asked) {
        ("?", _) => None,
        ("", Address::Tcp(host, _)) => Some(Address::Tcp(host.clone(), port)),
        ("", Address::Unix(_)) => None,
        (host, _) => Some(Address::Tcp(host.into(), port)),
    }
}

/// Where a redirection by the node at `asked` leads: `3999 127.0.0.1:6381`.
pub(super) fn redirection(details: &str, asked: &Address) -> Option<Address> {
    let (_, to) = details.split_once(' ')?;
    let (host, port) = to.split_ascii_whitespace().next()?.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    address(host, port, asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp(host.into(), port)
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn range(first: i64, last: i64, nodes: &[(Value, i64)]) -> Value {
        let nodes = nodes.iter().map(|(host, port)| {
            Value::Array(vec![host.clone(), Value::Int(*port), text("id"), Value::Array(vec![])])
        });
        let range = [Value::Int(first), Value::Int(last)].into_iter().chain(nodes);
        Value::Array(range.collect())
    }

    #[test]
    fn slots_have_owners() {
        let answer = Value::Array(vec![
            range(0, 99, &[(text("a"), 1), (text("x"), 9)]),
            range(200, 16383, &[(text("b"), 2)]),
            range(100, 150, &[(text("a"), 1)]),
        ]);
        let layout = Layout::read(&answer, &tcp("a", 1)).expect("well formed");
        assert_eq!(layout.primaries, [tcp("a", 1), tcp("b", 2)]);
        assert_eq!(layout.replicas, [tcp("x", 9)]);
        let owner = |slot: usize| layout.owners[slot];
        assert_eq!([owner(0), owner(99), owner(100), owner(150)], [0; 4]);
        assert_eq!([owner(151), owner(199)], [NOBODY; 2]);
        assert_eq!([owner(200), owner(16383)], [1; 2]);
    }

    #[test]
    fn a_node_that_does_not_know_its_name_is_where_it_was_asked() {
        for host in [Value::Nil, text("")] {
            let answer = Value::Array(vec![range(0, 5, &[(host, 7000)])]);
            let layout = Layout::read(&answer, &tcp("seed", 1)).expect("well formed");
            assert_eq!(layout.primaries, [tcp("seed", 7000)]);
        }
    }

    #[test]
    fn what_is_malformed_is_no_layout() {
        for answer in [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(0, 16384, &[(text("a"), 1)])]),
            Value::Array(vec![range(-1, 5, &[(text("a"), 1)])]),
            Value::Array(vec![range(0, 5, &[(text("?"), 1)])]),
            Value::Array(vec![range(0, 5, &[(text("a"), 70000)])]),
            Value::Array(vec![range(5, 0, &[(text("a"), 1)])]),
            Value::Array(vec![range(0, i64::MAX, &[(text("a"), 1)])]),
        ] {
            assert!(Layout::read(&answer, &tcp("a", 1)).is_none(), "{answer:?}");
        }
    }

    #[test]
    fn ranges_that_overlap_are_no_layout_however_many_there_are() {
        let whole = || range(0, 16383, &[(text("a"), 1)]);
        assert!(Layout::read(&Value::Array(vec![whole()]), &tcp("a", 1)).is_some());
        let many = Value::Array((0..100_000).map(|_| whole()).collect());
        assert!(Layout::read(&many, &tcp("a", 1)).is_none());
    }

    #[test]
    fn a_cluster_of_more_nodes_than_there_can_be_is_not_connected_to() {
        let answer = |primaries: i64| {
            let one = |slot| range(slot, slot, &[(text("a"), 1 + slot % primaries)]);
            Value::Array((0..16384).map(one).collect())
        };
        let layout = Layout::read(&answer(2048), &tcp("a", 1)).expect("a large one");
        assert_eq!(layout.primaries.len(), 2048);
        assert_eq!([layout.owners[2047], layout.owners[2048]], [2047, 0]);
        assert!(Layout::read(&answer(2049), &tcp("a", 1)).is_none());
        let replicas: Vec<_> = (1..=60_000).map(|port| (text("x"), port)).collect();
        let many = Value::Array(vec![range(0, 5, &[&[(text("a"), 1)], &replicas[..]].concat())]);
        let layout = Layout::read(&many, &tcp("a", 1)).expect("well formed");
        assert_eq!(layout.replicas.len(), 2048, "of them few are asked");
    }

    #[test]
    fn redirections_lead_somewhere() {
        let asked = tcp("here", 1);
        assert_eq!(redirection("3999 127.0.0.1:6381", &asked), Some(tcp("127.0.0.1", 6381)));
        assert_eq!(redirection("3999 ::1:6381", &asked), Some(tcp("::1", 6381)));
        assert_eq!(redirection("3999 :6381", &asked), Some(tcp("here", 6381)));
        for malformed in ["", "3999", "3999 a", "3999 a:b", "3999 ?:1", "3999 a:0", "3999 a:65536"]
        {
            assert_eq!(redirection(malformed, &asked), None, "{malformed}");
        }
    }
}
