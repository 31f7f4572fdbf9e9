//! Making an event in a program of one's own: what stands beside its type and data, added one by one.
//!
//! [`KnownEvent::event`](super::KnownEvent::event) makes the event of a known type, [`Event::of`] that of
//! any other.

use super::{Event, EventKey, EventType, Extras, Priority, RunId, Source, Timestamp, Version};
use serde_json::{Map, Value};
use std::sync::Arc;

impl Event {
    /// An event of any type, that happened now.
    pub fn of(run: &RunId, kind: EventType, data: &Value) -> Self {
        Self {
            run_id: run.clone(),
            timestamp: Timestamp::now(),
            source: None,
            kind,
            data: data.to_string().into(),
            event_id: None,
            extras: None,
        }
    }

    /// The version of its type that the data is written in, where the publisher says it.
    pub fn version(&self) -> Option<Version> {
        self.extras.as_ref()?.version
    }

    /// That happened at this time.
    pub fn with_timestamp(self, timestamp: Timestamp) -> Self {
        Self { timestamp, ..self }
    }

    /// Emitted by this agent.
    pub fn with_source(self, source: Source) -> Self {
        Self { source: Some(Arc::new(source)), ..self }
    }

    /// With an idempotency id.
    pub fn with_event_id(self, id: EventKey) -> Self {
        Self { event_id: Some(id), ..self }
    }

    /// Of this exchange.
    pub fn with_correlation_id(self, id: impl Into<Box<str>>) -> Self {
        self.with(|extras| extras.correlation_id = Some(id.into()))
    }

    /// Of this trace.
    pub fn with_trace_id(self, id: impl Into<Box<str>>) -> Self {
        self.with(|extras| extras.trace_id = Some(id.into()))
    }

    /// Of this user session.
    pub fn with_session_id(self, id: impl Into<Box<str>>) -> Self {
        self.with(|extras| extras.session_id = Some(id.into()))
    }

    /// Of this conversation.
    pub fn with_conversation_id(self, id: impl Into<Box<str>>) -> Self {
        self.with(|extras| extras.conversation_id = Some(id.into()))
    }

    /// Part of this message.
    pub fn with_message_id(self, id: impl Into<Box<str>>) -> Self {
        self.with(|extras| extras.message_id = Some(id.into()))
    }

    /// As urgent as this.
    pub fn with_priority(self, priority: Priority) -> Self {
        self.with(|extras| extras.priority = Some(priority))
    }

    /// With these tags.
    pub fn with_tags<T: Into<String>>(self, tags: impl IntoIterator<Item = T>) -> Self {
        let tags: Value = tags.into_iter().map(Into::into).map(Value::String).collect();
        self.with(|extras| extras.tags = Some(tags.to_string().into()))
    }

    /// With this beside its data.
    pub fn with_metadata(self, metadata: Map<String, Value>) -> Self {
        self.with(|extras| extras.metadata = Some(Value::Object(metadata).to_string().into()))
    }

    /// With data written in this version of its type.
    pub fn with_version(self, version: Version) -> Self {
        self.with(|extras| extras.version = Some(version))
    }

    fn with(mut self, set: impl FnOnce(&mut Extras)) -> Self {
        set(Arc::make_mut(self.extras.get_or_insert_default()));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::parse::{EventLimits, parse_event};

    #[test]
    fn an_event_that_is_made_is_one_that_could_have_been_sent() {
        let run = RunId::parse("7").unwrap();
        let time = Timestamp::from_ms(5);
        let source = Source { agent_id: Some("r1".into()), ..Source::default() };
        let metadata = Map::from_iter([("k".to_owned(), Value::from(1))]);
        let made = Event::of(&run, EventType::parse("a.b").unwrap(), &Value::from(vec![1]))
            .with_timestamp(time)
            .with_source(source)
            .with_event_id(EventKey::parse("e").unwrap())
            .with_correlation_id("c")
            .with_trace_id("t")
            .with_session_id("s")
            .with_conversation_id("v")
            .with_message_id("m")
            .with_priority(Priority::High)
            .with_tags(["x", "y"])
            .with_metadata(metadata)
            .with_version(Version::FIRST);
        let json = r#"{"type":"a.b","data":[1],"source":{"agent_id":"r1"},"event_id":"e","correlation_id":"c",
            "trace_id":"t","session_id":"s","conversation_id":"v","message_id":"m","priority":"high",
            "tags":["x","y"],"metadata":{"k":1},"version":1}"#;
        let sent = parse_event(&run, json, time, EventLimits { max_data: 100 }).unwrap();
        assert_eq!(made, sent);
        assert_eq!(made.version(), Some(Version::FIRST));
    }
}
