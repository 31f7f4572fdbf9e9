//! The idempotency id of an event, `event_id` on the wire: the publisher's own, or a ULID the hub makes.
//!
//! A hub-made ULID carries a 16-bit check in its last bits, so that any hub recognises one without having
//! kept it: only ids that publishers chose need a place in the store's `event_id` index; a hub-made one
//! that comes back is looked for in the run itself, from the time it carries. See ARCHITECTURE.md.

use std::fmt;
use std::sync::Arc;
use ulid::Ulid;
use xxhash_rust::xxh3::xxh3_64;

/// The longest `event_id`, in characters.
pub const MAX_EVENT_KEY: usize = 128;

/// An `event_id`: 1 to 128 visible ASCII characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventKey(Arc<str>);

/// The text is not an `event_id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event_id is 1 to {MAX_EVENT_KEY} visible ASCII characters")]
pub struct InvalidEventKey;

const CHECK_BITS: u32 = 16;

fn check_of(payload: u128) -> u128 {
    u128::from(xxh3_64(&payload.to_be_bytes())) & ((1 << CHECK_BITS) - 1)
}

impl EventKey {
    /// Checks a publisher's id.
    pub fn parse(text: &str) -> Result<Self, InvalidEventKey> {
        let fits = (1..=MAX_EVENT_KEY).contains(&text.len());
        if fits && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidEventKey)
        }
    }

    /// A new ULID of the hub's own.
    pub fn generate() -> Self {
        let payload = Ulid::generate().0 >> CHECK_BITS;
        let ulid = Ulid(payload << CHECK_BITS | check_of(payload));
        Self((*ulid.array_to_str(&mut [0; ulid::ULID_LEN])).into())
    }

    /// The time in a hub-made ULID, in ms since the Unix epoch; none for ids that no hub made.
    pub fn hub_made_ms(&self) -> Option<u64> {
        let ulid = Ulid::from_string(&self.0).ok()?;
        let payload = ulid.0 >> CHECK_BITS;
        let genuine = check_of(payload) == ulid.0 & ((1 << CHECK_BITS) - 1);
        genuine.then(|| ulid.timestamp_ms())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hub_knows_its_own_ids() {
        let key = EventKey::generate();
        assert_eq!(key.as_str().len(), 26);
        assert!(key.hub_made_ms().is_some_and(|ms| ms > 1_600_000_000_000));
        assert_ne!(key, EventKey::generate());
        let other = EventKey::parse("01D39ZY06FGSCTVN4T2V9PKHFZ").unwrap();
        assert_eq!(other.hub_made_ms(), None);
        assert_eq!(EventKey::parse("order-17").unwrap().hub_made_ms(), None);
    }

    #[test]
    fn only_visible_ascii_is_an_id() {
        let long = "x".repeat(129);
        for bad in ["", "a b", "a\n", "a\0", "ä", &long] {
            assert_eq!(EventKey::parse(bad), Err(InvalidEventKey), "{bad:?}");
        }
        assert!(EventKey::parse(&"x".repeat(128)).is_ok());
    }
}
