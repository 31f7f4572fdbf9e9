//! The type of a job's event, from a name in snake or camel case that may stand in the data alone.
//!
//! `common.lua` reads the same names in the same way to tell whether an event ends its run; it is told the
//! flat names of the types that do.

use super::typed::KNOWN;
use super::{EventType, vocabulary};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The keys of a job's data that may name its type.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, rename = "eventType")]
    camel: Option<&'a RawValue>,
    #[serde(borrow, rename = "event_type")]
    snake: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    bare: Option<&'a RawValue>,
}

/// The type with this name: dotted, flat, or either in camel case.
pub(super) fn of_name(name: &str) -> Option<EventType> {
    vocabulary::from_flat(&snake_case(name)).ok()
}

/// The type that the data of a job's event names: the first of `eventType`, `event_type` and `type` that
/// is text and not empty.
pub(super) fn of_data(json: &str) -> Option<EventType> {
    // An array would be taken for the keys' values in their order.
    if !json.trim_start().starts_with('{') {
        return None;
    }
    let named: Named<'_> = serde_json::from_str(json).ok()?;
    let text = |value: &RawValue| serde_json::from_str::<String>(value.get()).ok();
    let names = [named.camel, named.snake, named.bare].into_iter().flatten().filter_map(text);
    names.filter(|name| !name.is_empty()).take(1).find_map(|name| of_name(&name))
}

/// The flat names of a type, in snake case.
pub fn flat_names(dotted: &str) -> impl Iterator<Item = &str> {
    let listed = KNOWN.iter().filter(move |known| known.name == dotted);
    let names_it = |name: &&str| of_name(name).is_some_and(|kind| kind.as_str() == dotted);
    let custom = dotted.strip_prefix("custom.").filter(names_it);
    listed.filter_map(|known| known.flat).chain(custom)
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    let mut inside = false;
    for letter in name.chars() {
        if inside && letter.is_ascii_uppercase() {
            snake.push('_');
        }
        inside = letter.is_ascii_lowercase() || letter.is_ascii_digit();
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::typed::Typed;
    use crate::event::{Event, RunId};
    use serde_json::Value;

    #[test]
    fn names_are_read_in_every_case() {
        for (name, kind) in [
            ("task_progress", "task.progress"),
            ("task.progress", "task.progress"),
            ("taskProgress", "task.progress"),
            ("TaskProgress", "task.progress"),
            ("finish", "lifecycle.finish"),
            ("page2Rendered", "custom.page2_rendered"),
        ] {
            assert_eq!(of_name(name).unwrap().as_str(), kind, "{name}");
        }
        for bad in ["", "foo bar", "a.b.c", "llm\nid: 9-9", "ä"] {
            assert_eq!(of_name(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_type_has_flat_names_that_stand_for_it() {
        let names = |dotted| flat_names(dotted).collect::<Vec<_>>();
        assert_eq!(names("lifecycle.finish"), ["finish"]);
        assert_eq!(names("lifecycle.failed"), [""; 0]);
        assert_eq!(names("custom.foo_bar"), ["foo_bar"]);
        // As a flat name `finish` stands for another type.
        assert_eq!(names("custom.finish"), [""; 0]);
        assert_eq!(names("custom.event"), ["custom", "event"]);
    }

    #[test]
    fn data_names_its_type_under_one_of_three_keys() {
        for (data, kind) in [
            (r#"{"eventType":"task_started","taskType":"outline"}"#, "task.started"),
            (r#" {"type":"x","event_type":"taskFailed"}"#, "task.failed"),
            (r#"{"eventType":"","event_type":7,"type":"agent_start"}"#, "agent.start"),
            (r#"{"eventType":null,"nested":{"type":"x"},"type":"finish"}"#, "lifecycle.finish"),
        ] {
            assert_eq!(of_data(data).unwrap().as_str(), kind, "{data}");
        }
        for none in [
            "",
            "1",
            r#"["finish","finish","finish"]"#,
            r#"{"nested":{"eventType":"finish"}}"#,
            r#"{"eventType":"no type","type":"finish"}"#,
            r#"{"eventType":"finish""#,
        ] {
            assert_eq!(of_data(none), None, "{none}");
        }
    }

    #[test]
    fn data_of_jobs_reads_as_the_struct_of_its_type() {
        let json = r#"{"eventType":"task_progress","taskType":"outline","progress":0.5}"#;
        let (run, kind) = (RunId::parse("7").unwrap(), of_data(json).unwrap());
        let event = Event::of(&run, kind, &serde_json::from_str(json).unwrap());
        let Typed::TaskProgress(read) = event.typed().unwrap() else { panic!("{event:?}") };
        assert_eq!((read.task_type.as_str(), read.progress), ("outline", Value::from(0.5)));
    }
}
