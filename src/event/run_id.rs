//! The name of a run. Its alphabet keeps it safe, unescaped, in URL paths, Redis keys, JSON and logs.

use std::fmt;
use std::sync::Arc;

/// The longest run id, in characters.
pub const MAX_RUN_ID: usize = 128;

/// A run's name: 1 to 128 of `A-Z a-z 0-9 . _ ~ -`, not only dots. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(Arc<str>);

/// The text is not a run id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a run id is 1 to {MAX_RUN_ID} of A-Z a-z 0-9 . _ ~ - and not only dots")]
pub struct InvalidRunId;

impl RunId {
    /// Checks the text against the grammar.
    pub fn parse(text: &str) -> Result<Self, InvalidRunId> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-');
        let fits = (1..=MAX_RUN_ID).contains(&text.len()) && text.bytes().all(allowed);
        if fits && text.bytes().any(|b| b != b'.') {
            Ok(Self(text.into()))
        } else {
            Err(InvalidRunId)
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_and_the_length_are_kept() {
        for good in ["1", "a.b", "A-Z_~", "...a", &"x".repeat(128)] {
            assert_eq!(RunId::parse(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(129);
        for bad in
            ["", ".", "..", "a b", "a/b", "a%2Fb", "a\n", "a\0", "ä", "a:b", "{a}", "*", &long]
        {
            assert_eq!(RunId::parse(bad), Err(InvalidRunId), "{bad:?}");
        }
    }
}
