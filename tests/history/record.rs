//! A line of a history: who saw what, and when.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What one of those who take part saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// µs since the campaign's start, on a clock that never goes back.
    pub at: u64,
    #[serde(flatten)]
    pub what: What,
}

/// What there is to see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "saw", rename_all = "snake_case")]
pub enum What {
    /// A publisher sends a publish. All attempts of one publish carry its number and its events.
    Invoked { publisher: String, run: String, op: u64, attempt: u32, events: Vec<Sent> },
    /// The attempt was answered.
    Answered { op: u64, attempt: u32, outcome: Outcome },
    /// The attempt's connection was lost without an answer: it may have been stored, or may yet be.
    Unknown { op: u64, attempt: u32, why: String },
    /// Nobody listened: nothing of the attempt was sent.
    Unreached { op: u64, attempt: u32 },
    /// A subscriber has a stream, behind this id or from the run's start.
    Connected { subscriber: String, run: String, last: Option<EventId> },
    /// The stream has ended; this was the last id it brought.
    Disconnected { subscriber: String, run: String, last: Option<EventId>, why: String },
    /// The stream brought an event.
    Received { subscriber: String, run: String, key: String, place: Place, content: String },
    /// The stream said that events are missing.
    Gap {
        subscriber: String,
        run: String,
        reason: String,
        requested: Option<EventId>,
        oldest: Option<EventId>,
        missed: Option<u64>,
    },
    /// The stream said `degraded` or `recovered`.
    Mode { subscriber: String, run: String, name: String },
    /// `/health/ready` said something new; `away` where it did not answer.
    Health { mode: String, spooled: u64 },
    /// A fault is there. While the hub itself is stopped it can answer nobody.
    FaultBegun { name: String, stops_hub: bool },
    /// The fault is healed.
    FaultEnded { name: String },
    /// An event of the history read at the end. The lines of one log are in its order.
    Final { log: Log, run: String, key: String, place: Place, content: String },
    /// The campaign waited for this in vain.
    Overdue { what: String },
    /// The hub said or did what it must never, whatever happens.
    Broken { what: String },
}

/// An event as it was sent. Its key is the `event_id`; where the hub was to make that, the publisher's own
/// name for the event inside its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    pub key: String,
    /// A digest of all that has to come out as it went in.
    pub content: String,
}

/// What an attempt was told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// `201`: stored, at these places.
    Persisted { places: Vec<Place> },
    /// `200`: an earlier attempt had stored it, at these places.
    Duplicate { places: Vec<Place> },
    /// `202 spooled`: on the hub's disk.
    Spooled,
    /// `202 accepted`: in the hub's memory.
    Accepted,
    /// An error code.
    Refused { code: String },
}

/// Where an event is in its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    pub id: EventId,
    /// None of what another program added to the store.
    pub sequence: Option<u64>,
}

impl Place {
    /// Whether it is behind the other one, by id and, where both have one, by number alike.
    pub fn is_behind(self, earlier: Self) -> bool {
        let numbers = self.sequence.zip(earlier.sequence);
        self.id > earlier.id && numbers.is_none_or(|(later, earlier)| later > earlier)
    }

    /// This place, with the earlier one's number if it has none itself: what comes next has to be behind both.
    pub fn after(self, earlier: Option<Self>) -> Self {
        let number = earlier.and_then(|earlier| earlier.sequence);
        Self { id: self.id, sequence: self.sequence.or(number) }
    }
}

/// From where the history at the end was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Log {
    /// The hub's endpoint.
    Hub,
    /// The store itself, past the hub.
    Store,
}

/// A stream id, `<ms>-<n>`, which compares as the log is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventId {
    pub ms: u64,
    pub n: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.n)
    }
}

impl FromStr for EventId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('-').and_then(|(ms, n)| Some((ms.parse(), n.parse().ok()?)));
        match parts {
            Some((Ok(ms), n)) => Ok(Self { ms, n }),
            _ => Err(format!("{text:?} is no id")),
        }
    }
}

impl TryFrom<String> for EventId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sequence {
            Some(sequence) => write!(f, "{} (sequence {sequence})", self.id),
            None => write!(f, "{} (no sequence)", self.id),
        }
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hub => "the history",
            Self::Store => "the store",
        })
    }
}
