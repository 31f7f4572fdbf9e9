//! Deltas: the pieces of text a message comes in (`llm.stream`, `message.delta`), and how those of one
//! message that stand right behind each other become one event. Pure.

use super::json_text::push_string;
use super::{Event, EventType, Filter, Source, StoredEvent};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// The types that are deltas.
const TYPES: [&str; 2] = ["llm.stream", "message.delta"];

/// Which message a delta belongs to: that of its `message_id`, else the one its source is at.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageKey {
    kind: EventType,
    message_id: Option<Box<str>>,
    source: Option<Arc<Source>>,
}

/// A piece of a message's text.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    /// Its message.
    pub key: MessageKey,
    /// The text.
    pub text: String,
    /// The key of the data that holds it.
    field: &'static str,
}

/// The text in data, under either key.
#[derive(Deserialize)]
struct Texts<'a> {
    #[serde(borrow)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow)]
    delta: Option<Cow<'a, str>>,
}

impl Delta {
    /// The delta that an event is; none if it is none, or its data holds no text.
    pub fn of(event: &Event) -> Option<Self> {
        if !TYPES.contains(&event.kind.as_str()) || !event.data.trim_start().starts_with('{') {
            return None;
        }
        let texts: Texts<'_> = serde_json::from_str(&event.data).ok()?;
        let (field, text) = match (texts.content, texts.delta) {
            (None, Some(text)) => ("delta", text),
            (Some(text), None) => ("content", text),
            // Of two texts nobody knows which is the piece.
            _ => return None,
        };
        let message_id = event.extras.as_ref().and_then(|extras| extras.message_id.clone());
        let source = if message_id.is_some() { None } else { event.source.clone() };
        let key = MessageKey { kind: event.kind.clone(), message_id, source };
        Some(Self { key, text: text.into_owned(), field })
    }
}

/// The members of an object in their order, each as it is written.
#[derive(Default)]
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

/// Deltas of one message that stand right behind each other, for a reader.
struct Run {
    key: MessageKey,
    text: String,
    count: u32,
    last: StoredEvent,
    field: &'static str,
    /// Where it begins and where it ends among what is done.
    begun: usize,
    place: usize,
}

impl Run {
    fn into_event(self) -> (StoredEvent, u32) {
        let mut folded = self.last;
        if self.count > 1 {
            // It was an object when its text was read.
            let Members(members) = serde_json::from_str(&folded.event.data).unwrap_or_default();
            let mut data = Vec::with_capacity(folded.event.data.len() + self.text.len());
            for (key, value) in members {
                data.push(if data.is_empty() { b'{' } else { b',' });
                push_string(&mut data, &key);
                data.push(b':');
                if key == self.field {
                    push_string(&mut data, &self.text);
                } else {
                    data.extend_from_slice(value.get().as_bytes());
                }
            }
            data.push(b'}');
            folded.event.data = String::from_utf8_lossy(&data).into();
        }
        (folded, self.count)
    }
}

/// Folds the deltas of each message that stand right behind each other into one event: the last one, with
/// all their text. Gives each event with the number of those it stands for. What the reader does not want
/// stays, and separates none. With `open_end` more follows that may belong to the last message: its deltas
/// are left out, to be read again with the rest, unless they are all there is.
pub fn fold(events: Vec<StoredEvent>, filter: &Filter, open_end: bool) -> Vec<(StoredEvent, u32)> {
    let mut done: Vec<(StoredEvent, u32)> = Vec::with_capacity(events.len());
    let mut open: Option<Run> = None;
    for stored in events {
        if !filter.wants_event(&stored.event) {
            done.push((stored, 1));
            continue;
        }
        let delta = Delta::of(&stored.event);
        match (&mut open, delta) {
            (Some(run), Some(delta)) if run.key == delta.key => {
                run.text.push_str(&delta.text);
                (run.count, run.last, run.field) = (run.count + 1, stored, delta.field);
                run.place = done.len();
            }
            (_, delta) => {
                close(&mut done, open.take());
                match delta {
                    None => done.push((stored, 1)),
                    Some(Delta { key, text, field }) => {
                        let place = done.len();
                        let (count, last, begun) = (1, stored, place);
                        open = Some(Run { key, text, count, last, field, begun, place });
                    }
                }
            }
        }
    }
    match open {
        // What stands between its deltas is read again as well.
        Some(run) if open_end && run.begun > 0 => done.truncate(run.begun),
        run => close(&mut done, run),
    }
    done
}

fn close(done: &mut Vec<(StoredEvent, u32)>, run: Option<Run>) {
    if let Some(run) = run {
        done.insert(run.place, run.into_event());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::parse::{EventLimits, parse_event};
    use crate::event::{EventId, RunId, Sequence, Timestamp};
    use proptest::prelude::*;

    fn stored(n: u64, json: &str) -> StoredEvent {
        let run = RunId::parse("7").unwrap();
        let limits = EventLimits { max_data: 1 << 20 };
        let event = parse_event(&run, json, Timestamp::from_ms(n), limits).unwrap();
        StoredEvent { id: EventId::new(n, 0), sequence: Some(Sequence(n)), event }
    }

    fn all(jsons: &[&str]) -> Vec<StoredEvent> {
        jsons.iter().zip(1..).map(|(json, n)| stored(n, json)).collect()
    }

    fn shown(folded: &[(StoredEvent, u32)]) -> Vec<(u64, u32, String)> {
        folded.iter().map(|(s, n)| (s.id.ms, *n, s.event.data.to_string())).collect()
    }

    #[test]
    fn deltas_of_one_message_right_behind_each_other_are_one_event() {
        let events = all(&[
            r#"{"type":"llm.stream","source":{"agent_id":"a"},"data":{"content":"He"}}"#,
            r#"{"type":"llm.stream","source":{"agent_id":"a"},"data":{"z":1.10,"content":"llo","n":12345678901234567890123}}"#,
            r#"{"type":"llm.stream","source":{"agent_id":"b"},"data":{"content":"x"}}"#,
            r#"{"type":"message.delta","message_id":"m","source":{"agent_id":"a"},"data":{"delta":"1"}}"#,
            r#"{"type":"message.delta","message_id":"m","source":{"agent_id":"b"},"data":{"delta":"2"}}"#,
            r#"{"type":"message.delta","message_id":"n","data":{"delta":"3"}}"#,
            r#"{"type":"tool.end","data":{"content":"no delta"}}"#,
            r#"{"type":"message.delta","message_id":"n","data":{"delta":"4"}}"#,
            r#"{"type":"message.delta","message_id":"n","data":{"delta":7}}"#,
        ]);
        let folded = fold(events, &Filter::default(), false);
        assert_eq!(
            shown(&folded),
            [
                (2, 2, r#"{"z":1.10,"content":"Hello","n":12345678901234567890123}"#.to_owned()),
                (3, 1, r#"{"content":"x"}"#.to_owned()),
                (5, 2, r#"{"delta":"12"}"#.to_owned()),
                (6, 1, r#"{"delta":"3"}"#.to_owned()),
                (7, 1, r#"{"content":"no delta"}"#.to_owned()),
                (8, 1, r#"{"delta":"4"}"#.to_owned()),
                (9, 1, r#"{"delta":7}"#.to_owned()),
            ]
        );
    }

    #[test]
    fn what_the_reader_does_not_want_separates_nothing_and_keeps_its_place() {
        let delta = r#"{"type":"llm.stream","data":{"content":"a"}}"#;
        let events = all(&[delta, r#"{"type":"tool.end"}"#, delta, r#"{"type":"tool.end"}"#]);
        let filter = Filter::parse(Some("llm.*"), None).unwrap();
        let folded = fold(events.clone(), &filter, false);
        let ids: Vec<_> = folded.iter().map(|(s, n)| (s.id.ms, *n)).collect();
        assert_eq!(ids, [(2, 1), (3, 2), (4, 1)]);
        // More may follow: the message is read again, if anything stands before it.
        assert_eq!(fold(events.clone(), &filter, true).len(), 3, "it is all there is");
        let mut behind = all(&[r#"{"type":"llm.end","data":{"content":"x"}}"#]);
        behind.extend(events.into_iter().map(|mut s| {
            s.id.ms += 1;
            s
        }));
        let folded = fold(behind, &filter, true);
        assert_eq!(folded.iter().map(|(s, _)| s.id.ms).collect::<Vec<_>>(), [1]);
    }

    proptest! {
        /// Whatever stands where, and wherever it is cut into pages: all the text is there, in order, and
        /// the ids rise.
        #[test]
        fn folded_text_is_the_concatenation_whatever_the_cut(
            kinds in prop::collection::vec((0_u8..4, 0_u8..3), 1..60),
            cuts in prop::collection::vec(1_usize..12, 1..60),
            only_deltas in any::<bool>(),
        ) {
            let json = |(i, (kind, who)): (usize, &(u8, u8))| match kind {
                0 => format!(r#"{{"type":"llm.stream","source":{{"agent_id":"{who}"}},"data":{{"content":"<{i}>"}}}}"#),
                1 => format!(r#"{{"type":"message.delta","message_id":"{who}","data":{{"delta":"<{i}>"}}}}"#),
                2 => format!(r#"{{"type":"llm.stream","source":{{"agent_id":"{who}"}},"data":{{"delta":"<{i}>"}}}}"#),
                _ => format!(r#"{{"type":"tool.end","data":{{"n":{i}}}}}"#),
            };
            let jsons: Vec<String> = kinds.iter().enumerate().map(json).collect();
            let events: Vec<_> = jsons.iter().zip(1..).map(|(json, n)| stored(n, json)).collect();
            let filter = match only_deltas {
                true => Filter::parse(Some("llm.*,message.*"), None).unwrap(),
                false => Filter::default(),
            };
            let text = |events: &[StoredEvent]| -> String {
                let wanted = events.iter().filter(|s| filter.wants_event(&s.event));
                wanted.filter_map(|s| Delta::of(&s.event)).map(|delta| delta.text).collect()
            };
            let (mut from, mut cuts, mut out, mut counted) = (0, cuts.iter().cycle(), Vec::new(), 0);
            while from < events.len() {
                let end = (from + cuts.next().unwrap()).min(events.len());
                let page = fold(events[from..end].to_vec(), &filter, end < events.len());
                prop_assert!(!page.is_empty(), "it always goes on");
                counted += page.iter().map(|(_, n)| n).sum::<u32>();
                from = usize::try_from(page.last().unwrap().0.id.ms).unwrap();
                out.extend(page.into_iter().map(|(s, _)| s));
            }
            prop_assert!(out.is_sorted_by(|a, b| a.id < b.id));
            prop_assert_eq!(counted as usize, events.len());
            prop_assert_eq!(text(&out), text(&events));
        }
    }
}
