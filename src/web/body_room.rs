//! The memory for bodies that are being read, which all requests share: bodies that are large cannot take all there is,
//! and those that have some of it must come on. Small bodies need none, so that they get through whatever others send.

use super::problem::{Code, Problem};
use crate::config::PublishConfig;
use crate::event::parse::MAX_ENVELOPE;
use crate::telemetry::metrics;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What each body may have beside the room.
pub(super) const FREE: usize = 16 << 10;
/// Room is taken in pieces of this size.
const PIECE: usize = 64 << 10;
/// Bytes that a body which has some of the room must bring in each of its time limits.
const PACE: usize = 8 << 10;

/// The room; see the module.
#[derive(Debug)]
pub(super) struct BodyRoom {
    most: usize,
    taken: AtomicUsize,
}

/// What one body has taken of it, until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    room: Arc<BodyRoom>,
    bytes: usize,
    /// What has come, and since when.
    came: usize,
    since: Instant,
}

impl BodyRoom {
    /// The room that is configured; one body, or line, fits in any case.
    pub(super) fn new(config: &PublishConfig) -> Arc<Self> {
        let line = config.max_data.as_usize().saturating_add(MAX_ENVELOPE);
        let most = config.bodies.as_usize().max(config.max_body.as_usize()).max(line);
        let most = most.checked_next_multiple_of(PIECE).unwrap_or(usize::MAX);
        Arc::new(Self { most, taken: AtomicUsize::new(0) })
    }

    /// For one body.
    pub(super) fn hold(self: &Arc<Self>) -> Held {
        Held { room: Arc::clone(self), bytes: 0, came: 0, since: Instant::now() }
    }
}

impl Held {
    /// The body has so many bytes in memory now. If there is no room for more, what it held before stays held.
    pub(super) fn set(&mut self, bytes: usize) -> Result<(), Problem> {
        let bytes = bytes.saturating_sub(FREE).next_multiple_of(PIECE);
        let taken = &self.room.taken;
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let fits = |taken: usize| taken.checked_add(more).filter(|sum| *sum <= self.room.most);
            if taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
                let detail = format!(
                    "the bodies that are being read take up the {} bytes there are for them (publish.bodies); send it \
                     again later, or in smaller pieces",
                    self.room.most
                );
                return Err(Problem::new(Code::RateLimited, detail));
            }
        } else if bytes < self.bytes {
            taken.fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        } else {
            return Ok(());
        }
        #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
        metrics::body_bytes(bytes as f64 - self.bytes as f64);
        self.bytes = bytes;
        Ok(())
    }

    /// So many bytes more have come. Whoever has some of the room must bring some in each `limit`.
    pub(super) fn came(&mut self, bytes: usize, limit: Duration) -> Result<(), Problem> {
        self.came += bytes;
        if self.since.elapsed() <= limit {
            return Ok(());
        }
        if self.bytes > 0 && self.came < PACE {
            let detail = format!("the body comes too slowly: fewer than {PACE} bytes in {limit:?}");
            return Err(Problem::new(Code::InvalidJson, detail).within_a_body());
        }
        (self.came, self.since) = (0, Instant::now());
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // To give back is never refused.
        drop(self.set(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ByteCount;

    #[test]
    fn there_is_room_for_one_whatever_is_configured() {
        let config = PublishConfig {
            bodies: ByteCount(u64::MAX),
            max_body: ByteCount(1),
            ..PublishConfig::default()
        };
        BodyRoom::new(&config).hold().set(1 << 40).unwrap();
        let config = PublishConfig { bodies: ByteCount(0), ..config };
        let line = config.max_data.as_usize() + MAX_ENVELOPE;
        BodyRoom::new(&config).hold().set(line).unwrap();
    }

    #[test]
    fn what_is_held_comes_back_and_small_bodies_need_none() {
        let config = PublishConfig {
            bodies: ByteCount(1),
            max_data: ByteCount(1),
            max_body: ByteCount(2 * PIECE as u64),
            ..PublishConfig::default()
        };
        let room = BodyRoom::new(&config);
        let (mut a, mut b) = (room.hold(), room.hold());
        a.set(FREE + PIECE).unwrap();
        b.set(FREE + 1).unwrap();
        assert_eq!(b.set(FREE + PIECE + 1).unwrap_err().code(), Code::RateLimited);
        a.set(FREE).unwrap();
        b.set(FREE + PIECE + 1).unwrap();
        assert!(a.set(FREE + 1).is_err());
        drop(b);
        a.set(FREE + 2 * PIECE).unwrap();
    }
}
