//! Events as the bytes readers get, encoded once and shared by all of them.
//!
//! A batch is one buffer of whole SSE frames, one behind the other. The JSON of an event, which history,
//! NDJSON and WebSocket readers get, is a slice of its frame's `data:` line; so is everything that a
//! reader with a filter, another framing or a cursor inside the batch gets. No frame can be forged from
//! within: a type is checked text, an id is two numbers, and the JSON stands on one line.

use super::json_text::{push_number, push_one_line, push_string};
use super::{
    EventId, EventType, Filter, Lifecycle, LifecycleRules, Sequence, Source, StoredEvent, Upcasters,
};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// How a reader wants its SSE frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// With an `event:` line that names the type.
    #[default]
    Typed,
    /// Without it, for clients that only have `onmessage`.
    Message,
}

/// What turns a stored event into what readers see of it.
#[derive(Debug, Clone, Default)]
pub struct ReadRules {
    /// What it does to its run.
    pub lifecycle: LifecycleRules,
    /// What turns its data into today's.
    pub upcasters: Upcasters,
}

/// Consecutive events of one run, encoded.
#[derive(Debug)]
pub struct EncodedBatch {
    /// The position right before the first event: whoever has read up to here has missed nothing.
    pub prev: EventId,
    /// The last event's position.
    pub last: EventId,
    bytes: Bytes,
    events: Box<[EncodedEvent]>,
    changes_status: bool,
}

/// One event of a batch and where its bytes lie.
#[derive(Debug)]
pub struct EncodedEvent {
    /// Its position.
    pub id: EventId,
    /// Its number, if its writer gave one.
    pub sequence: Option<Sequence>,
    /// Its type.
    pub kind: EventType,
    /// What it does to the run's status.
    pub lifecycle: Option<Lifecycle>,
    source: Option<Arc<Source>>,
    frame: Range<usize>,
    /// The `event:` line, with its line break.
    type_line: Range<usize>,
    json: Range<usize>,
}

impl EncodedBatch {
    /// Encodes events that follow `prev` in their run.
    pub fn encode(prev: EventId, events: Vec<StoredEvent>, rules: &ReadRules) -> Self {
        let room = events.iter().map(frame_size).sum();
        Self::encode_all(prev, events.into_iter().map(|event| (event, 1)), room, rules)
    }

    /// Encodes events that follow `prev` in their run, each with the number of those it stands for.
    pub fn encode_folded(
        prev: EventId,
        events: Vec<(StoredEvent, u32)>,
        rules: &ReadRules,
    ) -> Self {
        let room = events.iter().map(|(e, _)| frame_size(e)).sum();
        Self::encode_all(prev, events.into_iter(), room, rules)
    }

    fn encode_all(
        prev: EventId,
        events: impl Iterator<Item = (StoredEvent, u32)>,
        room: usize,
        rules: &ReadRules,
    ) -> Self {
        let mut out = Vec::with_capacity(room);
        let frames = events.map(|(event, n)| push_frame(&mut out, event, n, rules));
        let events: Box<[EncodedEvent]> = frames.collect();
        let last = events.last().map_or(prev, |event| event.id);
        let changes_status = events.iter().any(|event| event.lifecycle.is_some());
        Self { prev, last, bytes: out.into(), events, changes_status }
    }

    /// The events, in order.
    pub fn events(&self) -> &[EncodedEvent] {
        &self.events
    }

    /// The number of bytes in all frames.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The JSON of one event of this batch, on one line.
    pub fn json(&self, event: &EncodedEvent) -> Bytes {
        self.bytes.slice(event.json.clone())
    }

    /// The events behind a position.
    pub fn after(&self, position: EventId) -> &[EncodedEvent] {
        &self.events[self.events.partition_point(|e| e.id <= position)..]
    }

    /// What the last event behind a position that does anything to the run's status does to it.
    pub fn lifecycle_after(&self, position: EventId) -> Option<Lifecycle> {
        if !self.changes_status {
            return None;
        }
        self.after(position).iter().rev().find_map(|event| event.lifecycle)
    }

    /// Whether any event of the batch does anything to the run's status.
    pub fn changes_status(&self) -> bool {
        self.changes_status
    }

    /// Calls `push` with the SSE frames of the wanted events behind a position, in as few slices of the
    /// shared buffer as can be.
    pub fn frames_after(
        &self,
        position: EventId,
        filter: &Filter,
        framing: Framing,
        mut push: impl FnMut(Bytes),
    ) {
        let events = self.after(position);
        if let (Framing::Typed, true, Some(first)) = (framing, filter.wants_all(), events.first()) {
            return push(self.bytes.slice(first.frame.start..));
        }
        let mut span: Range<usize> = 0..0;
        let mut add = |part: Range<usize>| {
            if part.start == span.end {
                span.end = part.end;
            } else {
                if !span.is_empty() {
                    push(self.bytes.slice(span.clone()));
                }
                span = part;
            }
        };
        for event in events {
            if !event.is_wanted(filter) {
                continue;
            }
            match framing {
                Framing::Typed => add(event.frame.clone()),
                Framing::Message => {
                    add(event.frame.start..event.type_line.start);
                    add(event.type_line.end..event.frame.end);
                }
            }
        }
        // An empty part far away flushes the last span.
        add(usize::MAX..usize::MAX);
    }
}

impl EncodedEvent {
    /// Whether a reader with this filter gets the event.
    pub fn is_wanted(&self, filter: &Filter) -> bool {
        filter.wants_all() || filter.wants(&self.kind, self.source.as_deref())
    }
}

/// About the bytes of an event's frame.
fn frame_size(stored: &StoredEvent) -> usize {
    stored.event.data.len() + 384
}

fn push_frame(
    out: &mut Vec<u8>,
    stored: StoredEvent,
    folded: u32,
    rules: &ReadRules,
) -> EncodedEvent {
    let start = out.len();
    out.extend_from_slice(b"id: ");
    stored.id.push_to(out);
    out.push(b'\n');
    let type_start = out.len();
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(stored.event.kind.as_str().as_bytes());
    out.push(b'\n');
    let type_line = type_start..out.len();
    out.extend_from_slice(b"data: ");
    let json_start = out.len();
    push_json(out, &stored, &rules.upcasters);
    if folded > 1 {
        // Within the object's last brace.
        out.pop();
        out.extend_from_slice(br#","folded":"#);
        push_number(out, folded.into());
        out.push(b'}');
    }
    let json = json_start..out.len();
    out.extend_from_slice(b"\n\n");
    EncodedEvent {
        id: stored.id,
        sequence: stored.sequence,
        lifecycle: rules.lifecycle.of(&stored.event.kind),
        kind: stored.event.kind,
        source: stored.event.source,
        frame: start..out.len(),
        type_line,
        json,
    }
}

/// Appends the event as CONTRACT section 2 shows it, on one line, with its data in today's version. All
/// readers get it from here, live, of the past, and again.
pub fn push_json(out: &mut Vec<u8>, stored: &StoredEvent, upcasters: &Upcasters) {
    let event = &stored.event;
    let read = upcasters.read(event);
    out.extend_from_slice(br#"{"id":""#);
    stored.id.push_to(out);
    out.extend_from_slice(br#"","run_id":""#);
    out.extend_from_slice(event.run_id.as_str().as_bytes());
    out.extend_from_slice(br#"","timestamp":""#);
    event.timestamp.push_to(out);
    out.extend_from_slice(br#"","sequence":"#);
    match stored.sequence {
        Some(Sequence(number)) => push_number(out, number),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(br#","source":"#);
    match &event.source {
        Some(source) => source.push_json(out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(br#","event":{"category":""#);
    out.extend_from_slice(event.kind.category().as_bytes());
    out.extend_from_slice(br#"","action":""#);
    out.extend_from_slice(event.kind.action().as_bytes());
    out.extend_from_slice(br#""},"data":"#);
    push_one_line(out, &read.data);
    let mut text = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            push_name(out, name);
            push_string(out, value);
        }
    };
    text("event_id", event.event_id.as_ref().map(super::EventKey::as_str));
    if let Some(extras) = &event.extras {
        text("correlation_id", extras.correlation_id.as_deref());
        text("trace_id", extras.trace_id.as_deref());
        text("session_id", extras.session_id.as_deref());
        text("conversation_id", extras.conversation_id.as_deref());
        text("message_id", extras.message_id.as_deref());
        text("priority", extras.priority.map(super::Priority::as_str));
        for (name, json) in [("tags", &extras.tags), ("metadata", &extras.metadata)] {
            if let Some(json) = json {
                push_name(out, name);
                push_one_line(out, json);
            }
        }
    }
    if let Some(version) = read.version {
        push_name(out, "version");
        push_number(out, version.get().into());
    }
    out.push(b'}');
}

fn push_name(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{RunId, decode_entry};

    fn batch(types: &[&str]) -> EncodedBatch {
        let run = RunId::parse("7").unwrap();
        let events = types.iter().zip(1..).map(|(kind, n)| {
            let (category, action) = kind.split_once('.').unwrap();
            let fields: [(&[u8], &[u8]); 4] = [
                (b"event_category", category.as_bytes()),
                (b"event_action", action.as_bytes()),
                (b"sequence", b"1"),
                (b"data", b"{\n\"a\":\r\n1.10}"),
            ];
            decode_entry(&run, EventId::new(n, 0), fields)
        });
        EncodedBatch::encode(EventId::START, events.collect(), &ReadRules::default())
    }

    fn text(
        batch: &EncodedBatch,
        after: u64,
        types: Option<&str>,
        framing: Framing,
    ) -> (usize, String) {
        let (mut count, mut out) = (0, Vec::new());
        let filter = Filter::parse(types, None).unwrap();
        batch.frames_after(EventId::new(after, 0), &filter, framing, |bytes| {
            count += 1;
            out.extend_from_slice(&bytes);
        });
        (count, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_frame_is_three_lines_and_its_json_is_as_the_contract_shows() {
        let one = batch(&["llm.stream"]);
        let (count, frame) = text(&one, 0, None, Framing::Typed);
        assert_eq!(count, 1);
        assert_eq!(
            frame,
            concat!(
                "id: 1-0\nevent: llm.stream\ndata: ",
                r#"{"id":"1-0","run_id":"7","timestamp":"1970-01-01T00:00:00.001Z","sequence":1,"source":null,"#,
                r#""event":{"category":"llm","action":"stream"},"data":{ "a":  1.10}}"#,
                "\n\n"
            )
        );
        let json = one.json(&one.events()[0]);
        assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok());
        let (_, message) = text(&one, 0, None, Framing::Message);
        assert_eq!(message, frame.replace("event: llm.stream\n", ""));
    }

    #[test]
    fn a_reader_gets_what_it_wants_behind_its_cursor_in_few_slices() {
        let all = batch(&["a.b", "a.c", "b.b", "a.b", "a.b"]);
        let ids = |text: &str| {
            text.lines()
                .filter_map(|l| l.strip_prefix("id: ").map(str::to_owned))
                .collect::<Vec<_>>()
        };
        let (count, frames) = text(&all, 2, None, Framing::Typed);
        assert_eq!((count, ids(&frames)), (1, vec!["3-0".into(), "4-0".into(), "5-0".into()]));
        let (count, frames) = text(&all, 0, Some("a.*"), Framing::Typed);
        assert_eq!((count, ids(&frames).len()), (2, 4));
        assert_eq!(text(&all, 0, Some("c.*"), Framing::Typed), (0, String::new()));
        assert_eq!(text(&all, 5, None, Framing::Message), (0, String::new()));
    }
}
