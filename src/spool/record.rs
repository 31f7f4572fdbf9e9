//! The records of a segment. Each begins with a mark, its length and a checksum, so that one that is cut
//! or damaged is told from a whole one, and the next whole one is found behind it.
//!
//! ```text
//! record   mark "RHS1", u32 length of the body, u64 xxh3 of the body, body; numbers little-endian
//! publish  1, u64 seq, u64 published_ms, u64 writer, u64 number, run, u32 events, then of each event
//!          u8 flags, u64 digest, u32 length, the fields as event/packed.rs writes them
//! drained  2, u64 seq, run: all of this run's publishes up to seq are in the store
//! run      u8 length, text
//! ```

use super::SpooledPublish;
use crate::event::packed::{pack, unpack};
use crate::event::{EventId, NewEvent, RunId};
use std::ops::Range;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

const MARK: [u8; 4] = *b"RHS1";
const HEADER: usize = 16;
const PUBLISH: u8 = 1;
const DRAINED: u8 = 2;

const KEY_IS_GIVEN: u8 = 1;
const SEARCH_FIRST: u8 = 2;

/// What a record says.
#[derive(Debug)]
pub(super) enum Record {
    Publish { seq: u64, publish: SpooledPublish },
    Drained { seq: u64, run: RunId },
}

/// Appends a publish; gives the length of its record.
pub(super) fn write_publish(out: &mut Vec<u8>, seq: u64, publish: &SpooledPublish) -> usize {
    write(out, |out| {
        out.push(PUBLISH);
        for number in [seq, publish.published_ms, publish.writer, publish.number] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        write_run(out, &publish.run);
        out.extend_from_slice(&length(publish.events.len()));
        for new in publish.events.iter() {
            let flags = [(new.key_is_given, KEY_IS_GIVEN), (new.search_first, SEARCH_FIRST)];
            out.push(flags.into_iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum());
            out.extend_from_slice(&new.digest.to_le_bytes());
            let at = out.len();
            out.extend_from_slice(&[0; 4]);
            pack(&new.event, out);
            let packed = length(out.len() - at - 4);
            out[at..at + 4].copy_from_slice(&packed);
        }
    })
}

/// Appends a note of what is drained.
pub(super) fn write_drained(out: &mut Vec<u8>, seq: u64, run: &RunId) {
    write(out, |out| {
        out.push(DRAINED);
        out.extend_from_slice(&seq.to_le_bytes());
        write_run(out, run);
    });
}

fn write(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) -> usize {
    let start = out.len();
    out.extend_from_slice(&MARK);
    out.extend_from_slice(&[0; HEADER - MARK.len()]);
    body(out);
    let (header, body) = out[start..].split_at_mut(HEADER);
    header[4..8].copy_from_slice(&length(body.len()));
    header[8..].copy_from_slice(&xxh3_64(body).to_le_bytes());
    out.len() - start
}

fn write_run(out: &mut Vec<u8>, run: &RunId) {
    // A run id has at most 128 characters.
    out.push(u8::try_from(run.as_str().len()).unwrap_or(u8::MAX));
    out.extend_from_slice(run.as_str().as_bytes());
}

/// Lengths are far below 4 GiB: a publish is bounded by `publish.max_body`.
fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).unwrap_or(u32::MAX).to_le_bytes()
}

/// The record at the beginning of these bytes and its length, if there is a whole one.
pub(super) fn read(bytes: &[u8]) -> Option<(Record, usize)> {
    let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
    let (mark, sizes) = header.split_first_chunk::<4>()?;
    let (length, checksum) = sizes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let body = rest.get(..length)?;
    let whole = *mark == MARK && xxh3_64(body) == u64::from_le_bytes(checksum.try_into().ok()?);
    whole.then(|| read_body(body)).flatten().map(|record| (record, HEADER + length))
}

fn read_body(body: &[u8]) -> Option<Record> {
    let mut body = Reader(body);
    match body.byte()? {
        PUBLISH => {
            let (seq, published_ms) = (body.number()?, body.number()?);
            let (writer, number) = (body.number()?, body.number()?);
            let run = body.run()?;
            let count = body.length()?;
            // Of a damaged count nothing is believed.
            let mut events = Vec::with_capacity(count.min(1024));
            for _ in 0..count {
                events.push(body.event(&run)?);
            }
            let events = Arc::from(events);
            let publish = SpooledPublish { run, writer, number, published_ms, events };
            Some(Record::Publish { seq, publish })
        }
        DRAINED => Some(Record::Drained { seq: body.number()?, run: body.run()? }),
        _ => None,
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn chunk<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(chunk)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.chunk::<1>().map(|[byte]| *byte)
    }

    fn number(&mut self) -> Option<u64> {
        self.chunk().map(|chunk| u64::from_le_bytes(*chunk))
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(*self.chunk()?)).ok()
    }

    fn run(&mut self) -> Option<RunId> {
        let length = self.byte()?;
        RunId::parse(std::str::from_utf8(self.bytes(usize::from(length))?).ok()?).ok()
    }

    fn event(&mut self, run: &RunId) -> Option<NewEvent> {
        let (flags, digest, length) = (self.byte()?, self.number()?, self.length()?);
        let event = unpack(run, EventId::START, None, self.bytes(length)?)?.event;
        let key = event.event_id.clone()?;
        Some(NewEvent {
            event,
            key,
            key_is_given: flags & KEY_IS_GIVEN != 0,
            search_first: flags & SEARCH_FIRST != 0,
            digest,
        })
    }
}

/// What a segment's bytes hold.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The whole records, and where each is.
    pub(super) records: Vec<(Range<usize>, Record)>,
    /// What lies between whole records and is none.
    pub(super) damaged: Vec<Range<usize>>,
    /// Where the last whole record ends.
    pub(super) end: usize,
}

/// Reads a segment. Behind a damaged record it goes on with the next whole one.
pub(super) fn scan(bytes: &[u8]) -> Scan {
    let (mut scan, mut at) = (Scan::default(), 0);
    while at < bytes.len() {
        if let Some((record, length)) = read(&bytes[at..]) {
            if scan.end < at {
                scan.damaged.push(scan.end..at);
            }
            scan.records.push((at..at + length, record));
            at += length;
            scan.end = at;
        } else {
            let behind = &bytes[at + 1..];
            let next = behind.windows(MARK.len()).position(|window| window == MARK);
            match next {
                Some(distance) => at += 1 + distance,
                None => break,
            }
        }
    }
    scan
}

#[cfg(test)]
mod tests {
    use super::super::tests::publish;
    use super::*;

    fn segment() -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for seq in 1..=5 {
            write_publish(&mut bytes, seq, &publish("r", seq, 2));
            ends.push(bytes.len());
        }
        write_drained(&mut bytes, 2, &RunId::parse("r").unwrap());
        ends.push(bytes.len());
        (bytes, ends)
    }

    fn seqs(scan: &Scan) -> Vec<u64> {
        let seq = |record: &Record| match record {
            Record::Publish { seq, .. } => *seq,
            Record::Drained { seq, .. } => 100 + seq,
        };
        scan.records.iter().map(|(_, record)| seq(record)).collect()
    }

    #[test]
    fn records_read_back() {
        let (bytes, _) = segment();
        let scan = scan(&bytes);
        assert_eq!((seqs(&scan), scan.end), (vec![1, 2, 3, 4, 5, 102], bytes.len()));
        let (_, Record::Publish { publish: read, .. }) = &scan.records[2] else {
            panic!("the third is a publish")
        };
        let written = publish("r", 3, 2);
        assert_eq!((read.writer, read.number), (written.writer, written.number));
        assert_eq!(read.published_ms, written.published_ms);
        assert_eq!(read.run, written.run);
        for (read, written) in read.events.iter().zip(written.events.iter()) {
            // The hub gives each of its events another id.
            let same = crate::event::Event { event_id: None, ..read.event.clone() };
            assert_eq!(same, crate::event::Event { event_id: None, ..written.event.clone() });
            assert_eq!((read.digest, read.key_is_given), (written.digest, written.key_is_given));
            assert_eq!(read.event.event_id.as_ref(), Some(&read.key));
        }
    }

    #[test]
    fn of_a_torn_segment_every_whole_record_is_left_whatever_the_cut() {
        let (bytes, ends) = segment();
        for cut in 0..bytes.len() {
            let scan = scan(&bytes[..cut]);
            let whole = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(scan.records.len(), whole, "cut at {cut}");
            assert!(scan.damaged.is_empty());
            assert_eq!(scan.end, ends[..whole].last().copied().unwrap_or(0));
        }
    }

    #[test]
    fn a_flipped_bit_costs_the_record_it_is_in_and_no_other() {
        let (bytes, ends) = segment();
        for at in 0..bytes.len() {
            for bit in [0, 3, 7] {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                let hit = ends.iter().position(|end| at < *end).unwrap();
                let mut expected = vec![1, 2, 3, 4, 5, 102];
                expected.remove(hit);
                assert_eq!(seqs(&scan(&bytes)), expected, "bit {bit} of byte {at}");
            }
        }
        let mut zeroed = bytes.clone();
        zeroed[ends[0] + 3..ends[2] - 5].fill(0);
        let scan = scan(&zeroed);
        assert_eq!(seqs(&scan), [1, 4, 5, 102]);
        assert_eq!((scan.damaged.len(), &scan.damaged[0]), (1, &(ends[0]..ends[2])));
    }
}
