//! Text of a JSON document, borrowed where it holds no escapes: most names and ids need no copy.

use serde::Deserialize;
use std::borrow::Cow;
use std::ops::Deref;

/// A JSON string.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}
