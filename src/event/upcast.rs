//! Events outlive the programs that wrote them: an upcaster turns the data of an older version into that of
//! the next, and a chain of them into today's.
//!
//! Whoever embeds the hub registers them per type. They are applied in one place, [`Upcasters::read`],
//! which everything that shows an event goes through ([`super::frame::push_json`],
//! [`Event::typed_by`](super::Event::typed_by)); what is stored never changes. Without any, which is the
//! default, nothing is parsed and nothing copied.

use super::{Event, EventType, Version, json_text};
use crate::telemetry::metrics;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Turns data of one version into data of the next. The error says why it cannot.
type Step = dyn Fn(Value) -> Result<Value, String> + Send + Sync;

/// The upcasters of every type. Cheap to clone.
#[derive(Clone, Default)]
pub struct Upcasters(Arc<BTreeMap<Box<str>, Chain>>);

/// The upcasters of one type, by the version they take.
#[derive(Clone, Default)]
struct Chain {
    steps: BTreeMap<Version, Arc<Step>>,
    /// Whether the log has heard that one of them failed.
    told: Arc<AtomicBool>,
}

/// An event's data as readers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading<'e> {
    /// The data, as JSON.
    pub data: Cow<'e, str>,
    /// The version it is written in, where it is known.
    pub version: Option<Version>,
}

impl Upcasters {
    /// With one more: data of `kind` written in version `from` is turned into the version behind it. One
    /// that was registered for the same version before is replaced.
    pub fn with(
        mut self,
        kind: &EventType,
        from: Version,
        step: impl Fn(Value) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Self {
        let chain = Arc::make_mut(&mut self.0).entry(kind.as_str().into()).or_default();
        chain.steps.insert(from, Arc::new(step));
        self
    }

    /// The event's data in today's version; as it is stored, where nothing is registered for its version or
    /// an upcaster fails.
    pub fn read<'e>(&self, event: &'e Event) -> Reading<'e> {
        let stored = event.version();
        let as_stored = Reading { data: Cow::Borrowed(&event.data), version: stored };
        let Some(chain) = self.0.get(event.kind.as_str()) else { return as_stored };
        let from = stored.unwrap_or(Version::FIRST);
        if !chain.steps.contains_key(&from) {
            return as_stored;
        }
        match chain.run(from, &event.data) {
            Ok((data, version)) => Reading { data: Cow::Owned(data), version: Some(version) },
            Err((version, reason)) => {
                metrics::upcast_failed();
                if !chain.told.swap(true, Ordering::Relaxed) {
                    log::error!(
                        "an event of type {} in run {} is delivered as stored: its upcaster from version \
                         {version} failed: {reason}; later failures of this type are only counted",
                        event.kind,
                        event.run_id
                    );
                }
                as_stored
            }
        }
    }
}

impl Chain {
    /// Runs the steps from a version on; the error names the version that could not be left.
    fn run(&self, from: Version, json: &str) -> Result<(String, Version), (Version, String)> {
        let (mut data, mut version) = match serde_json::from_str::<Value>(json) {
            Ok(data) => (data, from),
            Err(e) => return Err((from, format!("the data cannot be read: {e}"))),
        };
        while let (Some(step), Some(next)) = (self.steps.get(&version), version.next()) {
            // A reader's stream must not end because a function of the embedding program panics.
            let stepped = catch_unwind(AssertUnwindSafe(|| step(data)));
            data = stepped
                .unwrap_or_else(|_| Err("it panicked".to_owned()))
                .map_err(|reason| (version, reason))?;
            version = next;
        }
        let json = data.to_string();
        match json_text::check(&json) {
            Ok(()) => Ok((json, version)),
            Err(unfit) => Err((from, format!("what it made is not fit to be carried: {unfit}"))),
        }
    }
}

impl fmt::Debug for Upcasters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions = self.0.iter().map(|(kind, chain)| (kind, chain.steps.keys()));
        f.debug_map()
            .entries(versions.map(|(kind, keys)| (kind, keys.collect::<Vec<_>>())))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::frame::push_json;
    use crate::event::typed::{KnownEvent, StageChange, Typed};
    use crate::event::{EncodedBatch, EventId, LifecycleRules, ReadRules, RunId, StoredEvent};
    use serde_json::json;

    fn version(number: u32) -> Version {
        Version::new(number).unwrap()
    }

    fn event(data: &str) -> Event {
        let run = RunId::parse("7").unwrap();
        Event { data: data.into(), ..StageChange::new("x").event(&run) }
    }

    /// From a bare text, over `{"to"}`, to `{"to_stage"}`.
    fn upcasters() -> Upcasters {
        let kind = EventType::parse("stage.change").unwrap();
        Upcasters::default()
            .with(&kind, version(2), |mut data| match data["to"].take() {
                Value::Null => Err("there is no \"to\"".to_owned()),
                to => Ok(json!({ "to_stage": to })),
            })
            .with(&kind, version(1), |data| {
                assert!(data != "boom", "asked for");
                Ok(json!({ "to": data }))
            })
    }

    #[test]
    fn older_data_becomes_todays_and_what_is_stored_stays() {
        let upcasters = upcasters();
        let todays = r#"{"to_stage":"b"}"#;
        for (stored, data) in [
            (event("\"b\""), todays),
            (event("\"b\"").with_version(version(1)), todays),
            (event(r#"{"to":"b"}"#).with_version(version(2)), todays),
            (event(r#"{"to_stage": "b"}"#).with_version(version(3)), r#"{"to_stage": "b"}"#),
        ] {
            let before = stored.clone();
            let read = upcasters.read(&stored);
            assert_eq!((&*read.data, read.version), (data, Some(version(3))));
            assert_eq!(stored.typed_by(&upcasters), Ok(Typed::StageChange(StageChange::new("b"))));
            assert_eq!(stored, before);
        }
        let other = Event { kind: EventType::parse("a.b").unwrap(), ..event("1.10") };
        assert_eq!(upcasters.read(&other), Reading { data: "1.10".into(), version: None });
    }

    #[test]
    fn live_frames_and_history_show_the_same() {
        let rules = ReadRules { lifecycle: LifecycleRules::default(), upcasters: upcasters() };
        let stored = StoredEvent { id: EventId::new(1, 0), sequence: None, event: event("\"b\"") };
        let mut line = Vec::new();
        push_json(&mut line, &stored, &rules.upcasters);
        let batch = EncodedBatch::encode(EventId::START, vec![stored], &rules);
        assert_eq!(batch.json(&batch.events()[0]), line);
        let line = String::from_utf8(line).unwrap();
        assert!(line.ends_with(r#""data":{"to_stage":"b"},"version":3}"#), "{line}");
    }

    #[test]
    fn one_that_fails_leaves_the_event_as_stored() {
        let upcasters = upcasters();
        for data in ["\"boom\"", "1e400"] {
            let stored = event(data);
            assert_eq!(upcasters.read(&stored), Reading { data: data.into(), version: None });
        }
        let odd = event("{}").with_version(version(2));
        let as_stored = Reading { data: "{}".into(), version: Some(version(2)) };
        assert_eq!(upcasters.read(&odd), as_stored);
        assert!(upcasters.0["stage.change"].told.load(Ordering::Relaxed));
        let deep = Upcasters::default()
            .with(&odd.kind, version(2), |data| Ok((0..200).fold(data, |inner, _| json!([inner]))));
        assert_eq!(deep.read(&odd), as_stored);
    }
}
