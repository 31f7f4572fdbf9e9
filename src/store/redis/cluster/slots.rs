//! Which server has which keys: the hash slots of a Redis Cluster (Redis Cluster specification, "Key distribution
//! model" and "Hash tags").

use crate::store::StoreError;
use crate::store::redis::link::odd;
use crate::store::redis::reply;
use crc::{CRC_16_XMODEM, Crc};
use redis::Value;

/// So many slots share all keys among them.
const SLOTS: u16 = 16384;

const CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_XMODEM);

/// A server's host and port.
pub(super) type Address = (String, u16);

/// The slot of a key: of what stands in its first braces, if anything does, else of all of it.
pub(super) fn slot_of(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    CRC.checksum(hashed.as_bytes()) % SLOTS
}

/// Slots in a row that one server takes writes for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Range {
    first: u16,
    last: u16,
    server: Address,
}

/// All slots, as a server knows them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(super) struct SlotMap(Vec<Range>);

impl SlotMap {
    /// From the answer to `CLUSTER SLOTS` of the server at `asked`, which may leave out its own host.
    pub(super) fn parse(answer: Value, asked: &str) -> Result<Self, StoreError> {
        let expected = || odd("expected slots and their servers");
        let slot = |value: &Value| match value {
            Value::Int(n) => u16::try_from(*n).ok().filter(|n| *n < SLOTS).ok_or_else(expected),
            _ => Err(expected()),
        };
        let ranges = reply::items(answer)?.into_iter().map(|range| {
            // Behind the first server, which takes the writes, stand its replicas.
            let parts = reply::items(range)?;
            let [first, last, Value::Array(server), ..] = parts.as_slice() else {
                return Err(expected());
            };
            let [host, Value::Int(port), ..] = server.as_slice() else { return Err(expected()) };
            let host = match host {
                Value::Nil => asked,
                host => Some(reply::text(host)?).filter(|host| !host.is_empty()).unwrap_or(asked),
            };
            let port = u16::try_from(*port).map_err(|_| expected())?;
            Ok(Range { first: slot(first)?, last: slot(last)?, server: (host.to_owned(), port) })
        });
        let mut ranges = ranges.collect::<Result<Vec<_>, _>>()?;
        ranges.sort();
        Ok(Self(ranges))
    }

    /// The server that has a slot, if any has.
    pub(super) fn server_of(&self, slot: u16) -> Option<&Address> {
        let behind = self.0.partition_point(|range| range.first <= slot);
        let range = self.0[..behind].last().filter(|range| slot <= range.last)?;
        Some(&range.server)
    }

    /// The first slot that no server has.
    pub(super) fn missing(&self) -> Option<u16> {
        let mut next = 0;
        for Range { first, last, .. } in &self.0 {
            if *first > next {
                break;
            }
            next = last + 1;
        }
        (next < SLOTS).then_some(next)
    }

    /// All servers, each once.
    pub(super) fn servers(&self) -> Vec<&Address> {
        let mut servers: Vec<&Address> = self.0.iter().map(|range| &range.server).collect();
        servers.sort();
        servers.dedup();
        servers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn range(first: i64, last: i64, host: Value, port: i64) -> Value {
        let server = |host, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let replica = server(text("replica"), 1);
        Value::Array(vec![Value::Int(first), Value::Int(last), server(host, port), replica])
    }

    #[test]
    fn keys_with_one_tag_share_a_slot() {
        // From the specification, and from CLUSTER KEYSLOT.
        assert_eq!(CRC.checksum(b"123456789"), 0x31C3);
        assert_eq!(slot_of("run:{8}:events"), 14171);
        assert_eq!(slot_of("run:{8}:meta"), slot_of("8"));
        for (key, hashed) in [("foo{}{bar}", "foo{}{bar}"), ("foo{{bar}}zap", "{bar")] {
            assert_eq!(slot_of(key), CRC.checksum(hashed.as_bytes()) % SLOTS, "{key}");
        }
    }

    #[test]
    fn a_map_says_who_has_a_slot_and_which_nobody_has() {
        let answer = Value::Array(vec![
            range(5461, 10922, text("b"), 2),
            range(0, 5460, Value::Nil, 1),
            range(10924, 16383, text(""), 3),
        ]);
        let map = SlotMap::parse(answer, "a").unwrap();
        let server = |slot| map.server_of(slot).map(|(host, port)| (host.as_str(), *port));
        assert_eq!(
            [0, 5460, 5461, 10922].map(server),
            [("a", 1), ("a", 1), ("b", 2), ("b", 2)].map(Some)
        );
        assert_eq!([10923, 10924, 16383].map(server), [None, Some(("a", 3)), Some(("a", 3))]);
        assert_eq!((map.missing(), map.servers().len()), (Some(10923), 3));
        let whole = SlotMap::parse(Value::Array(vec![range(0, 16383, text("a"), 1)]), "").unwrap();
        assert_eq!((whole.missing(), SlotMap::default().missing()), (None, Some(0)));
        for odd in [range(0, 16384, text("a"), 1), range(0, 1, text("a"), 65536), text("a")] {
            assert!(SlotMap::parse(Value::Array(vec![odd]), "").is_err());
        }
    }
}
