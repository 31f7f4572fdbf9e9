//! Events as runs are full of them: pieces of a model's answer, about a hundred bytes of data each, from a
//! source of four fields. Always the same, so that two measurements are of the same work.

use runhub::event::parse::parse_event;
use runhub::event::{
    EncodedBatch, Event, EventId, EventKey, EventLimits, ReadRules, RunId, Sequence, StoredEvent,
    Timestamp,
};

/// Such an event as a publisher sends it.
pub const TOKEN: &str = concat!(
    r#"{"type":"llm.stream","timestamp":"2025-11-22T10:15:30.123Z","source":{"agent_id":"agent-4711","#,
    r#""agent_type":"llm","agent_name":"researcher","team_name":"research"},"data":{"content":" so the "#,
    r#"second source agrees with the \"first\" one,","index":412,"model":"gpt-5","finish_reason":null}}"#
);

/// Bytes of room of a reader or of a queue: enough for all that is measured.
pub const ROOM: usize = 1 << 20;

/// The run that all of it happens in.
pub fn run() -> RunId {
    RunId::parse("run-2025-11-22-7f3c2a").unwrap()
}

/// Parses an event as the hub does when it is published.
pub fn parse(run: &RunId, json: &str) -> Event {
    let limits = EventLimits { max_data: 1 << 20 };
    parse_event(run, json, Timestamp::from_ms(1_763_806_530_000), limits).unwrap()
}

/// The position of the run's event with this number.
pub fn position(number: u64) -> EventId {
    EventId::new(1_763_806_530_000 + number, 0)
}

/// The events behind that one as a store has them.
pub fn stored(after: u64, count: u64) -> Vec<StoredEvent> {
    // Of a hub's own ids' length; one that a hub makes is random.
    let key = EventKey::parse("01KAN7ZV5B8Q3M1C9D4E6F7G2H").unwrap();
    let event = parse(&run(), TOKEN).with_event_id(key);
    let stored = |number| StoredEvent {
        id: position(number),
        sequence: Some(Sequence(number)),
        event: event.clone(),
    };
    (after + 1..=after + count).map(stored).collect()
}

/// Encodes what lies behind a position as the run's actor does for all its readers.
pub fn encode(after: u64, events: Vec<StoredEvent>, rules: &ReadRules) -> EncodedBatch {
    EncodedBatch::encode(position(after), events, rules)
}
