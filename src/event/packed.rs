//! An event as bytes for a disk: each of its entry fields as a byte that stands for the name, a 32-bit
//! length and the value. Empty fields are left out.

use super::entry::{SEQUENCE, encode_entry};
use super::{Event, EventId, RunId, Sequence, StoredEvent, decode_entry};

/// The names that have a byte. Only ever append to this list: its order is on disk.
const NAMES: [&str; 19] = [
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
    "version",
];

/// Appends the event's fields.
pub fn pack(event: &Event, out: &mut Vec<u8>) {
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
}

/// The event of such fields, at a place of its run; none if they are damaged.
pub fn unpack(
    run: &RunId,
    id: EventId,
    sequence: Option<Sequence>,
    mut packed: &[u8],
) -> Option<StoredEvent> {
    let sequence = sequence.map(|sequence| sequence.0.to_string());
    let mut fields = Vec::with_capacity(NAMES.len());
    fields.extend(sequence.as_ref().map(|text| (SEQUENCE.as_bytes(), text.as_bytes())));
    while let Some((&name, tail)) = packed.split_first() {
        let (length, tail) = tail.split_first_chunk()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let (field, tail) = tail.split_at_checked(length)?;
        fields.push((NAMES.get(usize::from(name))?.as_bytes(), field));
        packed = tail;
    }
    Some(decode_entry(run, id, fields))
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
        let mut packed = Vec::new();
        pack(&event, &mut packed);
        let stored = unpack(&run, EventId::new(5, 1), Some(Sequence(9)), &packed).unwrap();
        assert_eq!((stored.sequence, stored.event), (Some(Sequence(9)), event));
        for cut in 0..packed.len() {
            // A cut between two fields reads as an event with fewer of them; no cut may panic.
            drop(unpack(&run, EventId::START, None, &packed[..cut]));
        }
        assert_eq!(unpack(&run, EventId::START, None, &packed[..3]), None);
    }

    #[test]
    fn every_entry_field_has_a_byte() {
        let run = RunId::parse("7").unwrap();
        let json = r#"{"type":"a.b","source":{"x":1},"event_id":"k","correlation_id":"c","trace_id":"t",
            "session_id":"s","conversation_id":"v","message_id":"m","priority":"low","tags":[],"metadata":{},"version":2}"#;
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
