//! Reads Server-Sent Events as the specification says a client does.
//! Source: WHATWG HTML, section 9.2.6.

use std::io::{self, BufRead, BufReader, Read};

/// One event of a stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Frame {
    /// Its `event:`; empty for none.
    pub(super) name: String,
    /// Its `data:` lines, joined.
    pub(super) data: String,
    /// The last `id:` seen so far.
    pub(super) last_id: Option<String>,
}

/// The events of a stream.
pub(super) struct Frames<R> {
    input: BufReader<R>,
    last_id: Option<String>,
}

impl<R: Read> Frames<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input: BufReader::new(input), last_id: None }
    }

    /// The next event; none at the end of the stream, where an event that is not whole is dropped.
    pub(super) fn next(&mut self) -> io::Result<Option<Frame>> {
        let mut frame = Frame::default();
        let mut some = false;
        loop {
            let mut line = Vec::new();
            if self.input.read_until(b'\n', &mut line)? == 0 || line.pop() != Some(b'\n') {
                return Ok(None);
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            if line.is_empty() {
                if some {
                    frame.last_id.clone_from(&self.last_id);
                    return Ok(Some(frame));
                }
                frame = Frame::default();
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut frame.name),
                "id" if !value.contains('\0') => self.last_id = Some(value.to_owned()),
                "data" => {
                    if some {
                        frame.data.push('\n');
                    }
                    frame.data.push_str(value);
                    some = true;
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::frame::Framing;
    use crate::event::{EncodedBatch, EventId, Filter, ReadRules, RunId, decode_entry};
    use proptest::prelude::*;

    #[test]
    fn frames_are_read_as_a_browser_reads_them() {
        let text = "retry: 3000\n\nid: 1-0\nevent: a.b\ndata: x\n\n: heartbeat\n\ndata:y\ndata: z\r\n\nid: 2-0\ndata: cut";
        let mut frames = Frames::new(text.as_bytes());
        let first = frames.next().unwrap().unwrap();
        assert_eq!(
            (first.name.as_str(), first.data.as_str(), first.last_id.as_deref()),
            ("a.b", "x", Some("1-0"))
        );
        let second = frames.next().unwrap().unwrap();
        assert_eq!(
            (second.name.as_str(), second.data.as_str(), second.last_id.as_deref()),
            ("", "y\nz", Some("1-0"))
        );
        assert_eq!(frames.next().unwrap(), None);
    }

    /// Any bytes in any field of an entry, as a foreign program may write them.
    fn entry() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
        let name = prop::sample::select(vec![
            "event_category",
            "event_action",
            "event_type",
            "data",
            "source",
            "source_agent_id",
            "event_id",
            "correlation_id",
            "tags",
            "metadata",
            "timestamp",
            "sequence",
            "priority",
        ]);
        let text = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            "[a-z]{1,8}".prop_map(String::into_bytes),
            Just(b"x\n\nid: 9-9\nevent: close\ndata: {}\n\n".to_vec()),
            Just(b"{\"a\":\r\n[1,\n2]}".to_vec()),
        ];
        prop::collection::vec((name, text), 0..8)
    }

    proptest! {
        #[test]
        fn whatever_is_stored_each_event_is_one_frame(entries in prop::collection::vec(entry(), 1..6)) {
            let run = RunId::parse("7").unwrap();
            let stored = entries.iter().zip(1..).map(|(fields, n)| {
                let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
                decode_entry(&run, EventId::new(n, 0), fields)
            });
            let batch = EncodedBatch::encode(EventId::START, stored.collect(), &ReadRules::default());
            for framing in [Framing::Typed, Framing::Message] {
                let mut bytes = Vec::new();
                batch.frames_after(EventId::START, &Filter::default(), framing, |part| bytes.extend_from_slice(&part));
                let mut frames = Frames::new(bytes.as_slice());
                for n in 1..=entries.len() as u64 {
                    let frame = frames.next().unwrap().expect("a frame for each event");
                    let id = EventId::new(n, 0).to_string();
                    prop_assert_eq!(frame.last_id.as_deref(), Some(id.as_str()));
                    let event: serde_json::Value = serde_json::from_str(&frame.data).unwrap();
                    prop_assert_eq!(&event["id"], &id);
                    let kind = format!("{}.{}", event["event"]["category"].as_str().unwrap(), event["event"]["action"].as_str().unwrap());
                    prop_assert_eq!(frame.name, if framing == Framing::Typed { kind } else { String::new() });
                }
                prop_assert_eq!(frames.next().unwrap(), None);
            }
        }
    }
}
