//! The known event types as Rust: a struct each, made from one table ([`types`]), which is also what
//! `docs/events.md` ([`render`]), `GET /schemas/events.json` ([`schema`]) and the flat names are made of.
//!
//! An event is read with [`Event::typed`] and made with its struct:
//!
//! ```
//! use runhub::event::typed::{KnownEvent, LlmStream, Typed};
//! use runhub::event::RunId;
//!
//! let run = RunId::parse("demo")?;
//! let event = LlmStream::new("hi").event(&run).with_message_id("m1");
//! match event.typed()? {
//!     Typed::LlmStream(delta) => assert_eq!(delta.text(), "hi"),
//!     Typed::Other(json) => println!("some other type, with {json}"),
//!     _ => {}
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod data;
pub mod field;
pub mod render;
pub mod schema;
#[macro_use]
mod table;
mod types;

pub use data::DoesNotFit;
pub use field::{AgentMode, AgentOutcome, FinishStatus, Object};
pub use types::*;

use super::{Event, EventType, RunId, StoredEvent, Timestamp, Upcasters};
use field::FieldKind;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The data of a known type.
pub trait KnownEvent: Serialize + DeserializeOwned {
    /// The type, `category.action`.
    const TYPE: &'static str;

    /// Reads the data; the error names the field that does not fit.
    fn from_data(data: Value) -> Result<Self, DoesNotFit>;

    /// An event of this run with this data, that happened now.
    fn event(&self, run: &RunId) -> Event {
        // Text keys and plain values can always be written.
        let data = serde_json::to_string(self).unwrap_or_else(|_| "null".to_owned());
        // Every name in the table is a type; a test holds it to that.
        let kind = EventType::parse(Self::TYPE).unwrap_or_else(|_| EventType::unknown());
        Event {
            run_id: run.clone(),
            timestamp: Timestamp::now(),
            source: None,
            kind,
            data: data.into(),
            event_id: None,
            extras: None,
        }
    }
}

/// What the table says of a known type.
#[derive(Debug, Clone, Copy)]
pub struct KnownType {
    /// `category.action`.
    pub name: &'static str,
    /// The one word that stands for it.
    pub flat: Option<&'static str>,
    /// Whether it ends its run, unless configured otherwise.
    pub terminal: bool,
    /// What it says, one string a line.
    pub doc: &'static [&'static str],
    /// What its data holds.
    pub shape: Shape,
}

/// What the data of a known type holds.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Any JSON.
    Anything,
    /// An object with these fields, and any others.
    Fields {
        /// The fields, those that are needed first.
        fields: &'static [FieldRow],
        /// Two fields of which one is needed.
        either: Option<(&'static str, &'static str)>,
    },
}

/// What the table says of a field.
#[derive(Debug, Clone, Copy)]
pub struct FieldRow {
    /// Its key.
    pub name: &'static str,
    /// Other keys that are read as this one.
    pub also: &'static [&'static str],
    /// Whether it must be there.
    pub required: bool,
    /// What it holds.
    pub kind: FieldKind,
    /// What an absent one stands for, as JSON.
    pub default: Option<&'static str>,
    /// What it says, one string a line.
    pub doc: &'static [&'static str],
}

/// The row of a type; none for a type that is not known.
pub fn known(kind: &str) -> Option<&'static KnownType> {
    KNOWN.iter().find(|known| known.name == kind)
}

impl Event {
    /// The data as the struct of its type, or the untouched JSON of a type that is not known.
    pub fn typed(&self) -> Result<Typed<'_>, DoesNotFit> {
        Typed::read(self.kind.as_str(), (&*self.data).into())
    }

    /// The same, with data of an older version turned into today's first.
    pub fn typed_by<'e>(&'e self, upcasters: &Upcasters) -> Result<Typed<'e>, DoesNotFit> {
        Typed::read(self.kind.as_str(), upcasters.read(self).data)
    }
}

impl StoredEvent {
    /// See [`Event::typed`].
    pub fn typed(&self) -> Result<Typed<'_>, DoesNotFit> {
        self.event.typed()
    }

    /// See [`Event::typed_by`].
    pub fn typed_by<'e>(&'e self, upcasters: &Upcasters) -> Result<Typed<'e>, DoesNotFit> {
        self.event.typed_by(upcasters)
    }
}

impl LlmStream {
    /// The new text, whichever of the two keys holds it.
    pub fn text(&self) -> &str {
        self.content.as_deref().or(self.delta.as_deref()).unwrap_or_default()
    }

    /// What the text is.
    pub fn kind_of_content(&self) -> &str {
        self.content_type.as_deref().unwrap_or("text")
    }
}

impl ToolEnd {
    /// Whether the tool did its work.
    pub fn succeeded(&self) -> bool {
        self.success.unwrap_or(true)
    }
}

#[cfg(test)]
mod tests;
