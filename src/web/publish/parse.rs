//! From a body to events that can be published, checked whole.

use crate::config::PublishConfig;
use crate::event::object::Object;
use crate::event::parse::{EventLimits, parse_event};
use crate::event::{Event, EventKey, InvalidEvent, NewEvent, RunId, Timestamp};
use crate::hub::Hub;
use crate::web::body::BodyKind;
use crate::web::problem::{Code, Problem};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// How much a publish may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) event: EventLimits,
    /// The most events.
    pub(super) events: usize,
}

impl Bounds {
    pub(super) fn of(config: &PublishConfig) -> Self {
        Self {
            event: EventLimits { max_data: config.max_data.as_usize() },
            events: usize::try_from(config.max_batch).unwrap_or(usize::MAX),
        }
    }
}

/// The events of a body for one run, and whether it was a single one.
pub(super) fn of_run(
    hub: &Hub,
    run: &RunId,
    body: &[u8],
    kind: BodyKind,
) -> Result<(Vec<Event>, bool), Problem> {
    let (text, now) = (text(body)?, Timestamp::now());
    let bounds = Bounds::of(&hub.config().publish);
    let one = |json: &str| hub.admit(parse_event(run, json, now, bounds.event)?);
    match elements(text, kind, bounds)? {
        Elements::One(json) => Ok((vec![one(json)?], true)),
        Elements::Many(elements) => {
            Ok((each(&elements, |json| one(json).map_err(of_element))?, false))
        }
    }
}

/// The events of a body that each name their run, and whether it was a single one.
pub(super) fn of_many(
    hub: &Hub,
    body: &[u8],
    kind: BodyKind,
) -> Result<(Vec<Event>, bool), Problem> {
    /// What of an event tells its run.
    #[derive(Deserialize)]
    struct Addressed<'a> {
        #[serde(borrow)]
        run_id: Option<Cow<'a, str>>,
    }
    let (text, now) = (text(body)?, Timestamp::now());
    let bounds = Bounds::of(&hub.config().publish);
    let one = |json: &str| {
        let Object(addressed): Object<Addressed<'_>> =
            serde_json::from_str(json).map_err(|e| match e.classify() {
                serde_json::error::Category::Data => InvalidEvent::Shape(e).into(),
                _ => of_element(InvalidEvent::Syntax(e)),
            })?;
        let Some(run) = addressed.run_id else {
            let detail = "the event names no run: give \"run_id\"";
            return Err(Problem::new(Code::InvalidEvent, detail));
        };
        let run = RunId::parse(&run).map_err(|e| {
            // It stands in the body, not in the address.
            Problem::new(Code::InvalidEvent, format!("\"run_id\": {e}"))
        })?;
        let event = parse_event(&run, json, now, bounds.event);
        event.and_then(|event| hub.admit(event)).map_err(of_element)
    };
    match elements(text, kind, bounds)? {
        Elements::One(json) => {
            serde_json::from_str::<&RawValue>(json).map_err(InvalidEvent::Syntax)?;
            Ok((vec![one(json)?], true))
        }
        Elements::Many(elements) => Ok((each(&elements, one)?, false)),
    }
}

enum Elements<'a> {
    One(&'a str),
    Many(Vec<&'a str>),
}

fn text(body: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(body)
        .map_err(|e| Problem::new(Code::InvalidJson, format!("the body is not UTF-8: {e}")))
}

fn elements(text: &str, kind: BodyKind, bounds: Bounds) -> Result<Elements<'_>, Problem> {
    let elements: Vec<&str> = match kind {
        BodyKind::Ndjson => text.lines().filter(|line| !line.trim().is_empty()).collect(),
        BodyKind::Json if text.trim_start().starts_with('[') => {
            let array: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| {
                Problem::new(Code::InvalidJson, format!("the body is not JSON: {e}"))
            })?;
            array.into_iter().map(RawValue::get).collect()
        }
        BodyKind::Json => return Ok(Elements::One(text)),
    };
    if elements.is_empty() {
        return Err(Problem::new(Code::InvalidEvent, "the batch has no events"));
    }
    if elements.len() > bounds.events {
        let (count, most) = (elements.len(), bounds.events);
        let detail = format!("the batch has {count} events, the most is {most}");
        return Err(Problem::new(Code::BatchTooLarge, detail));
    }
    Ok(Elements::Many(elements))
}

fn each(
    elements: &[&str],
    one: impl Fn(&str) -> Result<Event, Problem>,
) -> Result<Vec<Event>, Problem> {
    let mut events = Vec::with_capacity(elements.len());
    for (index, json) in elements.iter().enumerate() {
        events.push(one(json).map_err(|p| p.at(Some(index)))?);
    }
    Ok(events)
}

/// An element that is not JSON is a bad element, not a bad body: others are well.
pub(super) fn of_element(error: InvalidEvent) -> Problem {
    match error {
        InvalidEvent::Syntax(_) => Problem::new(Code::InvalidEvent, error.to_string()),
        other => other.into(),
    }
}

/// Gives each event its `event_id`: its own, else one from the idempotency key, else a new one.
pub(super) fn complete(
    events: Vec<Event>,
    single: bool,
    idempotency: Option<&str>,
) -> Result<Vec<NewEvent>, Problem> {
    let mut complete = Vec::with_capacity(events.len());
    for (index, event) in events.into_iter().enumerate() {
        complete.push(complete_one(event, idempotency, (!single).then_some(index))?);
    }
    Ok(complete)
}

/// Gives one event its `event_id`; in a batch it is the one at this index.
pub(super) fn complete_one(
    mut event: Event,
    idempotency: Option<&str>,
    index: Option<usize>,
) -> Result<NewEvent, Problem> {
    if let (None, Some(key)) = (&event.event_id, idempotency) {
        let key = index.map_or_else(|| key.to_owned(), |index| format!("{key}-{index}"));
        let key = EventKey::parse(&key).map_err(|_| {
            let detail = "Idempotency-Key is too long for a batch: with an index it is no event_id";
            Problem::new(Code::InvalidEventId, detail)
        })?;
        event.event_id = Some(key);
    }
    Ok(NewEvent::new(event))
}
