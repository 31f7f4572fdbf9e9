//! The event itself, before and after a store has given it its place.

use super::{EventId, EventKey, EventType, RunId, Source, Timestamp, Version, digest};
use std::num::NonZeroU64;
use std::sync::Arc;

/// What JSON allows around a value.
const JSON_BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// An event's number in its run: 1, 2, 3 … Given by the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

impl Sequence {
    /// The first event's.
    pub const FIRST: Self = Self(1);

    /// How many numbers lie strictly between this and a later one; none if it is not later.
    pub fn missing_before(self, later: Self) -> Option<u64> {
        later.0.checked_sub(self.0).and_then(NonZeroU64::new).map(|distance| distance.get() - 1)
    }
}

/// How urgent the publisher says an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before all others.
    Critical,
    /// Before normal.
    High,
    /// The usual.
    Normal,
    /// After normal.
    Low,
}

impl Priority {
    /// The word on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// The priority with this word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Critical, Self::High, Self::Normal, Self::Low]
            .into_iter()
            .find(|p| p.as_str() == word)
    }
}

/// The optional fields, each shown only where given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// Joins the events of one exchange.
    pub correlation_id: Option<Box<str>>,
    /// The trace the event belongs to.
    pub trace_id: Option<Box<str>>,
    /// The user session.
    pub session_id: Option<Box<str>>,
    /// The conversation.
    pub conversation_id: Option<Box<str>>,
    /// The message a delta or completion belongs to.
    pub message_id: Option<Box<str>>,
    /// How urgent it is.
    pub priority: Option<Priority>,
    /// A JSON array of strings, as sent.
    pub tags: Option<Box<str>>,
    /// A JSON object, as sent.
    pub metadata: Option<Box<str>>,
    /// The version of its type that the data is written in.
    pub version: Option<Version>,
}

/// What happened, as the publisher told it. Clones share its texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The run it belongs to.
    pub run_id: RunId,
    /// When it happened.
    pub timestamp: Timestamp,
    /// Who emitted it.
    pub source: Option<Arc<Source>>,
    /// What kind it is.
    pub kind: EventType,
    /// Any JSON, byte for byte as sent.
    pub data: Arc<str>,
    /// The idempotency id; only foreign writers leave it out.
    pub event_id: Option<EventKey>,
    /// The optional fields, if any was given.
    pub extras: Option<Arc<Extras>>,
}

impl Event {
    /// Leaves out what says nothing, so that the event is as it will be read from a store.
    fn normalize(&mut self) {
        if let Some(extras) = &mut self.extras {
            let Extras {
                correlation_id, trace_id, session_id, conversation_id, message_id, ..
            } = Arc::make_mut(extras);
            for text in [correlation_id, trace_id, session_id, conversation_id, message_id] {
                text.take_if(|text| text.is_empty());
            }
        }
        self.extras.take_if(|extras| **extras == Extras::default());
        if let Some(source) = &mut self.source {
            let source = Arc::make_mut(source);
            for text in [
                &mut source.agent_id,
                &mut source.agent_type,
                &mut source.agent_name,
                &mut source.team_name,
            ] {
                text.take_if(|text| text.is_empty());
            }
        }
        self.source.take_if(|source| **source == Source::default());
        let trimmed = self.data.trim_matches(JSON_BLANKS);
        if trimmed.len() < self.data.len() {
            self.data = trimmed.into();
        }
    }

    /// About the bytes of its texts.
    pub fn text_bytes(&self) -> usize {
        let length = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let extras = self.extras.as_ref().map_or(0, |e| {
            [
                &e.correlation_id,
                &e.trace_id,
                &e.session_id,
                &e.conversation_id,
                &e.message_id,
                &e.tags,
            ]
            .into_iter()
            .chain([&e.metadata])
            .map(length)
            .sum()
        });
        let source = self.source.as_ref().map_or(0, |s| {
            let known = [&s.agent_id, &s.agent_type, &s.agent_name, &s.team_name, &s.json];
            known.into_iter().map(length).sum()
        });
        let key = self.event_id.as_ref().map_or(0, |key| key.as_str().len());
        self.data.len() + extras + source + key
    }
}

/// An event ready to be appended.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// The event; its `event_id` is `key`.
    pub event: Event,
    /// Its idempotency id.
    pub key: EventKey,
    /// Whether the publisher chose the id, so that the store must look for an earlier event with it.
    pub key_is_given: bool,
    /// Whether the run itself must be searched for an event with this id before it is stored: a hub made
    /// the id, the publisher gave it back, and the store could not be asked yet.
    pub search_first: bool,
    /// Tells the same content from other content under the same id.
    pub digest: u64,
}

impl NewEvent {
    /// Completes a parsed event: with the publisher's id if it gave one, else with one of the hub's.
    pub fn new(mut event: Event) -> Self {
        event.normalize();
        // The same as of the event when it is read again.
        let digest = digest::of(&event);
        let (key, key_is_given) = match event.event_id.clone() {
            Some(key) => (key, true),
            None => (EventKey::generate(), false),
        };
        event.event_id = Some(key.clone());
        Self { event, key, key_is_given, search_first: false, digest }
    }
}

/// An event with the place its store gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its position, the resume cursor.
    pub id: EventId,
    /// Its number; none where a foreign writer gave none.
    pub sequence: Option<Sequence>,
    /// The event.
    pub event: Event,
}
