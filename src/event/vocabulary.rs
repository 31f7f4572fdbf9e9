//! The flat names of event types, and the types of job events.
//!
//! A flat name is `category_action` in one word, or one of a few that stand for something else; the table of
//! known types ([`super::typed::KNOWN`]) says which. Any other flat name stands for a type of its own in
//! the category `custom`.

use super::typed::KNOWN;
use super::{EventType, InvalidEventType};
use serde::Deserialize;
use serde_json::Value;

/// The category of types that only have a flat name.
const CUSTOM: &str = "custom";

/// Turns a flat name into its type; an unknown `foo_bar` becomes `custom.foo_bar`, and a name that is
/// dotted already is taken as it is.
pub fn from_flat(name: &str) -> Result<EventType, InvalidEventType> {
    if name.contains('.') {
        return EventType::parse(name);
    }
    match KNOWN.iter().find(|known| known.flat == Some(name)) {
        Some(known) => EventType::parse(known.name),
        None => EventType::from_parts(CUSTOM, name),
    }
}

/// The flat name of a type, the way back from [`from_flat`]; none for a type that has none.
pub fn to_flat(kind: &EventType) -> Option<&str> {
    match KNOWN.iter().find(|known| known.name == kind.as_str()) {
        Some(known) => known.flat,
        None => {
            let name = (kind.category() == CUSTOM).then(|| kind.action())?;
            KNOWN.iter().all(|known| known.flat != Some(name)).then_some(name)
        }
    }
}

/// The type that the data of a job event names in `event_type`, or in `eventType`; none if it names no
/// type. The data itself stays as it is.
pub fn type_of_job_data(json: &str) -> Option<EventType> {
    #[derive(Deserialize)]
    struct Named {
        event_type: Option<Value>,
        #[serde(rename = "eventType")]
        camel: Option<Value>,
    }
    // An array would be read as the two fields one behind the other.
    let object = Some(json).filter(|json| json.trim_start().starts_with('{'))?;
    let named: Named = serde_json::from_str(object).ok()?;
    let name = named.event_type.or(named.camel)?;
    from_flat(name.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::typed::Typed;
    use crate::event::{Event, RunId};
    use proptest::prelude::*;

    #[test]
    fn flat_names_become_dotted_types() {
        for (flat, dotted) in [
            ("llm_stream", "llm.stream"),
            ("finish", "lifecycle.finish"),
            ("custom", "custom.event"),
            ("foo_bar", "custom.foo_bar"),
            ("llm_reasoning", "custom.llm_reasoning"),
            ("llm.stream", "llm.stream"),
        ] {
            assert_eq!(from_flat(flat).unwrap().as_str(), dotted);
        }
        for bad in ["", "Foo", "foo bar", "foo\n", "a.b.c"] {
            assert!(from_flat(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_flat_name_maps_both_ways() {
        for known in KNOWN {
            let kind = EventType::parse(known.name).unwrap();
            assert_eq!(to_flat(&kind), known.flat);
            if let Some(flat) = known.flat {
                assert_eq!(from_flat(flat), Ok(kind));
            }
        }
        for without in ["a.b", "custom.llm_stream", "custom.custom"] {
            assert_eq!(to_flat(&EventType::parse(without).unwrap()), None, "{without}");
        }
    }

    #[test]
    fn job_data_names_its_type_in_either_case() {
        for (json, kind) in [
            (r#"{"eventType":"task_progress"}"#, Some("task.progress")),
            (r#"{"event_type":"task.started","eventType":"task_failed"}"#, Some("task.started")),
            (r#"{"event_type":null,"eventType":"made_up"}"#, Some("custom.made_up")),
            (r#"{"eventType":"Task Failed"}"#, None),
            (r#"{"eventType":7}"#, None),
            ("{}", None),
            (r#"["task_started",null]"#, None),
            ("no JSON", None),
        ] {
            assert_eq!(type_of_job_data(json).as_ref().map(EventType::as_str), kind, "{json}");
        }
        let json = r#"{"eventType":"task_progress","taskType":"outline","progress":0.5}"#;
        let (run, kind) = (RunId::parse("7").unwrap(), type_of_job_data(json).unwrap());
        let event = Event::of(&run, kind, &serde_json::from_str(json).unwrap());
        let Typed::TaskProgress(read) = event.typed().unwrap() else { panic!("{event:?}") };
        assert_eq!((read.task_type.as_str(), read.progress), ("outline", Value::from(0.5)));
    }

    proptest! {
        #[test]
        fn a_flat_name_comes_back(name in "[a-z][a-z0-9_]{0,63}") {
            let kind = from_flat(&name).unwrap();
            prop_assert_eq!(to_flat(&kind), Some(name.as_str()));
        }
    }
}
