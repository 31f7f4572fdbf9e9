//! A strict reader of Server-Sent Events, written from WHATWG HTML section 9.2 and not from the hub. What
//! a browser would let pass silently, but a hub should never send, is a failure here.

use super::http::{Answer, Request};
use serde_json::Value;
use std::io::{self, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// What a stream delivers.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// An event with its id, its name (none where the line is left out) and its data.
    Event { id: String, name: Option<String>, data: Value },
    /// A control frame.
    Control { name: String, data: Value },
    /// A comment.
    Comment(String),
    /// `retry:`, in ms.
    Retry(u64),
    /// The end of the response.
    End,
}

/// An open stream.
pub struct Stream {
    connection: TcpStream,
    pub head: Answer,
    /// Chunked bytes, then plain bytes, not yet taken apart.
    chunked: Vec<u8>,
    plain: Vec<u8>,
    ended: bool,
    /// The names of the frames that told of the hub's mode, passed over by `next_real`.
    pub modes: Vec<String>,
}

impl Stream {
    /// Sends the request and reads the head of the answer, which must be a stream's.
    pub fn open(port: u16, request: Request) -> Self {
        let stream = Self::try_open(port, request);
        assert_eq!(stream.head.status, 200, "{:?}", stream.head);
        assert_eq!(stream.head.header("content-type"), Some("text/event-stream"));
        stream
    }

    pub fn try_open(port: u16, request: Request) -> Self {
        Self::of(request.open(port))
    }

    /// Reads the head of the answer on a connection that a request was sent on.
    pub fn of(connection: TcpStream) -> Self {
        Self::try_of(connection).unwrap()
    }

    /// The same, on a connection that may be lost.
    pub fn try_of(mut connection: TcpStream) -> io::Result<Self> {
        let mut bytes = Vec::new();
        let (head, rest) = loop {
            let mut buffer = [0; 4096];
            let count = connection.read(&mut buffer)?;
            if count == 0 {
                return Err(lost("the answer ended within its head"));
            }
            bytes.extend_from_slice(&buffer[..count]);
            if let Some((head, rest)) = Answer::parse(&bytes) {
                break (head, rest.to_vec());
            }
        };
        let (plain, modes) = (Vec::new(), Vec::new());
        let mut stream = Self { connection, head, chunked: rest, plain, ended: false, modes };
        // A short answer may have come whole with its head; then nothing more will.
        stream.take_chunks();
        Ok(stream)
    }

    /// The next frame; panics if none comes in time.
    #[track_caller]
    pub fn next(&mut self) -> Frame {
        self.next_within(super::wait::PATIENCE).expect("a frame in time")
    }

    /// The next frame, if one comes in time.
    pub fn next_within(&mut self, patience: Duration) -> Option<Frame> {
        self.try_next_within(patience).unwrap()
    }

    /// The same, on a connection that may be lost; what is not a stream is a failure all the same.
    pub fn try_next_within(&mut self, patience: Duration) -> io::Result<Option<Frame>> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(end) = self.plain.windows(2).position(|w| w == b"\n\n") {
                let block: Vec<u8> = self.plain.drain(..end + 2).collect();
                return Ok(Some(parse(std::str::from_utf8(&block[..end]).expect("UTF-8"))));
            }
            if self.ended {
                assert!(self.plain.is_empty(), "the stream ended within a frame");
                return Ok(Some(Frame::End));
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Ok(None);
            };
            self.connection.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let mut buffer = [0; 65536];
            match self.connection.read(&mut buffer) {
                Ok(0) => return Err(lost("the connection ended within the chunked body")),
                Ok(count) => self.chunked.extend_from_slice(&buffer[..count]),
                Err(e)
                    if matches!(
                        e.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) =>
                {
                    return Ok(None);
                }
                Err(e) => return Err(e),
            }
            self.take_chunks();
        }
    }

    fn take_chunks(&mut self) {
        while let Some(line) = self.chunked.windows(2).position(|w| w == b"\r\n") {
            let size = std::str::from_utf8(&self.chunked[..line]).unwrap();
            let size = usize::from_str_radix(size, 16).expect("a chunk's size");
            if size == 0 {
                self.ended = true;
                return;
            }
            if self.chunked.len() < line + 2 + size + 2 {
                return;
            }
            self.plain.extend_from_slice(&self.chunked[line + 2..line + 2 + size]);
            self.chunked.drain(..line + 2 + size + 2);
        }
    }

    /// The next event, control frame or end; heartbeats, `retry` and what tells of the mode are passed
    /// over. Panics if none comes in time.
    #[track_caller]
    pub fn next_real(&mut self) -> Frame {
        let deadline = Instant::now() + super::wait::PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.next_within(left).expect("a frame that is no heartbeat, in time") {
                Frame::Comment(_) | Frame::Retry(_) => {}
                Frame::Control { name, data } if name == "degraded" || name == "recovered" => {
                    let since = data["since"].as_str().expect("a time");
                    assert!(since.len() == 24 && since.ends_with('Z'), "{since}");
                    self.modes.push(name);
                }
                frame => return frame,
            }
        }
    }

    /// The next event as id and JSON; anything else is a failure.
    #[track_caller]
    pub fn event(&mut self) -> (String, Value) {
        match self.next_real() {
            Frame::Event { id, data, .. } => (id, data),
            other => panic!("expected an event, got {other:?}"),
        }
    }

    /// The next `count` events' sequences.
    #[track_caller]
    pub fn sequences(&mut self, count: usize) -> Vec<u64> {
        (0..count).map(|_| self.event().1["sequence"].as_u64().unwrap()).collect()
    }

    /// The next control frame's name and data.
    #[track_caller]
    pub fn control(&mut self) -> (String, Value) {
        match self.next_real() {
            Frame::Control { name, data } => (name, data),
            other => panic!("expected a control frame, got {other:?}"),
        }
    }

    /// Checks that the stream closes for this reason, and ends.
    #[track_caller]
    pub fn closes(&mut self, reason: &str) {
        let (name, data) = self.control();
        assert_eq!((name.as_str(), &data["reason"]), ("close", &Value::from(reason)));
        assert_eq!(self.next(), Frame::End);
    }
}

fn lost(how: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, how)
}

fn parse(block: &str) -> Frame {
    assert!(!block.contains(['\r', '\0']), "a control character in {block:?}");
    if let Some(comment) = block.strip_prefix(':') {
        assert!(!block.contains('\n'), "a comment is a frame of its own: {block:?}");
        return Frame::Comment(comment.trim_start().to_owned());
    }
    let (mut id, mut name, mut data, mut retry) = (None, None, None, None);
    for line in block.split('\n') {
        let (field, value) = line.split_once(": ").unwrap_or_else(|| panic!("odd line {line:?}"));
        let slot = match field {
            "id" => &mut id,
            "event" => &mut name,
            "data" => &mut data,
            "retry" => &mut retry,
            _ => panic!("odd field {field:?}"),
        };
        assert!(slot.replace(value.to_owned()).is_none(), "{field} twice in {block:?}");
    }
    if let Some(retry) = retry {
        return Frame::Retry(retry.parse().unwrap());
    }
    let data: Value = serde_json::from_str(&data.expect("data")).expect("JSON");
    match (id, name) {
        (Some(id), name) => {
            // A stream of several runs has a cursor in its place.
            let of_one_run = id
                .split_once('-')
                .is_some_and(|(ms, n)| ms.parse::<u64>().is_ok() && n.parse::<u64>().is_ok());
            if of_one_run {
                assert_eq!(data["id"], id.as_str(), "the frame's id is the event's");
            }
            if let Some(name) = &name {
                let (category, action) = name.split_once('.').expect("a type has a dot");
                assert_eq!(
                    (&data["event"]["category"], &data["event"]["action"]),
                    (&category.into(), &action.into())
                );
            }
            Frame::Event { id, name, data }
        }
        (None, Some(name)) => {
            assert!(!name.contains('.'), "a control frame's name has no dot: {name}");
            Frame::Control { name, data }
        }
        (None, None) => panic!("neither an event nor a control frame: {block:?}"),
    }
}
