//! Where a reader of several runs is, as one opaque text: the position in each run. It names the set of
//! runs by a hash, so that one of another set is refused instead of misread.
//!
//! Bytes before base64url: version, 4 bytes of the hash of the sorted run ids, the least time in a varint,
//! then of each run in order 0 for its beginning, or the time behind the least plus 1 and the counter, as
//! varints; last a byte of xxh3 of all that.

use super::{EventId, RunId};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::fmt::Write;
use xxhash_rust::xxh3::xxh3_64;

const VERSION: u8 = 1;

/// The text is no cursor of these runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCursor {
    /// It is none at all.
    #[error("the cursor is not one that a stream of several runs gave")]
    Malformed,
    /// It is one, of others.
    #[error("the cursor is one of another set of runs")]
    OtherRuns,
}

/// Names a sorted set of runs.
fn hash_of(runs: &[RunId]) -> [u8; 4] {
    let mut names = String::new();
    for run in runs {
        // Writing to a String cannot fail; no run id holds a line break.
        let _ = writeln!(names, "{run}");
    }
    let [a, b, c, d, ..] = xxh3_64(names.as_bytes()).to_le_bytes();
    [a, b, c, d]
}

/// The cursor of these positions, one of each of the runs, which are sorted.
pub fn encode(runs: &[RunId], positions: &[EventId]) -> String {
    let begun = positions.iter().filter(|position| **position != EventId::START);
    let least = begun.map(|position| position.ms).min().unwrap_or(0);
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&hash_of(runs));
    push(&mut bytes, least);
    for position in positions {
        if *position == EventId::START {
            bytes.push(0);
        } else {
            push(&mut bytes, (position.ms - least).saturating_add(1));
            push(&mut bytes, position.n);
        }
    }
    bytes.push(check_of(&bytes));
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The positions that a cursor holds, one of each of the runs, which are sorted.
pub fn decode(runs: &[RunId], text: &str) -> Result<Vec<EventId>, InvalidCursor> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor::Malformed)?;
    let (check, bytes) = bytes.split_last().ok_or(InvalidCursor::Malformed)?;
    let (head, mut rest) = bytes.split_first_chunk::<5>().ok_or(InvalidCursor::Malformed)?;
    if head[0] != VERSION || *check != check_of(bytes) {
        return Err(InvalidCursor::Malformed);
    }
    if head[1..] != hash_of(runs) {
        return Err(InvalidCursor::OtherRuns);
    }
    let mut next = || pull(&mut rest).ok_or(InvalidCursor::Malformed);
    let least = next()?;
    let mut positions = Vec::with_capacity(runs.len());
    for _ in runs {
        positions.push(match next()? {
            0 => EventId::START,
            behind => {
                let ms = least.checked_add(behind - 1).ok_or(InvalidCursor::Malformed)?;
                EventId::new(ms, next()?)
            }
        });
    }
    if rest.is_empty() { Ok(positions) } else { Err(InvalidCursor::Malformed) }
}

fn check_of(bytes: &[u8]) -> u8 {
    xxh3_64(bytes).to_le_bytes()[0]
}

fn push(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push((number & 0x7f) as u8);
}

fn pull(bytes: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0_u64, 0);
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        number |= part.checked_shl(shift).filter(|shifted| shifted >> shift == part)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn runs(count: usize) -> Vec<RunId> {
        (0..count).map(|n| RunId::parse(&format!("run-{n:03}")).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn positions_come_back(positions in prop::collection::vec((any::<u64>(), any::<u64>()), 0..130)) {
            let positions: Vec<EventId> = positions
                .into_iter()
                // Some at the beginning; times as Redis gives them.
                .map(|(ms, n)| if ms % 5 == 0 { EventId::START } else { EventId::new(ms / 2, n.max(1)) })
                .collect();
            let runs = runs(positions.len());
            prop_assert_eq!(decode(&runs, &encode(&runs, &positions)), Ok(positions));
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}", bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            drop(decode(&runs(3), &text));
            drop(decode(&runs(3), &URL_SAFE_NO_PAD.encode(bytes)));
        }
    }

    #[test]
    fn a_cursor_is_of_its_runs_alone_and_short() {
        let (ours, now) = (runs(128), 1_795_333_352_563);
        let positions: Vec<_> = (0..128).map(|n| EventId::new(now - n * 1000, n % 7)).collect();
        let cursor = encode(&ours, &positions);
        assert!(cursor.len() < 800, "{}", cursor.len());
        assert_eq!(decode(&ours[1..], &cursor), Err(InvalidCursor::OtherRuns));
        assert_eq!(decode(&ours, &cursor[1..]), Err(InvalidCursor::Malformed));
        assert_eq!(
            decode(&ours, &cursor.replace(&cursor[20..22], "zz")),
            Err(InvalidCursor::Malformed)
        );
        for text in ["", "1-1", "AA", "$"] {
            assert_eq!(decode(&ours, text), Err(InvalidCursor::Malformed));
        }
    }
}
