//! Which version of its type an event's data is written in.

use std::num::NonZeroU32;

/// A version: 1, 2, 3 … Data without one is of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(NonZeroU32);

impl Version {
    /// What data without a version is of.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// A version, unless it is 0.
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// Its number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The version behind it; the greatest has none.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    /// Parses the decimal form, digits alone.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        Self::new(text.parse().ok().filter(|_| digits)?)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_whole_number_over_zero() {
        assert_eq!(Version::parse("2").and_then(Version::next), Version::new(3));
        assert_eq!(Version::parse("4294967295").and_then(Version::next), None);
        for odd in ["", "0", "+2", "-1", "2.0", " 2", "4294967296", "two"] {
            assert_eq!(Version::parse(odd), None, "{odd:?}");
        }
    }
}
