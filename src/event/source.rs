//! Who emitted an event: the agent and its team.
//!
//! The four keys that have a field of their own in a stream entry are kept apart; a source that has other
//! keys as well is kept as its JSON too, which is then what readers see.

use super::borrowed::Text;
use super::json_text::{push_one_line, push_string};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use std::fmt;

/// The source of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// The agent's id; never empty.
    pub agent_id: Option<Box<str>>,
    /// What sort of agent it is; never empty.
    pub agent_type: Option<Box<str>>,
    /// The agent's name; never empty.
    pub agent_name: Option<Box<str>>,
    /// The agent's team; never empty.
    pub team_name: Option<Box<str>>,
    /// The whole object as sent, where the four keys above do not say all of it.
    pub json: Option<Box<str>>,
}

impl Source {
    /// Parses the JSON of a source object. The error says what does not fit.
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        let Known { mut source, others } = serde_json::from_str(json)?;
        if others || source == Self::default() {
            source.json = Some(json.into());
        }
        Ok(source)
    }

    /// Whether the agent has this id or name.
    pub fn is_agent(&self, id_or_name: &str) -> bool {
        self.agent_id.as_deref() == Some(id_or_name)
            || self.agent_name.as_deref() == Some(id_or_name)
    }

    /// The keys with a field of their own, in the order of the fields.
    pub fn known(&self) -> [(&'static str, Option<&str>); 4] {
        [
            ("agent_id", self.agent_id.as_deref()),
            ("agent_type", self.agent_type.as_deref()),
            ("agent_name", self.agent_name.as_deref()),
            ("team_name", self.team_name.as_deref()),
        ]
    }

    /// Appends the object as JSON on one line.
    pub fn push_json(&self, out: &mut Vec<u8>) {
        if let Some(json) = &self.json {
            push_one_line(out, json);
            return;
        }
        let mut separator = b'{';
        for (key, value) in self.known() {
            if let Some(value) = value {
                out.push(separator);
                // The keys need no escapes.
                out.push(b'"');
                out.extend_from_slice(key.as_bytes());
                out.extend_from_slice(b"\":");
                push_string(out, value);
                separator = b',';
            }
        }
        if separator == b'{' {
            out.push(b'{');
        }
        out.push(b'}');
    }
}

/// What one pass over the object finds.
struct Known {
    source: Source,
    others: bool,
}

impl<'de> Deserialize<'de> for Known {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(KnownVisitor)
    }
}

struct KnownVisitor;

impl<'de> Visitor<'de> for KnownVisitor {
    type Value = Known;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Known, A::Error> {
        let mut known = Known { source: Source::default(), others: false };
        let mut seen = [false; 4];
        while let Some(key) = map.next_key::<Text<'_>>()? {
            let source = &mut known.source;
            let (slot, seen) = match &*key {
                "agent_id" => (&mut source.agent_id, &mut seen[0]),
                "agent_type" => (&mut source.agent_type, &mut seen[1]),
                "agent_name" => (&mut source.agent_name, &mut seen[2]),
                "team_name" => (&mut source.team_name, &mut seen[3]),
                "node_name" => {
                    // Has no field of its own, but is text or null like the others.
                    known.others |= map.next_value::<Option<String>>()?.is_some();
                    continue;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    known.others = true;
                    continue;
                }
            };
            if std::mem::replace(seen, true) {
                return Err(A::Error::custom(format_args!("duplicate field `{}`", &*key)));
            }
            *slot = map.next_value::<Option<Box<str>>>()?.filter(|text| !text.is_empty());
        }
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str) -> String {
        let mut out = Vec::new();
        Source::parse(json).unwrap().push_json(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_keys_are_split_out_and_others_kept() {
        let source =
            Source::parse(r#"{"agent_id":"r1","team_name":"x","agent_type":null}"#).unwrap();
        assert_eq!((source.agent_id.as_deref(), source.json), (Some("r1"), None));
        assert_eq!(
            shown(r#"{"team_name":"x","agent_id":"r\n1"}"#),
            r#"{"agent_id":"r\n1","team_name":"x"}"#
        );
        assert_eq!(shown(r#"{"node_name":"n","depth":1.10}"#), r#"{"node_name":"n","depth":1.10}"#);
        assert_eq!(shown("{}"), "{}");
        for bad in [
            "[]",
            "1",
            r#"{"agent_id":5}"#,
            r#"{"agent_id":"a","agent_id":"b"}"#,
            r#"{"node_name":[]}"#,
        ] {
            assert!(Source::parse(bad).is_err(), "{bad}");
        }
    }
}
