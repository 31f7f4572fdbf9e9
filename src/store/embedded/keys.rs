//! The keys of the embedded store. Numbers are big-endian, so that byte order is their order.

use crate::event::EventId;

/// The length of an event's key.
const EVENT_KEY: usize = 24;

/// Of an event: the run's number, then the event's id.
pub(super) fn event(run: u64, id: EventId) -> [u8; EVENT_KEY] {
    let mut key = [0; EVENT_KEY];
    key[..8].copy_from_slice(&run.to_be_bytes());
    key[8..16].copy_from_slice(&id.ms.to_be_bytes());
    key[16..].copy_from_slice(&id.n.to_be_bytes());
    key
}

/// The id in an event's key.
pub(super) fn id_of_event(key: &[u8]) -> Option<EventId> {
    let key: &[u8; EVENT_KEY] = key.try_into().ok()?;
    let (ms, n) = (key[8..16].try_into().ok()?, key[16..].try_into().ok()?);
    Some(EventId::new(u64::from_be_bytes(ms), u64::from_be_bytes(n)))
}

/// Of an `event_id` in the window: the run's number, then the text.
pub(super) fn window(run: u64, key: &str) -> Vec<u8> {
    [&run.to_be_bytes(), key.as_bytes()].concat()
}

/// The run's number and the text in such a key.
pub(super) fn parts_of_window(key: &[u8]) -> Option<(u64, &str)> {
    let (run, text) = key.split_first_chunk()?;
    Some((u64::from_be_bytes(*run), std::str::from_utf8(text).ok()?))
}
