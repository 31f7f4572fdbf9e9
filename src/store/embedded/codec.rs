//! The values of the embedded store: an event as its entry fields, a place in the `event_id` window.
//!
//! An event is a version byte, its sequence, then each field as a byte that stands for its name, a
//! 32-bit length and the bytes.

use super::super::key_window::Found;
use crate::event::entry::{SEQUENCE, encode_entry};
use crate::event::{Event, EventId, RunId, Sequence, StoredEvent, decode_entry};

const VERSION: u8 = 1;

/// The names that have a byte. Only ever append to this list: its order is on disk.
const NAMES: [&str; 18] = [
    "timestamp",
    "source_agent_id",
    "source_agent_type",
    "source_agent_name",
    "source_team_name",
    "event_category",
    "event_action",
    "data",
    "source",
    "event_id",
    "correlation_id",
    "trace_id",
    "session_id",
    "conversation_id",
    "message_id",
    "priority",
    "tags",
    "metadata",
];

/// The value of an event.
pub(super) fn encode_event(event: &Event, sequence: Sequence) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.data.len() + 192);
    out.push(VERSION);
    out.extend_from_slice(&sequence.0.to_le_bytes());
    encode_entry(event, |name, value| {
        let named = NAMES.iter().position(|n| *n == name).and_then(|i| u8::try_from(i).ok());
        let length = u32::try_from(value.len()).ok();
        if let (Some(name), Some(length)) = (named, length)
            && !value.is_empty()
        {
            out.push(name);
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(value.as_bytes());
        }
    });
    out
}

/// The event of a value; none if the value is damaged.
pub(super) fn decode_event(run: &RunId, id: EventId, value: &[u8]) -> Option<StoredEvent> {
    let (&version, rest) = value.split_first()?;
    let (sequence, mut rest) = rest.split_first_chunk()?;
    if version != VERSION {
        return None;
    }
    let sequence = u64::from_le_bytes(*sequence).to_string();
    let mut fields = vec![(SEQUENCE.as_bytes(), sequence.as_bytes())];
    while let Some((&name, tail)) = rest.split_first() {
        let (length, tail) = tail.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (field, tail) = tail.split_at_checked(length)?;
        fields.push((NAMES.get(usize::from(name))?.as_bytes(), field));
        rest = tail;
    }
    Some(decode_entry(run, id, fields))
}

/// The value of an `event_id` in the window.
pub(super) fn encode_found(stored_ms: u64, found: Found) -> [u8; 40] {
    let numbers = [stored_ms, found.id.ms, found.id.n, found.sequence.0, found.digest];
    let mut out = [0; 40];
    for (chunk, number) in out.chunks_exact_mut(8).zip(numbers) {
        chunk.copy_from_slice(&number.to_le_bytes());
    }
    out
}

/// When the id was stored, and where its event is.
pub(super) fn decode_found(value: &[u8]) -> Option<(u64, Found)> {
    let value: &[u8; 40] = value.try_into().ok()?;
    let mut numbers = [0; 5];
    for (number, chunk) in numbers.iter_mut().zip(value.chunks_exact(8)) {
        *number = u64::from_le_bytes(chunk.try_into().ok()?);
    }
    let [stored_ms, ms, n, sequence, digest] = numbers;
    Some((stored_ms, Found { id: EventId::new(ms, n), sequence: Sequence(sequence), digest }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::parse::{EventLimits, parse_event};
    use crate::event::{NewEvent, Timestamp};

    #[test]
    fn an_event_reads_back_and_damage_is_noticed() {
        let run = RunId::parse("7").unwrap();
        let json = r#"{"type":"a.b","data":{"x":1.10},"source":{"agent_id":"r","x":1},"tags":["a"],"metadata":{}}"#;
        let parsed = parse_event(&run, json, Timestamp::from_ms(5), EventLimits { max_data: 100 });
        let event = NewEvent::new(parsed.unwrap()).event;
        let value = encode_event(&event, Sequence(9));
        let stored = decode_event(&run, EventId::new(5, 1), &value).unwrap();
        assert_eq!((stored.sequence, stored.event), (Some(Sequence(9)), event));
        for cut in 0..value.len() {
            // A cut between two fields reads as an event with fewer of them; no cut may panic.
            drop(decode_event(&run, EventId::START, &value[..cut]));
        }
        assert_eq!(decode_event(&run, EventId::START, &value[..7]), None);
        let found = Found { id: EventId::new(1, 2), sequence: Sequence(3), digest: 4 };
        assert_eq!(decode_found(&encode_found(9, found)), Some((9, found)));
    }

    #[test]
    fn every_entry_field_has_a_byte() {
        let run = RunId::parse("7").unwrap();
        let json = r#"{"type":"a.b","source":{"x":1},"event_id":"k","correlation_id":"c","trace_id":"t",
            "session_id":"s","conversation_id":"v","message_id":"m","priority":"low","tags":[],"metadata":{}}"#;
        let event =
            parse_event(&run, json, Timestamp::from_ms(5), EventLimits { max_data: 100 }).unwrap();
        let mut count = 0;
        encode_entry(&event, |name, _| {
            count += 1;
            assert!(NAMES.contains(&name), "{name}");
        });
        assert_eq!(count, NAMES.len());
    }
}
