//! Events as the fields of a stream entry, both ways; the field names and their order are CONTRACT
//! section 4. Every store keeps these fields, so that what a reader sees does not depend on the store.
//!
//! Reading never fails: any program may have written the entry. What is missing or odd becomes a default,
//! and data that is not fit to be carried as JSON becomes a JSON string.

use super::event_type::is_name;
use super::job_type;
use super::json_text::{self, push_string};
use super::{
    Event, EventId, EventKey, EventType, Extras, Priority, RunId, Sequence, Source, StoredEvent,
    Timestamp, Version,
};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;

/// The name of the field that the store itself fills in, right behind `timestamp`.
pub const SEQUENCE: &str = "sequence";

/// The fields that every entry has, before all others and but for `sequence`: the timestamp, the source's four, the
/// type's two, and the data.
pub const ALWAYS: usize = 8;

/// The most fields that an entry usually has.
pub const USUAL_FIELDS: usize = 12;

/// About the bytes that an entry's names and values take, for whoever makes room for them.
pub fn entry_size(event: &Event) -> usize {
    event.text_bytes() + 256
}

/// The fields that an entry has besides those that every entry has.
pub fn further_fields(event: &Event) -> usize {
    let mut count = 0;
    encode_further(event, |_, _| count += 1);
    count
}

/// Calls `push` with each field of the entry but `sequence`, in order: `timestamp`, the source's, the type's, `data`,
/// then the further ones.
pub fn encode_entry(event: &Event, mut push: impl FnMut(&'static str, &str)) {
    push("timestamp", &event.timestamp.to_string());
    let none = Source::default();
    let source = event.source.as_deref().unwrap_or(&none);
    push("source_agent_id", source.agent_id.as_deref().unwrap_or_default());
    push("source_agent_type", source.agent_type.as_deref().unwrap_or_default());
    push("source_agent_name", source.agent_name.as_deref().unwrap_or_default());
    push("source_team_name", source.team_name.as_deref().unwrap_or_default());
    push("event_category", event.kind.category());
    push("event_action", event.kind.action());
    push("data", &event.data);
    encode_further(event, push);
}

fn encode_further(event: &Event, mut push: impl FnMut(&'static str, &str)) {
    let mut optional = |name, value: Option<&str>| {
        if let Some(value) = value {
            push(name, value);
        }
    };
    optional("source", event.source.as_deref().and_then(|source| source.json.as_deref()));
    optional("event_id", event.event_id.as_ref().map(EventKey::as_str));
    if let Some(extras) = &event.extras {
        optional("correlation_id", extras.correlation_id.as_deref());
        optional("trace_id", extras.trace_id.as_deref());
        optional("session_id", extras.session_id.as_deref());
        optional("conversation_id", extras.conversation_id.as_deref());
        optional("message_id", extras.message_id.as_deref());
        optional("priority", extras.priority.map(Priority::as_str));
        optional("tags", extras.tags.as_deref());
        optional("metadata", extras.metadata.as_deref());
        optional("version", extras.version.map(|version| version.to_string()).as_deref());
    }
}

/// The event that an entry's fields tell. A field that stands twice counts as first written.
pub fn decode_entry<'a>(
    run_id: &RunId,
    id: EventId,
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> StoredEvent {
    let raw = RawEntry::read(fields);
    let kind = raw.kind();
    raw.into_event(run_id, id, kind)
}

/// The same for an entry of a job stream, whose type may be named in its data alone.
pub fn decode_job_entry<'a>(
    run_id: &RunId,
    id: EventId,
    fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
) -> StoredEvent {
    let raw = RawEntry::read(fields);
    let kind = match raw.data.and_then(utf8).filter(|_| !raw.names_a_type()) {
        Some(data) => job_type::of_data(data).unwrap_or_else(EventType::unknown),
        None => raw.kind(),
    };
    raw.into_event(run_id, id, kind)
}

/// The values of the fields we know, as they stand in the entry.
#[derive(Default)]
struct RawEntry<'a> {
    timestamp: Option<&'a [u8]>,
    sequence: Option<&'a [u8]>,
    agent_id: Option<&'a [u8]>,
    agent_type: Option<&'a [u8]>,
    agent_name: Option<&'a [u8]>,
    team_name: Option<&'a [u8]>,
    category: Option<&'a [u8]>,
    action: Option<&'a [u8]>,
    flat_type: Option<&'a [u8]>,
    data: Option<&'a [u8]>,
    source: Option<&'a [u8]>,
    event_id: Option<&'a [u8]>,
    correlation_id: Option<&'a [u8]>,
    trace_id: Option<&'a [u8]>,
    session_id: Option<&'a [u8]>,
    conversation_id: Option<&'a [u8]>,
    message_id: Option<&'a [u8]>,
    priority: Option<&'a [u8]>,
    tags: Option<&'a [u8]>,
    metadata: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
}

impl<'a> RawEntry<'a> {
    fn read(fields: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        let mut raw = Self::default();
        for (name, value) in fields {
            if let Some(slot) = raw.slot(name) {
                slot.get_or_insert(value);
            }
        }
        raw
    }

    fn slot(&mut self, name: &[u8]) -> Option<&mut Option<&'a [u8]>> {
        Some(match name {
            b"timestamp" => &mut self.timestamp,
            b"sequence" => &mut self.sequence,
            b"source_agent_id" => &mut self.agent_id,
            b"source_agent_type" => &mut self.agent_type,
            b"source_agent_name" => &mut self.agent_name,
            b"source_team_name" => &mut self.team_name,
            b"event_category" => &mut self.category,
            b"event_action" => &mut self.action,
            b"event_type" | b"eventType" => &mut self.flat_type,
            b"data" => &mut self.data,
            b"source" => &mut self.source,
            b"event_id" => &mut self.event_id,
            b"correlation_id" => &mut self.correlation_id,
            b"trace_id" => &mut self.trace_id,
            b"session_id" => &mut self.session_id,
            b"conversation_id" => &mut self.conversation_id,
            b"message_id" => &mut self.message_id,
            b"priority" => &mut self.priority,
            b"tags" => &mut self.tags,
            b"metadata" => &mut self.metadata,
            b"version" => &mut self.version,
            _ => return None,
        })
    }

    fn into_event(self, run_id: &RunId, id: EventId, kind: EventType) -> StoredEvent {
        let timestamp = self.timestamp.and_then(utf8).and_then(|t| Timestamp::parse(t).ok());
        let event = Event {
            run_id: run_id.clone(),
            timestamp: timestamp.unwrap_or_else(|| Timestamp::from_ms(id.ms)),
            source: self.source(),
            kind,
            data: self.data.map_or_else(|| "null".into(), json_or_string),
            event_id: self.event_id.and_then(utf8).and_then(|t| EventKey::parse(t).ok()),
            extras: self.extras(),
        };
        StoredEvent { id, sequence: self.sequence.and_then(parse_sequence), event }
    }

    fn names_a_type(&self) -> bool {
        let flat = self.flat_type.is_some_and(|name| !name.is_empty());
        flat || self.category.is_some() || self.action.is_some()
    }

    fn kind(&self) -> EventType {
        let name = |given: Option<&'a [u8]>| {
            given.filter(|text| is_name(text)).and_then(utf8).unwrap_or("unknown")
        };
        let flat = || job_type::of_name(utf8(self.flat_type?)?);
        match (self.category, self.action) {
            (None, None) => flat(),
            (category, action) => EventType::from_parts(name(category), name(action)).ok(),
        }
        .unwrap_or_else(EventType::unknown)
    }

    fn source(&self) -> Option<Arc<Source>> {
        let fit = |json: &&str| json_text::check(json).is_ok();
        let json = self.source.and_then(utf8).filter(fit);
        let told = json.and_then(|json| Source::parse(json).ok());
        let json = json.filter(|_| told.is_some()).map(Into::into);
        let told = told.unwrap_or_default();
        let source = Source {
            agent_id: text(self.agent_id).or(told.agent_id),
            agent_type: text(self.agent_type).or(told.agent_type),
            agent_name: text(self.agent_name).or(told.agent_name),
            team_name: text(self.team_name).or(told.team_name),
            json,
        };
        (source != Source::default()).then(|| Arc::new(source))
    }

    fn extras(&self) -> Option<Arc<Extras>> {
        let extras = Extras {
            correlation_id: text(self.correlation_id),
            trace_id: text(self.trace_id),
            session_id: text(self.session_id),
            conversation_id: text(self.conversation_id),
            message_id: text(self.message_id),
            priority: self.priority.and_then(utf8).and_then(Priority::parse),
            tags: self.tags.map(json_or_string),
            metadata: self.metadata.map(json_or_string),
            version: self.version.and_then(utf8).and_then(Version::parse),
        };
        (extras != Extras::default()).then(|| Arc::new(extras))
    }
}

/// The sequence field's value, where it is a number that a counter can have reached.
pub fn parse_sequence(value: &[u8]) -> Option<Sequence> {
    /// Redis scripts count in doubles, which are exact up to here.
    const MAX: u64 = 1 << 53;
    let digits = value.iter().all(u8::is_ascii_digit);
    let number = utf8(value).filter(|_| digits)?.parse().ok()?;
    (number <= MAX).then_some(Sequence(number))
}

fn utf8(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok()
}

/// Text of a field where it is not empty; bytes that are not UTF-8 are replaced.
fn text(value: Option<&[u8]>) -> Option<Box<str>> {
    value.filter(|v| !v.is_empty()).map(|v| String::from_utf8_lossy(v).into())
}

/// The value itself where it is JSON fit to be carried, else a JSON string of it.
fn json_or_string<T: for<'a> From<&'a str>>(value: &[u8]) -> T {
    let json =
        utf8(value).and_then(|t| serde_json::from_str::<&RawValue>(t).ok()).map(RawValue::get);
    if let Some(json) = json.filter(|json| json_text::check(json).is_ok()) {
        return json.into();
    }
    let text: Cow<'_, str> = String::from_utf8_lossy(value);
    let mut out = Vec::with_capacity(text.len() + 2);
    push_string(&mut out, &text);
    String::from_utf8(out).unwrap_or_default().as_str().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NewEvent;
    use crate::event::parse::{EventLimits, parse_event};
    use proptest::prelude::*;

    fn run() -> RunId {
        RunId::parse("7").unwrap()
    }

    fn decode(fields: &[(&[u8], &[u8])]) -> StoredEvent {
        decode_entry(&run(), EventId::new(1_704_067_200_001, 0), fields.iter().copied())
    }

    #[test]
    fn an_event_reads_back_from_its_fields() {
        let limits = EventLimits { max_data: 1 << 20 };
        for json in [
            r#"{"type":"a.b"}"#,
            r#"{"type":"a.b","data":{"x":1.10},"source":{"agent_id":"r1","node_name":"n"},"event_id":"k",
                "correlation_id":"c","trace_id":"t","session_id":"s","conversation_id":"v","message_id":"m",
                "priority":"low","tags":["x"],"metadata":{"y":[1]},"version":2}"#,
            r#"{"type":"a.b","source":{"agent_name":"n","team_name":"t","agent_type":"y"}}"#,
        ] {
            let event = parse_event(&run(), json, Timestamp::from_ms(5), limits).unwrap();
            let mut fields = Vec::new();
            encode_entry(&event, |name, value| fields.push((name, value.to_owned())));
            assert_eq!(fields.len(), ALWAYS + further_fields(&event));
            let always = fields[..ALWAYS].iter().map(|(name, _)| *name);
            assert!(always.eq([
                "timestamp",
                "source_agent_id",
                "source_agent_type",
                "source_agent_name",
                "source_team_name",
                "event_category",
                "event_action",
                "data",
            ]));
            let pairs = fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()));
            assert_eq!(decode_entry(&run(), EventId::new(5, 0), pairs).event, event);
        }
    }

    #[test]
    fn what_says_nothing_is_left_out_before_it_is_stored() {
        // So that whoever gets the event from the hub that stored it sees what others read.
        let limits = EventLimits { max_data: 100 };
        let bare = r#"{"type":"a.b","event_id":"k"#;
        for more in [
            r#"","correlation_id":"","trace_id":"","session_id":"","conversation_id":"","message_id":""}"#,
            r#"","trace_id":"","message_id":"m","source":{"agent_id":"","team_name":"t"}}"#,
            r#"","source":{"agent_id":""}}"#,
        ] {
            let event =
                parse_event(&run(), &format!("{bare}{more}"), Timestamp::from_ms(5), limits);
            let mut event = event.unwrap();
            for (source, data) in [(event.source.clone(), "1"), (Some(Arc::default()), " {}\n")] {
                (event.source, event.data) = (source, data.into());
                let new = NewEvent::new(event.clone());
                let mut fields = Vec::new();
                encode_entry(&new.event, |name, value| fields.push((name, value.to_owned())));
                let pairs = fields.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes()));
                assert_eq!(decode_entry(&run(), EventId::new(5, 0), pairs).event, new.event);
            }
        }
    }

    #[test]
    fn foreign_oddities_get_defaults() {
        let bare = decode(&[]);
        assert_eq!(bare.event.kind.as_str(), "unknown.unknown");
        assert_eq!(bare.event.timestamp.to_string(), "2024-01-01T00:00:00.001Z");
        assert_eq!((bare.sequence, &*bare.event.data, bare.event.source), (None, "null", None));
        let odd = decode(&[
            (b"timestamp", b"noon"),
            (b"sequence", b"-3"),
            (b"event_category", b"llm\nid: 9-9"),
            (b"event_action", b"stream"),
            (b"data", b"{broken"),
            (b"event_id", b"a b"),
            (b"priority", b"max"),
            (b"version", b"1.5"),
            (b"source", b"[]"),
            (b"source_agent_id", b"\xff"),
        ]);
        assert_eq!(odd.event.kind.as_str(), "unknown.stream");
        assert_eq!(&*odd.event.data, "\"{broken\"");
        assert_eq!((odd.sequence, odd.event.event_id, odd.event.extras), (None, None, None));
        assert_eq!(odd.event.source.unwrap().agent_id.as_deref(), Some("\u{fffd}"));
        assert_eq!(decode(&[(b"event_type", b"llm_stream")]).event.kind.as_str(), "llm.stream");
        assert_eq!(&*decode(&[(b"data", b"\"\\ud800\"")]).event.data, r#""\"\\ud800\"""#);
        assert_eq!(&*decode(&[(b"data", b"\xff\0")]).event.data, "\"\u{fffd}\\u0000\"");
        assert_eq!(parse_sequence(b"9007199254740993"), None);
    }

    #[test]
    fn only_a_job_may_name_its_type_in_its_data() {
        let fields: [(&[u8], &[u8]); 3] = [
            (b"timestamp", b""),
            (b"event_type", b""),
            (b"data", br#"{"eventType":"taskProgress"}"#),
        ];
        let job = |fields: &[(&[u8], &[u8])]| {
            decode_job_entry(&run(), EventId::new(5, 0), fields.iter().copied()).event
        };
        assert_eq!(decode(&fields).event.kind.as_str(), "unknown.unknown");
        let event = job(&fields);
        assert_eq!(event.kind.as_str(), "task.progress");
        assert_eq!(&*event.data, r#"{"eventType":"taskProgress"}"#);
        assert_eq!(event.timestamp.to_string(), "1970-01-01T00:00:00.005Z");
        let named: [(&[u8], &[u8]); 2] =
            [(b"eventType", b"taskStarted"), (b"data", br#"{"eventType":"finish"}"#)];
        assert_eq!(job(&named).kind.as_str(), "task.started");
        assert_eq!(job(&[]).kind.as_str(), "unknown.unknown");
    }

    proptest! {
        #[test]
        fn any_bytes_decode_to_an_event_with_fit_json(
            fields in proptest::collection::vec((0_usize..21, proptest::collection::vec(any::<u8>(), 0..40)), 0..12)
        ) {
            const NAMES: [&[u8]; 21] = [b"timestamp", b"sequence", b"source_agent_id", b"source_agent_type",
                b"source_agent_name", b"source_team_name", b"event_category", b"event_action", b"event_type",
                b"data", b"source", b"event_id", b"correlation_id", b"trace_id", b"session_id",
                b"conversation_id", b"message_id", b"priority", b"tags", b"metadata", b"version"];
            let pairs: Vec<_> = fields.iter().map(|(i, v)| (NAMES[*i], v.as_slice())).collect();
            let event = decode(&pairs).event;
            prop_assert!(serde_json::from_str::<serde_json::Value>(&event.data).is_ok());
            prop_assert!(EventType::parse(event.kind.as_str()).is_ok());
        }
    }
}
