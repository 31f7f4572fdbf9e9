//! Events and everything about them that is pure: names and ids with their grammars, what a publisher
//! may send ([`parse`]), what a store keeps ([`entry`]), what a reader receives ([`frame`]), which
//! events a reader asked for ([`filter`]), and what the known types say ([`typed`], [`upcast`]). Nothing
//! here does input or output but for the log, and nothing here knows of actors, HTTP or a particular store.

mod borrowed;
pub mod build;
pub mod delta;
pub mod digest;
pub mod entry;
pub mod event_id;
pub mod event_key;
pub mod event_type;
pub mod filter;
pub mod frame;
pub mod job_type;
pub mod json_text;
pub mod lifecycle;
pub mod many_cursor;
pub mod model;
pub(crate) mod object;
pub mod packed;
pub mod parse;
pub mod received;
pub mod run_id;
pub mod source;
pub mod timestamp;
pub mod transcript;
pub mod typed;
pub mod upcast;
pub mod version;
pub mod vocabulary;

pub use entry::{decode_entry, decode_job_entry};
pub use event_id::{EventId, InvalidEventId};
pub use event_key::{EventKey, InvalidEventKey};
pub use event_type::{EventType, InvalidEventType};
pub use filter::{Filter, InvalidFilter};
pub use frame::{EncodedBatch, ReadRules};
pub use lifecycle::{Lifecycle, LifecycleRules, RunStatus};
pub use model::{Event, Extras, NewEvent, Priority, Sequence, StoredEvent};
pub use parse::{EventLimits, InvalidEvent};
pub use run_id::{InvalidRunId, RunId};
pub use source::Source;
pub use timestamp::{InvalidTimestamp, Timestamp};
pub use typed::{KnownEvent, Typed};
pub use upcast::Upcasters;
pub use version::Version;
