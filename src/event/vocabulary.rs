//! The flat names of event types.
//!
//! A flat name is `category_action` in one word, or one of a few that stand for something else; the table of
//! known types ([`super::typed::KNOWN`]) says which. Any other flat name stands for a type of its own in
//! the category `custom`.

use super::typed::KNOWN;
use super::{EventType, InvalidEventType};

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

#[cfg(test)]
mod tests {
    use super::*;
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

    proptest! {
        #[test]
        fn a_flat_name_comes_back(name in "[a-z][a-z0-9_]{0,63}") {
            let kind = from_flat(&name).unwrap();
            prop_assert_eq!(to_flat(&kind), Some(name.as_str()));
        }
    }
}
