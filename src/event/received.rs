//! From the JSON that readers get (CONTRACT section 2) back to an event: for readers in the same process.

use super::{
    Event, EventId, EventKey, EventType, Extras, Priority, RunId, Sequence, Source, StoredEvent,
    Timestamp, Version,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow)]
    category: Cow<'a, str>,
    #[serde(borrow)]
    action: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Received<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    run_id: Cow<'a, str>,
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    sequence: Option<u64>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Kind<'a>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    event_id: Option<Cow<'a, str>>,
    correlation_id: Option<Box<str>>,
    trace_id: Option<Box<str>>,
    session_id: Option<Box<str>>,
    conversation_id: Option<Box<str>>,
    message_id: Option<Box<str>>,
    priority: Option<Priority>,
    #[serde(borrow)]
    tags: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    version: Option<u32>,
}

/// The event of this JSON; none if it is not what a hub writes.
pub fn read(json: &str) -> Option<StoredEvent> {
    let told: Received<'_> = serde_json::from_str(json).ok()?;
    let raw = |json: Option<&RawValue>| json.map(|json| Box::from(json.get()));
    let extras = Extras {
        correlation_id: told.correlation_id,
        trace_id: told.trace_id,
        session_id: told.session_id,
        conversation_id: told.conversation_id,
        message_id: told.message_id,
        priority: told.priority,
        tags: raw(told.tags),
        metadata: raw(told.metadata),
        version: told.version.and_then(Version::new),
    };
    let event = Event {
        run_id: RunId::parse(&told.run_id).ok()?,
        timestamp: Timestamp::parse(&told.timestamp).ok()?,
        source: told.source.map(|json| Source::parse(json.get()).map(Arc::new)).transpose().ok()?,
        kind: EventType::from_parts(&told.event.category, &told.event.action).ok()?,
        data: told.data.get().into(),
        event_id: told.event_id.and_then(|id| EventKey::parse(&id).ok()),
        extras: (extras != Extras::default()).then(|| Arc::new(extras)),
    };
    let id = EventId::parse(&told.id).ok()?;
    Some(StoredEvent { id, sequence: told.sequence.map(Sequence), event })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::frame::push_json;
    use crate::event::parse::{EventLimits, parse_event};
    use crate::event::{NewEvent, Upcasters};

    #[test]
    fn what_a_reader_gets_is_the_event_that_was_published() {
        let run = RunId::parse("7").unwrap();
        for json in [
            r#"{"type":"a.b"}"#,
            r#"{"type":"llm.stream","data":{"x":1.10,"y":"\u00e9"},"source":{"agent_id":"r","node_name":"n"},
                "correlation_id":"c","trace_id":"t","session_id":"s","conversation_id":"v","message_id":"m",
                "priority":"low","tags":["a"],"metadata":{"k":1.0},"version":2,"event_id":"k"}"#,
        ] {
            let limits = EventLimits { max_data: 100 };
            let event = parse_event(&run, json, Timestamp::from_ms(5), limits).unwrap();
            let event = NewEvent::new(event).event;
            let stored = StoredEvent { id: EventId::new(5, 1), sequence: Some(Sequence(9)), event };
            let mut shown = Vec::new();
            push_json(&mut shown, &stored, &Upcasters::default());
            assert_eq!(read(std::str::from_utf8(&shown).unwrap()), Some(stored));
        }
        assert_eq!(read("{}"), None);
    }
}
