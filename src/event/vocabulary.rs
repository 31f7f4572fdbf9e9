//! The event types that the systems Runhub replaces already emit, and their flat names.
//!
//! A flat name is `category_action` in one word; those that split otherwise, and the few that stand for
//! something else, are listed.

use super::{EventType, InvalidEventType};

/// Flat names and the dotted types they stand for.
pub const FLAT_NAMES: &[(&str, &str)] = &[
    ("finish", "lifecycle.finish"),
    ("agent_start", "agent.start"),
    ("agent_end", "agent.end"),
    ("agent_error", "agent.error"),
    ("llm_start", "llm.start"),
    ("llm_stream", "llm.stream"),
    ("llm_end", "llm.end"),
    ("tool_start", "tool.start"),
    ("tool_end", "tool.end"),
    ("message_delta", "message.delta"),
    ("message_complete", "message.complete"),
    ("node_start", "node.start"),
    ("node_end", "node.end"),
    ("stage_change", "stage.change"),
    ("task_started", "task.started"),
    ("task_progress", "task.progress"),
    ("task_completed", "task.completed"),
    ("task_failed", "task.failed"),
    ("outline_generated", "outline.generated"),
    ("document_generated", "document.generated"),
    ("custom", "custom.event"),
];

/// Turns a flat name into its type; an unknown `foo_bar` becomes `custom.foo_bar`, and a name that is
/// dotted already is taken as it is.
pub fn from_flat(name: &str) -> Result<EventType, InvalidEventType> {
    if name.contains('.') {
        return EventType::parse(name);
    }
    match FLAT_NAMES.iter().find(|(flat, _)| *flat == name) {
        Some((_, dotted)) => EventType::parse(dotted),
        None => EventType::from_parts("custom", name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_names_become_dotted_types() {
        for (flat, dotted) in FLAT_NAMES {
            assert_eq!(from_flat(flat).unwrap().as_str(), *dotted);
        }
        assert_eq!(from_flat("foo_bar").unwrap().as_str(), "custom.foo_bar");
        assert_eq!(from_flat("llm.stream").unwrap().as_str(), "llm.stream");
        for bad in ["", "Foo", "foo bar", "foo\n", "a.b.c"] {
            assert!(from_flat(bad).is_err(), "{bad:?}");
        }
    }
}
