//! As much of HTTP/1.1 as a client that measures needs: the head of a response, and bodies in chunks.

use memchr::{memchr, memmem};

pub struct Head {
    pub status: u16,
    pub framing: Framing,
    /// The head's bytes, the blank line included.
    pub length: usize,
}

pub enum Framing {
    Length(usize),
    Chunked,
}

impl Head {
    /// The head, if it is there as a whole.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let length = memmem::find(bytes, b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&bytes[..length]).to_ascii_lowercase();
        let status = text.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        let header = |name| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let framing = match header("transfer-encoding:") {
            Some("chunked") => Framing::Chunked,
            _ => {
                let length = header("content-length:").and_then(|value| value.parse().ok());
                Framing::Length(length.unwrap_or(0))
            }
        };
        Some(Self { status, framing, length })
    }
}

/// Takes the chunks' frames off a body that comes in pieces.
#[derive(Default)]
pub struct Chunks {
    left: usize,
    line: Vec<u8>,
    last: bool,
    pub ended: bool,
}

impl Chunks {
    /// Gives the body's bytes on; how many of these bytes belong to this body.
    pub fn feed(&mut self, bytes: &[u8], on: &mut dyn FnMut(&[u8])) -> Result<usize, String> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.ended {
            if self.left > 0 {
                let (part, behind) = rest.split_at(self.left.min(rest.len()));
                on(part);
                self.left -= part.len();
                rest = behind;
                continue;
            }
            let Some(end) = memchr(b'\n', rest) else {
                self.line.extend_from_slice(rest);
                return Ok(bytes.len());
            };
            self.line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            self.line_is_whole()?;
        }
        Ok(bytes.len() - rest.len())
    }

    /// A chunk's size, the end of a chunk, or what follows the last one.
    fn line_is_whole(&mut self) -> Result<(), String> {
        let line = String::from_utf8_lossy(self.line.trim_ascii()).into_owned();
        self.line.clear();
        if line.is_empty() {
            self.ended = self.last;
        } else if !self.last {
            let size = line.split(';').next().unwrap_or_default();
            self.left = usize::from_str_radix(size, 16).map_err(|_| {
                format!("{line:?} is no chunk's size: this is no HTTP/1.1 in chunks")
            })?;
            self.last = self.left == 0;
        }
        Ok(())
    }
}
