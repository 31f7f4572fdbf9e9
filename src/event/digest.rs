//! A 64-bit digest of an event's content, by which a repeated `event_id` is told from a reused one.
//!
//! The publisher's timestamp is left out: a client that stamps each attempt anew still means one event.
//! The digest is kept in stores, so its input must not change between versions.

use super::Event;
use xxhash_rust::xxh3::Xxh3;

/// The digest of what the event says.
pub fn of(event: &Event) -> u64 {
    let mut hash = Xxh3::new();
    // Each part is preceded by its length, so that no two lists of parts hash as the same bytes.
    let mut part = |text: Option<&str>| {
        let text = text.unwrap_or_default();
        hash.update(&(text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    part(Some(event.kind.as_str()));
    part(Some(&event.data));
    if let Some(source) = &event.source {
        part(source.json.as_deref());
        for (_, value) in source.known() {
            part(value);
        }
    }
    if let Some(extras) = &event.extras {
        part(extras.correlation_id.as_deref());
        part(extras.trace_id.as_deref());
        part(extras.session_id.as_deref());
        part(extras.conversation_id.as_deref());
        part(extras.message_id.as_deref());
        part(extras.priority.map(super::Priority::as_str));
        part(extras.tags.as_deref());
        part(extras.metadata.as_deref());
        if let Some(version) = extras.version {
            // Only where given: events without one must keep the digest they always had.
            part(Some(&version.to_string()));
        }
    }
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::parse::{EventLimits, parse_event};
    use crate::event::{NewEvent, RunId, Timestamp};

    fn digest(fields: &str) -> u64 {
        let run = RunId::parse("7").unwrap();
        let json = format!(r#"{{"type":"a.b","data":1{fields}}}"#);
        let limits = EventLimits { max_data: 100 };
        of(&parse_event(&run, &json, Timestamp::from_ms(5), limits).unwrap())
    }

    #[test]
    fn an_event_has_the_digest_that_it_has_when_it_is_read_again() {
        let run = RunId::parse("7").unwrap();
        let limits = EventLimits { max_data: 100 };
        let new = |fields: &str| {
            let json = format!(r#"{{"type":"a.b","data":1{fields}}}"#);
            let event = parse_event(&run, &json, Timestamp::from_ms(5), limits).unwrap();
            NewEvent::new(event)
        };
        for fields in [r#","correlation_id":"""#, r#","source":{"agent_id":""}"#, r#","source":{}"#]
        {
            let new = new(fields);
            assert_eq!(new.digest, of(&new.event), "{fields}");
        }
        assert_eq!(new(r#","correlation_id":"""#).digest, digest(""), "it says nothing");
    }

    #[test]
    fn digests_that_stores_keep_stay_what_they_are() {
        let all = r#","source":{"agent_id":"r"},"trace_id":"t","tags":["x"]"#;
        assert_eq!(["", all].map(digest), [7_543_074_184_954_705_502, 14_196_556_191_320_738_164]);
    }

    #[test]
    fn a_version_is_content() {
        let digests = ["", r#","version":1"#, r#","version":2"#].map(digest);
        assert!(digests[0] != digests[1] && digests[1] != digests[2]);
    }
}
