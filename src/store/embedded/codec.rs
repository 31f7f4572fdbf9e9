//! The values of the embedded store: an event, and a place in the `event_id` window.
//!
//! An event is a version byte, its sequence, then its fields as `event/packed.rs` writes them.

use super::super::key_window::Found;
use crate::event::packed::{pack, unpack};
use crate::event::{Event, EventId, RunId, Sequence, StoredEvent};

const VERSION: u8 = 1;

/// The value of an event.
pub(super) fn encode_event(event: &Event, sequence: Sequence) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.data.len() + 192);
    out.push(VERSION);
    out.extend_from_slice(&sequence.0.to_le_bytes());
    pack(event, &mut out);
    out
}

/// The event of a value; none if the value is damaged.
pub(super) fn decode_event(run: &RunId, id: EventId, value: &[u8]) -> Option<StoredEvent> {
    let (&version, rest) = value.split_first()?;
    let (sequence, rest) = rest.split_first_chunk()?;
    if version != VERSION {
        return None;
    }
    unpack(run, id, Some(Sequence(u64::from_le_bytes(*sequence))), rest)
}

/// The value of an `event_id` in the window.
pub(super) fn encode_found(published_ms: u64, found: Found) -> [u8; 40] {
    let numbers = [published_ms, found.id.ms, found.id.n, found.sequence.0, found.digest];
    let mut out = [0; 40];
    for (chunk, number) in out.chunks_exact_mut(8).zip(numbers) {
        chunk.copy_from_slice(&number.to_le_bytes());
    }
    out
}

/// When the event was published, and where it is.
pub(super) fn decode_found(value: &[u8]) -> Option<(u64, Found)> {
    let value: &[u8; 40] = value.try_into().ok()?;
    let mut numbers = [0; 5];
    for (number, chunk) in numbers.iter_mut().zip(value.chunks_exact(8)) {
        *number = u64::from_le_bytes(chunk.try_into().ok()?);
    }
    let [published_ms, ms, n, sequence, digest] = numbers;
    Some((published_ms, Found { id: EventId::new(ms, n), sequence: Sequence(sequence), digest }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::parse::{EventLimits, parse_event};
    use crate::event::{NewEvent, Timestamp};

    #[test]
    fn values_read_back_and_damage_is_noticed() {
        let run = RunId::parse("7").unwrap();
        let json = r#"{"type":"a.b","data":{"x":1.10},"source":{"agent_id":"r","x":1},"tags":["a"],"metadata":{}}"#;
        let parsed = parse_event(&run, json, Timestamp::from_ms(5), EventLimits { max_data: 100 });
        let event = NewEvent::new(parsed.unwrap()).event;
        let value = encode_event(&event, Sequence(9));
        let stored = decode_event(&run, EventId::new(5, 1), &value).unwrap();
        assert_eq!((stored.sequence, stored.event), (Some(Sequence(9)), event));
        assert_eq!(decode_event(&run, EventId::START, &value[..7]), None);
        let found = Found { id: EventId::new(1, 2), sequence: Sequence(3), digest: 4 };
        assert_eq!(decode_found(&encode_found(9, found)), Some((9, found)));
    }
}
