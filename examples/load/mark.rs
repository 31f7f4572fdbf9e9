//! The mark in every event's data: the run's number, the event's own, and when it was sent. It is of one width and
//! of plain characters, so that a receiver finds it with one search, whatever a server has put around the data.

use memchr::memmem;
use std::io::Write;
use std::sync::LazyLock;
use std::time::Instant;

const TAG: &[u8] = b"#mark#";
const LENGTH: usize = TAG.len() + 8 + 8 + 16;

#[derive(Clone, Copy)]
pub struct Mark {
    pub run: u32,
    /// 1, 2, 3 … in each run.
    pub sequence: u32,
    /// On the clock of `now`.
    pub sent: u64,
}

/// Nanoseconds on the one clock of publishers and subscribers.
pub fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Mark {
    /// The data of an event: some 256 bytes of JSON.
    pub fn write_data(&self, out: &mut Vec<u8>) {
        let Self { run, sequence, sent } = self;
        let filling = "x".repeat(192);
        write!(out, r##"{{"m":"#mark#{run:08x}{sequence:08x}{sent:016x}","text":"{filling}"}}"##)
            .expect("a Vec takes all");
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let digits = std::str::from_utf8(bytes.get(TAG.len()..LENGTH)?).ok()?;
        Some(Self {
            run: u32::from_str_radix(&digits[..8], 16).ok()?,
            sequence: u32::from_str_radix(&digits[8..16], 16).ok()?,
            sent: u64::from_str_radix(&digits[16..], 16).ok()?,
        })
    }

    /// Where the mark of this event stands.
    pub fn position(bytes: &[u8], run: u32, sequence: u32) -> Option<usize> {
        memmem::find(bytes, format!("#mark#{run:08x}{sequence:08x}").as_bytes())
    }
}

/// Finds marks in bytes that come in pieces.
#[derive(Default)]
pub struct Marks {
    /// The last bytes seen, in which a mark may have begun.
    tail: Vec<u8>,
}

impl Marks {
    pub fn feed(&mut self, bytes: &[u8], on: &mut dyn FnMut(Mark)) {
        static FINDER: LazyLock<memmem::Finder<'static>> =
            LazyLock::new(|| memmem::Finder::new(TAG));
        if !self.tail.is_empty() {
            // Only a mark that begins in the tail is whole here and not below.
            self.tail.extend_from_slice(&bytes[..bytes.len().min(LENGTH - 1)]);
            if let Some(mark) = FINDER.find(&self.tail).and_then(|at| Mark::read(&self.tail[at..]))
            {
                on(mark);
            }
            if bytes.len() < LENGTH - 1 {
                // All of it is in the tail by now, of which the end is kept.
                let beyond = self.tail.len().saturating_sub(LENGTH - 1);
                self.tail.drain(..beyond);
                return;
            }
            self.tail.clear();
        }
        for at in FINDER.find_iter(bytes) {
            if let Some(mark) = Mark::read(&bytes[at..]) {
                on(mark);
            }
        }
        // There is no line end in a mark, so that most pieces leave nothing behind.
        if !bytes.ends_with(b"\n") {
            self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(LENGTH - 1)..]);
        }
    }
}
