//! The position of an event in its run: a Redis stream id, `<ms>-<n>`, which is also the resume cursor.

use super::json_text::push_number;
use std::fmt;

/// A Redis stream id. Ordered as Redis orders them: by milliseconds, then by counter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct EventId {
    /// Milliseconds since the Unix epoch on the store's clock.
    pub ms: u64,
    /// Counter within the millisecond.
    pub n: u64,
}

/// The text is not `<ms>-<n>` with two decimal numbers of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event id is <milliseconds>-<number>, such as 1704067200001-0")]
pub struct InvalidEventId;

impl EventId {
    /// Before every event: no event has this id.
    pub const START: Self = Self { ms: 0, n: 0 };
    /// The greatest id there is.
    pub const MAX: Self = Self { ms: u64::MAX, n: u64::MAX };

    /// An id from its two parts.
    pub const fn new(ms: u64, n: u64) -> Self {
        Self { ms, n }
    }

    /// Parses the one full form; Redis's short forms (`5`, `$`, `1-*`) are refused.
    pub fn parse(text: &str) -> Result<Self, InvalidEventId> {
        let (ms, n) = text.split_once('-').ok_or(InvalidEventId)?;
        Ok(Self { ms: number(ms)?, n: number(n)? })
    }

    /// Appends the id as text.
    pub fn push_to(self, out: &mut Vec<u8>) {
        push_number(out, self.ms);
        out.push(b'-');
        push_number(out, self.n);
    }

    /// The least id greater than this one; the greatest id is its own successor.
    pub const fn next(self) -> Self {
        match (self.n.checked_add(1), self.ms.checked_add(1)) {
            (Some(n), _) => Self { ms: self.ms, n },
            (None, Some(ms)) => Self { ms, n: 0 },
            (None, None) => self,
        }
    }

    /// The greatest id less than this one; the least id is its own predecessor.
    pub const fn before(self) -> Self {
        match (self.n.checked_sub(1), self.ms.checked_sub(1)) {
            (Some(n), _) => Self { ms: self.ms, n },
            (None, Some(ms)) => Self { ms, n: u64::MAX },
            (None, None) => self,
        }
    }
}

/// Decimal digits only: `u64::from_str` alone would take a leading `+`.
fn number(text: &str) -> Result<u64, InvalidEventId> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidEventId);
    }
    text.parse().map_err(|_| InvalidEventId)
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.n)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_and_order_survive_a_round_trip(a: (u64, u64), b: (u64, u64)) {
            let (a, b) = (EventId::new(a.0, a.1), EventId::new(b.0, b.1));
            prop_assert_eq!(EventId::parse(&a.to_string()), Ok(a));
            prop_assert_eq!(a.cmp(&b), (a.ms, a.n).cmp(&(b.ms, b.n)));
            prop_assert!(a == EventId::MAX || a.next() > a);
            prop_assert!(!(a < b && b < a.next()));
            prop_assert!(a == EventId::MAX || a.next().before() == a);
        }

        #[test]
        fn nothing_but_two_numbers_is_an_id(text in "\\PC{0,24}") {
            let parts: Vec<_> = text.split('-').collect();
            let numeric = |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
            let plausible = parts.len() == 2 && parts.iter().all(numeric);
            prop_assert!(plausible || EventId::parse(&text).is_err());
        }
    }

    #[test]
    fn redis_short_forms_are_refused() {
        for bad in [
            "",
            "5",
            "$",
            ">",
            "+",
            "-",
            "1-*",
            " 1-1",
            "1-1 ",
            "+1-1",
            "1--1",
            "1-1-1",
            "18446744073709551616-0",
            "abc",
            "1-",
            "-1",
        ] {
            assert_eq!(EventId::parse(bad), Err(InvalidEventId), "{bad:?}");
        }
    }
}
