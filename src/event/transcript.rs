//! The messages of a run, made of its events: each `message.complete`, and what is still being said
//! (`llm.stream` and `message.delta` that no completion has ended). Pure.

use super::delta::{Delta, MessageKey};
use super::{Event, EventId, Source, StoredEvent};
use serde_json::Value;
use std::collections::HashSet;
use std::sync::Arc;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The publisher's id of it; where there is none, the id of the event it was completed by, or begun.
    pub message_id: String,
    /// Who speaks; `assistant` where nobody says.
    pub role: String,
    /// The text so far.
    pub content: String,
    /// The agent's name, or its id.
    pub agent: Option<String>,
    /// The node it came from.
    pub node: Option<String>,
    /// The stage it says it belongs to, or the one the run was in.
    pub stage: Option<String>,
    /// The trace.
    pub trace_id: Option<String>,
    /// Its first event, a delta or the completion.
    pub first_id: EventId,
    /// Its last event.
    pub last_id: EventId,
    /// Whether it is complete.
    pub complete: bool,
}

/// Reads events in order and makes messages of them.
#[derive(Debug, Default)]
pub struct Transcript {
    messages: Vec<Message>,
    open: Vec<Open>,
    /// The ids of those that are complete.
    completed: HashSet<String>,
    stage: Option<String>,
    /// Who said what in the message completed last, and whether it had an id.
    last: Option<(Option<String>, String, String, bool)>,
    /// Of messages up to here nobody wants the text.
    after: EventId,
}

/// A message that is being said, or was and is not complete.
#[derive(Debug)]
struct Open {
    key: MessageKey,
    source: Option<Arc<Source>>,
    has_id: bool,
    message: Message,
    /// Its end was said without its completion; that may still come.
    ended: bool,
}

impl Transcript {
    /// One for a reader who has all messages up to here: of those nothing is kept.
    pub fn after(position: EventId) -> Self {
        Self { after: position, ..Self::default() }
    }

    /// How many messages behind that position are complete, and the bytes of their text.
    pub fn complete_so_far(&self) -> (usize, usize) {
        let complete = self.messages.iter().filter(|message| message.complete);
        complete.fold((0, 0), |(count, bytes), m| (count + 1, bytes + m.content.len()))
    }

    /// Takes the next event.
    pub fn push(&mut self, stored: &StoredEvent) {
        let event = &stored.event;
        match event.kind.as_str() {
            "message.complete" => self.complete(stored),
            "llm.stream" | "message.delta" => self.say(stored),
            "llm.start" => {
                // Whatever this source said before was another message.
                let is_its = |open: &mut Open| !open.has_id && open.source == event.source;
                let broken: Vec<Open> = self.open.extract_if(.., is_its).collect();
                let unsaid = broken.into_iter().filter(|open| !open.ended);
                self.messages.extend(unsaid.map(|open| open.message));
            }
            "llm.end" => {
                let id = message_id(event);
                for open in &mut self.open {
                    open.ended |= match (&id, open.has_id) {
                        (Some(id), true) => open.message.message_id == *id,
                        (_, false) => open.source == event.source,
                        (None, true) => false,
                    };
                }
            }
            "stage.change" => {
                let data = data(event);
                let text = |key| data.get(key).and_then(Value::as_str).map(str::to_owned);
                self.stage = text("to_stage").or_else(|| text("new_stage")).or(self.stage.take());
            }
            _ => {}
        }
    }

    /// All messages, those that are not complete behind the others; by the event they ended with.
    pub fn finish(mut self) -> Vec<Message> {
        let open = self.open.into_iter().filter(|open| !open.ended).map(|open| open.message);
        self.messages.extend(open);
        self.messages.sort_by_key(|message| (!message.complete, message.last_id));
        self.messages
    }

    fn say(&mut self, stored: &StoredEvent) {
        let Some(Delta { key, text, .. }) = Delta::of(&stored.event) else { return };
        let role = data(&stored.event).get("role").and_then(Value::as_str).map(str::to_owned);
        if let Some(open) = self.open.iter_mut().find(|open| open.key == key && !open.ended) {
            open.message.content.push_str(&text);
            open.message.last_id = stored.id;
            if let Some(role) = role {
                open.message.role = role;
            }
            return;
        }
        let id = message_id(&stored.event);
        if id.as_ref().is_some_and(|id| self.completed.contains(id)) {
            // A straggler of a message that is complete.
            return;
        }
        let has_id = id.is_some();
        let message = Message {
            message_id: id.unwrap_or_else(|| stored.id.to_string()),
            role: role.unwrap_or_else(|| "assistant".to_owned()),
            content: text,
            ..self.message(stored, false)
        };
        let source = stored.event.source.clone();
        self.open.push(Open { key, source, has_id, message, ended: false });
    }

    fn complete(&mut self, stored: &StoredEvent) {
        let data = data(&stored.event);
        let text = |key| data.get(key).and_then(Value::as_str).map(str::to_owned);
        let id = message_id(&stored.event);
        // Its deltas: those with its id; else those of its source, unless they have another id.
        let is_its = |open: &mut Open| match (&id, open.has_id) {
            (Some(id), true) => open.message.message_id == *id,
            (_, false) => open.source == stored.event.source,
            (None, true) => false,
        };
        let said: Vec<Open> = self.open.extract_if(.., is_its).collect();
        let mut message = self.message(stored, true);
        message.first_id = said.iter().map(|open| open.message.first_id).min().unwrap_or(stored.id);
        message.content = match data.get("content") {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => {
                said.iter().map(|open| open.message.content.as_str()).collect()
            }
            Some(other) => other.to_string(),
        };
        let said_role = said.into_iter().next().map(|open| open.message.role);
        message.role = text("role").or(said_role).unwrap_or_else(|| "assistant".to_owned());
        message.stage = text("stage").or(message.stage);
        let said_now =
            (message.agent.clone(), message.role.clone(), message.content.clone(), id.is_some());
        let again = match &id {
            Some(id) => !self.completed.insert(id.clone()),
            None => false,
        };
        // Two that both have an id of their own are two, whatever they say.
        let repeats = self.last.as_ref().is_some_and(|last| {
            (&last.0, &last.1, &last.2) == (&said_now.0, &said_now.1, &said_now.2)
                && !(last.3 && said_now.3)
        });
        if again || repeats {
            return;
        }
        message.message_id = id.unwrap_or_else(|| stored.id.to_string());
        self.last = Some(said_now);
        if message.last_id > self.after {
            self.messages.push(message);
        }
    }

    /// A message of which only this event is known.
    fn message(&self, stored: &StoredEvent, complete: bool) -> Message {
        let (event, id) = (&stored.event, stored.id);
        let source = event.source.as_deref();
        let agent = source.and_then(|s| s.agent_name.as_deref().or(s.agent_id.as_deref()));
        let trace_id = event.extras.as_ref().and_then(|extras| extras.trace_id.as_deref());
        Message {
            message_id: String::new(),
            role: String::new(),
            content: String::new(),
            agent: agent.map(str::to_owned),
            node: source.and_then(node_of),
            stage: self.stage.clone(),
            trace_id: trace_id.map(str::to_owned),
            first_id: id,
            last_id: id,
            complete,
        }
    }
}

/// The publisher's id of the message that an event belongs to.
fn message_id(event: &Event) -> Option<String> {
    event.extras.as_ref()?.message_id.as_deref().map(str::to_owned)
}

/// The node that a source names among its other keys.
fn node_of(source: &Source) -> Option<String> {
    let json: Value = serde_json::from_str(source.json.as_deref()?).ok()?;
    json.get("node_name")?.as_str().map(str::to_owned)
}

fn data(event: &Event) -> Value {
    serde_json::from_str(&event.data).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::parse::{EventLimits, parse_event};
    use crate::event::{RunId, Timestamp};

    fn messages(jsons: &[&str]) -> Vec<Message> {
        let (run, limits) = (RunId::parse("7").unwrap(), EventLimits { max_data: 1 << 20 });
        let mut transcript = Transcript::default();
        for (json, n) in jsons.iter().zip(1..) {
            let event = parse_event(&run, json, Timestamp::from_ms(n), limits).unwrap();
            transcript.push(&StoredEvent { id: EventId::new(n, 0), sequence: None, event });
        }
        transcript.finish()
    }

    fn brief(jsons: &[&str]) -> Vec<(String, String, u64, u64, bool)> {
        let brief = |m: Message| (m.message_id, m.content, m.first_id.ms, m.last_id.ms, m.complete);
        messages(jsons).into_iter().map(brief).collect()
    }

    fn of(
        id: &str,
        content: &str,
        first: u64,
        last: u64,
        complete: bool,
    ) -> (String, String, u64, u64, bool) {
        (id.to_owned(), content.to_owned(), first, last, complete)
    }

    #[test]
    fn a_completion_takes_up_its_deltas_and_what_is_open_is_last() {
        assert_eq!(
            brief(&[
                r#"{"type":"message.delta","message_id":"m","data":{"delta":"He"}}"#,
                r#"{"type":"llm.stream","source":{"agent_id":"b"},"data":{"content":"still"}}"#,
                r#"{"type":"message.delta","message_id":"m","data":{"delta":"llo"}}"#,
                r#"{"type":"message.complete","message_id":"m","data":{"content":"Hello!"}}"#,
                r#"{"type":"llm.stream","source":{"agent_id":"b"},"data":{"content":" here"}}"#,
                r#"{"type":"message.delta","message_id":"m","data":{"delta":"late"}}"#,
            ]),
            [of("m", "Hello!", 1, 4, true), of("2-0", "still here", 2, 5, false)]
        );
        // By its source, where there is no id; and after an end that came first.
        assert_eq!(
            brief(&[
                r#"{"type":"llm.start","source":{"agent_id":"b"}}"#,
                r#"{"type":"llm.stream","source":{"agent_id":"b"},"data":{"content":"Hi"}}"#,
                r#"{"type":"llm.end","source":{"agent_id":"b"},"data":{"content":"Hi"}}"#,
                r#"{"type":"message.complete","source":{"agent_id":"b"},"data":{}}"#,
                r#"{"type":"llm.stream","source":{"agent_id":"c"},"data":{"content":"gone"}}"#,
                r#"{"type":"llm.end","source":{"agent_id":"c"},"data":{"content":"gone"}}"#,
                r#"{"type":"llm.stream","source":{"agent_id":"d"},"data":{"content":"broken"}}"#,
                r#"{"type":"llm.start","source":{"agent_id":"d"}}"#,
                r#"{"type":"llm.stream","source":{"agent_id":"d"},"data":{"content":"anew"}}"#,
            ]),
            [
                of("4-0", "Hi", 2, 4, true),
                of("7-0", "broken", 7, 7, false),
                of("9-0", "anew", 9, 9, false)
            ]
        );
    }

    #[test]
    fn the_same_said_twice_is_one_message() {
        assert_eq!(
            brief(&[
                r#"{"type":"message.complete","message_id":"m","data":{"content":"a"}}"#,
                r#"{"type":"message.complete","message_id":"m","data":{"content":"b"}}"#,
                r#"{"type":"message.complete","source":{"agent_id":"x"},"data":{"content":"c"}}"#,
                r#"{"type":"tool.end"}"#,
                r#"{"type":"message.complete","source":{"agent_id":"x"},"data":{"content":"c"}}"#,
                r#"{"type":"message.complete","source":{"agent_id":"y"},"data":{"content":"c"}}"#,
                r#"{"type":"message.complete","source":{"agent_id":"x"},"data":{"content":"c"}}"#,
                r#"{"type":"message.complete","message_id":"u","data":{"content":"ok","role":"user"}}"#,
                r#"{"type":"message.complete","message_id":"v","data":{"content":"ok","role":"user"}}"#,
            ]),
            [
                of("m", "a", 1, 1, true),
                of("3-0", "c", 3, 3, true),
                of("6-0", "c", 6, 6, true),
                of("7-0", "c", 7, 7, true),
                of("u", "ok", 8, 8, true),
                of("v", "ok", 9, 9, true)
            ]
        );
    }

    #[test]
    fn role_agent_node_stage_and_trace_are_found() {
        let all = messages(&[
            r#"{"type":"stage.change","data":{"old_stage":"a","new_stage":"design"}}"#,
            r#"{"type":"message.complete","trace_id":"t","source":{"agent_id":"r1","agent_name":"Ada","node_name":"n"},"data":{"content":"x","role":"user"}}"#,
            r#"{"type":"message.complete","source":{"agent_id":"r2"},"data":{"content":{"y":1},"stage":"own"}}"#,
        ]);
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let facts: Vec<_> = all
            .iter()
            .map(|m| {
                [m.role.clone(), text(&m.agent), text(&m.node), text(&m.stage), text(&m.trace_id)]
            })
            .collect();
        assert_eq!(facts[0], ["user", "Ada", "n", "design", "t"]);
        assert_eq!(facts[1], ["assistant", "r2", "", "own", ""]);
        assert_eq!(all[1].content, r#"{"y":1}"#);
    }
}
