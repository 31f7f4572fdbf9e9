//! What a subscriber reads, taken out of its transport: a body in chunks, or the replies of Redis.

use crate::http::{Chunks, Framing, Head};
use crate::resp;
use crate::target::Target;

pub enum Wire {
    Head(Vec<u8>),
    /// The chunks of the body; none where it lasts until the connection ends.
    Body(Option<Chunks>),
    Redis {
        run: String,
        reply: Vec<u8>,
    },
}

impl Wire {
    pub fn new(target: &Target, run: &str) -> Self {
        if target.is_redis() {
            return Self::Redis { run: run.to_owned(), reply: Vec::new() };
        }
        Self::Head(Vec::new())
    }

    /// Whether the server has accepted the subscriber; Redis says nothing before the first event.
    pub fn is_open(&self) -> bool {
        !matches!(self, Self::Head(_))
    }

    /// Gives the bytes that hold events on; what is to be sent next, if anything.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        on: &mut dyn FnMut(&[u8]),
    ) -> Result<Option<Vec<u8>>, String> {
        match self {
            Self::Head(begun) => {
                begun.extend_from_slice(bytes);
                let Some(head) = Head::parse(begun) else { return Ok(None) };
                let begun = std::mem::take(begun);
                if head.status != 200 {
                    let answer = String::from_utf8_lossy(&begun);
                    return Err(format!("a subscriber was answered {answer}"));
                }
                let in_chunks = matches!(head.framing, Framing::Chunked);
                *self = Self::Body(in_chunks.then(Chunks::default));
                self.feed(&begun[head.length..], on)
            }
            Self::Body(None) => {
                on(bytes);
                Ok(None)
            }
            Self::Body(Some(chunks)) => {
                chunks.feed(bytes, on)?;
                Ok(None)
            }
            Self::Redis { run, reply } => {
                on(bytes);
                reply.extend_from_slice(bytes);
                if resp::reply_length(reply)?.is_none() {
                    return Ok(None);
                }
                let id = resp::last_id(reply).ok_or("Redis answered XREAD without an entry")?;
                let next = Target::xread(run, id);
                reply.clear();
                Ok(Some(next))
            }
        }
    }
}
