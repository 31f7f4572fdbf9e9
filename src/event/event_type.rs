//! What kind of event it is: `category.action`.

use std::fmt;
use std::sync::Arc;

/// The longest category or action, in characters.
pub const MAX_NAME: usize = 64;

/// An event type such as `llm.stream`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EventType {
    text: Arc<str>,
    dot: usize,
}

/// The text is not `category.action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an event type is category.action, each a lower-case letter followed by up to 63 of a-z 0-9 _"
)]
pub struct InvalidEventType;

/// Whether the text fits `[a-z][a-z0-9_]{0,63}`.
pub fn is_name(text: &[u8]) -> bool {
    text.len() <= MAX_NAME
        && text.first().is_some_and(u8::is_ascii_lowercase)
        && text.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'_')
}

/// The two names, which were checked, with a dot between them; without an allocation but the text's own.
fn joined(category: &str, action: &str) -> Arc<str> {
    let mut text = [0; 2 * MAX_NAME + 1];
    let mut end = 0;
    for part in [category, ".", action] {
        text[end..end + part.len()].copy_from_slice(part.as_bytes());
        end += part.len();
    }
    // Names are ASCII.
    String::from_utf8_lossy(&text[..end]).into()
}

impl EventType {
    /// Parses `category.action`.
    pub fn parse(text: &str) -> Result<Self, InvalidEventType> {
        let (category, action) = text.split_once('.').ok_or(InvalidEventType)?;
        if is_name(category.as_bytes()) && is_name(action.as_bytes()) {
            Ok(Self { text: text.into(), dot: category.len() })
        } else {
            Err(InvalidEventType)
        }
    }

    /// Joins the two names after checking each.
    pub fn from_parts(category: &str, action: &str) -> Result<Self, InvalidEventType> {
        if is_name(category.as_bytes()) && is_name(action.as_bytes()) {
            Ok(Self { text: joined(category, action), dot: category.len() })
        } else {
            Err(InvalidEventType)
        }
    }

    /// The type of an entry that names none.
    pub fn unknown() -> Self {
        Self { text: "unknown.unknown".into(), dot: "unknown".len() }
    }

    /// The part before the dot.
    pub fn category(&self) -> &str {
        &self.text[..self.dot]
    }

    /// The part after the dot.
    pub fn action(&self) -> &str {
        &self.text[self.dot + 1..]
    }

    /// `category.action`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_two_lower_case_names() {
        let kind = EventType::parse("llm.tool_call2").unwrap();
        assert_eq!((kind.category(), kind.action()), ("llm", "tool_call2"));
        assert_eq!(EventType::from_parts("llm", "tool_call2"), Ok(kind));
        assert_eq!(EventType::parse("unknown.unknown"), Ok(EventType::unknown()));
        let long = format!("a.{}", "b".repeat(65));
        for bad in [
            "",
            "llm",
            "llm.",
            ".stream",
            "LLM.stream",
            "llm.Stream",
            "llm.a.b",
            "llm.str eam",
            "llm.x\n",
            "llm\r.x",
            "1lm.x",
            "_a.b",
            "llm.x\0",
            &long,
        ] {
            assert_eq!(EventType::parse(bad), Err(InvalidEventType), "{bad:?}");
        }
    }
}
