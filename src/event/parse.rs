//! From a publisher's JSON to an event: one object, checked whole.

use super::borrowed::Text;
use super::json_text::{self, UnfitJson};
use super::object::Object;
use super::typed::DoesNotFit;
use super::{
    Event, EventKey, EventType, Extras, InvalidEventKey, InvalidEventType, InvalidTimestamp,
    Priority, RunId, Source, Timestamp, Version, vocabulary,
};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use std::sync::Arc;

/// How large an event may be.
#[derive(Debug, Clone, Copy)]
pub struct EventLimits {
    /// The most bytes of `data`, as sent.
    pub max_data: usize,
}

/// The most bytes of an event beside its data.
pub const MAX_ENVELOPE: usize = 64 * 1024;

/// Why text is not an event.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEvent {
    /// It is not JSON.
    #[error("the body is not JSON: {0}")]
    Syntax(#[source] serde_json::Error),
    /// It is JSON, but not of an event's shape.
    #[error("{0}")]
    Shape(#[source] serde_json::Error),
    /// It is JSON that readers could not parse.
    #[error("the event is not fit to be carried: {0}")]
    Unfit(#[from] UnfitJson),
    /// The type is missing.
    #[error("the event has no type: give \"type\", \"event\" or \"event_type\"")]
    NoType,
    /// Two of `type`, `event` and `event_type` say different things.
    #[error("the event has two types: \"type\", \"event\" and \"event_type\" must agree")]
    TwoTypes,
    /// The type breaks the grammar.
    #[error(transparent)]
    Type(#[from] InvalidEventType),
    /// The timestamp is none.
    #[error(transparent)]
    Timestamp(#[from] InvalidTimestamp),
    /// The `event_id` breaks the grammar.
    #[error(transparent)]
    Key(#[from] InvalidEventKey),
    /// The source does not fit.
    #[error("\"source\" is not an object with text for its known keys: {0}")]
    Source(#[source] serde_json::Error),
    /// The tags, the metadata or the version do not fit.
    #[error("\"{field}\" must be {expected}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What it should have been.
        expected: &'static str,
    },
    /// The data is not what its type says, where that is asked for (`events.strict`).
    #[error(transparent)]
    Data(#[from] DoesNotFit),
    /// The body names another run than the address.
    #[error("the event's \"run_id\" is not the run it was sent to")]
    OtherRun,
    /// The data is too large.
    #[error("\"data\" has {size} bytes, the most is {max}")]
    DataTooLarge {
        /// Bytes found.
        size: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// What stands beside the data is too large.
    #[error("the event has {size} bytes beside its data, the most is {max}")]
    EnvelopeTooLarge {
        /// Bytes found.
        size: usize,
        /// Bytes allowed.
        max: usize,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire<'a> {
    // An event that was read from a hub may be published as it is: what the store gives is given anew.
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>,
    #[serde(rename = "sequence")]
    _sequence: Option<IgnoredAny>,
    #[serde(borrow)]
    run_id: Option<Text<'a>>,
    #[serde(borrow)]
    timestamp: Option<Text<'a>>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<Object<WireType<'a>>>,
    #[serde(borrow)]
    r#type: Option<Text<'a>>,
    #[serde(borrow)]
    event_type: Option<Text<'a>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    event_id: Option<Text<'a>>,
    correlation_id: Option<Box<str>>,
    trace_id: Option<Box<str>>,
    session_id: Option<Box<str>>,
    conversation_id: Option<Box<str>>,
    message_id: Option<Box<str>>,
    priority: Option<Priority>,
    #[serde(borrow)]
    tags: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    version: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WireType<'a> {
    #[serde(borrow)]
    category: Text<'a>,
    #[serde(borrow)]
    action: Text<'a>,
}

/// Parses one event object published to `run`. An absent timestamp becomes `now`.
pub fn parse_event(
    run: &RunId,
    json: &str,
    now: Timestamp,
    limits: EventLimits,
) -> Result<Event, InvalidEvent> {
    let Object(wire): Object<Wire<'_>> =
        serde_json::from_str(json).map_err(|e| refusal(json, e))?;
    json_text::check(json)?;
    let data_size = wire.data.map_or(0, |d| d.get().len());
    if data_size > limits.max_data {
        return Err(InvalidEvent::DataTooLarge { size: data_size, max: limits.max_data });
    }
    let size = json.trim().len().saturating_sub(data_size);
    if size > MAX_ENVELOPE {
        return Err(InvalidEvent::EnvelopeTooLarge { size, max: MAX_ENVELOPE });
    }
    if wire.run_id.as_deref().is_some_and(|given| given != run.as_str()) {
        return Err(InvalidEvent::OtherRun);
    }
    Ok(Event {
        run_id: run.clone(),
        timestamp: wire.timestamp.as_deref().map_or(Ok(now), Timestamp::parse)?,
        source: wire
            .source
            .map(|raw| Source::parse(raw.get()).map(Arc::new).map_err(InvalidEvent::Source))
            .transpose()?,
        kind: kind_of(&wire)?,
        data: wire.data.map_or("null", RawValue::get).into(),
        event_id: wire.event_id.as_deref().map(EventKey::parse).transpose()?,
        extras: extras_of(wire)?,
    })
}

/// Which refusal a failed parse is: not JSON, JSON of another shape, or JSON that holds no Unicode text
/// (which the parser reports as bad syntax where it had to decode the string).
fn refusal(json: &str, error: serde_json::Error) -> InvalidEvent {
    if serde_json::from_str::<&RawValue>(json).is_err() {
        return InvalidEvent::Syntax(error);
    }
    match json_text::check(json) {
        Err(unfit) => InvalidEvent::Unfit(unfit),
        Ok(()) => InvalidEvent::Shape(error),
    }
}

fn kind_of(wire: &Wire<'_>) -> Result<EventType, InvalidEvent> {
    let given = [
        wire.event.as_ref().map(|Object(t)| EventType::from_parts(&t.category, &t.action)),
        wire.r#type.as_deref().map(EventType::parse),
        wire.event_type.as_deref().map(vocabulary::from_flat),
    ];
    let mut kind = None;
    for found in given.into_iter().flatten() {
        let found = found?;
        if kind.is_some_and(|kind: EventType| kind != found) {
            return Err(InvalidEvent::TwoTypes);
        }
        kind = Some(found);
    }
    kind.ok_or(InvalidEvent::NoType)
}

fn extras_of(wire: Wire<'_>) -> Result<Option<Arc<Extras>>, InvalidEvent> {
    let extras = Extras {
        correlation_id: wire.correlation_id,
        trace_id: wire.trace_id,
        session_id: wire.session_id,
        conversation_id: wire.conversation_id,
        message_id: wire.message_id,
        priority: wire.priority,
        tags: shaped(wire.tags, "tags", "an array of strings", is_array_of_strings)?,
        metadata: shaped(wire.metadata, "metadata", "an object", |json| json.starts_with('{'))?,
        version: version_of(wire.version)?,
    };
    Ok((extras != Extras::default()).then(|| Arc::new(extras)))
}

fn version_of(raw: Option<&RawValue>) -> Result<Option<Version>, InvalidEvent> {
    let expected = "a whole number from 1 on";
    let refused = InvalidEvent::Field { field: "version", expected };
    raw.map(|raw| Version::parse(raw.get()).ok_or(refused)).transpose()
}

fn shaped(
    raw: Option<&RawValue>,
    field: &'static str,
    expected: &'static str,
    fits: impl FnOnce(&str) -> bool,
) -> Result<Option<Box<str>>, InvalidEvent> {
    match raw.map(RawValue::get) {
        None => Ok(None),
        Some(json) if fits(json) => Ok(Some(json.into())),
        Some(_) => Err(InvalidEvent::Field { field, expected }),
    }
}

fn is_array_of_strings(json: &str) -> bool {
    let items = serde_json::from_str::<Vec<&RawValue>>(json);
    items.is_ok_and(|items| items.iter().all(|item| item.get().starts_with('"')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Event, InvalidEvent> {
        let run = RunId::parse("7").unwrap();
        parse_event(&run, json, Timestamp::from_ms(1), EventLimits { max_data: 1 << 20 })
    }

    #[test]
    fn data_is_kept_byte_for_byte() {
        for data in
            ["1e400", "12345678901234567890", "1.10", r#"{"b":1,"a":"\u00e9é","b":2}"#, "[1,\n 2]"]
        {
            let event = parse(&format!(r#"{{"type":"llm.stream","data":{data}}}"#)).unwrap();
            assert_eq!(&*event.data, data);
        }
        assert_eq!(&*parse(r#"{"type":"a.b"}"#).unwrap().data, "null");
    }

    #[test]
    fn a_type_is_told_in_three_ways_that_must_agree() {
        for json in [
            r#"{"type":"llm.stream"}"#,
            r#"{"event":{"category":"llm","action":"stream"}}"#,
            r#"{"event_type":"llm_stream"}"#,
            r#"{"event_type":"llm_stream","type":"llm.stream"}"#,
        ] {
            assert_eq!(parse(json).unwrap().kind.as_str(), "llm.stream");
        }
        assert!(matches!(parse("{}"), Err(InvalidEvent::NoType)));
        let two = parse(r#"{"type":"a.b","event_type":"llm_stream"}"#);
        assert!(matches!(two, Err(InvalidEvent::TwoTypes)));
        assert!(matches!(parse(r#"{"type":"llm_stream"}"#), Err(InvalidEvent::Type(_))));
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        for bad in [
            "",
            "{",
            r#"{"type":"a.b"} x"#,
            r#"{"type":"a.b","data":NaN}"#,
            "{\"type\":\"a\n.b\"}",
            "\u{feff}{}",
        ] {
            assert!(matches!(parse(bad), Err(InvalidEvent::Syntax(_))), "{bad:?}");
        }
        for bad in [
            "[]",
            "1",
            r#"{"type":5}"#,
            r#"{"type":"a.b","typo":1}"#,
            r#"{"type":"a.b","type":"a.b"}"#,
            r#"{"type":"a.b","priority":"urgent"}"#,
            r#"{"type":"a.b","run_id":7}"#,
        ] {
            assert!(matches!(parse(bad), Err(InvalidEvent::Shape(_))), "{bad}");
        }
        for (field, value) in [
            ("tags", "[1]"),
            ("tags", "{}"),
            ("metadata", "[]"),
            ("metadata", "1"),
            ("version", "0"),
            ("version", "-1"),
            ("version", "2.0"),
            ("version", "\"2\""),
            ("version", "4294967296"),
        ] {
            let bad = parse(&format!(r#"{{"type":"a.b","{field}":{value}}}"#));
            assert!(matches!(bad, Err(InvalidEvent::Field { .. })), "{field} {value}");
        }
        let surrogate = parse(r#"{"type":"a.b","trace_id":"\ud800"}"#);
        assert!(matches!(surrogate, Err(InvalidEvent::Unfit(UnfitJson::LoneSurrogate))));
        let deep =
            format!(r#"{{"type":"a.b","data":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
        assert!(matches!(parse(&deep), Err(InvalidEvent::Unfit(UnfitJson::TooDeep))));
        assert!(matches!(parse(r#"{"type":"a.b","run_id":"8"}"#), Err(InvalidEvent::OtherRun)));
        let large = format!(r#"{{"type":"a.b","data":"{}"}}"#, "x".repeat(1 << 20));
        assert!(matches!(parse(&large), Err(InvalidEvent::DataTooLarge { .. })));
    }
}
