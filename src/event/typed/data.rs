//! From the JSON of an event's data to the fields of a struct, and what does not fit on the way.

use super::field::{Field, FieldKind};
use crate::event::typed::KnownEvent;
use serde_json::{Map, Value};

/// Why data is not what its type says. Names the type, the field and what stands there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DoesNotFit {
    /// A field is not there.
    #[error("the data of {kind} does not fit: \"{field}\" is missing; it must be {expected}")]
    Missing {
        /// The type.
        kind: &'static str,
        /// The field.
        field: &'static str,
        /// What it should have been.
        expected: String,
    },
    /// A field holds something else.
    #[error("the data of {kind} does not fit: \"{field}\" is {found}; it must be {expected}")]
    Field {
        /// The type.
        kind: &'static str,
        /// The key that was found.
        field: &'static str,
        /// What it holds.
        found: String,
        /// What it should have been.
        expected: String,
    },
    /// The data is no object.
    #[error("the data of {kind} does not fit: \"data\" is {found}; it must be an object")]
    NotAnObject {
        /// The type.
        kind: &'static str,
        /// What it is.
        found: String,
    },
    /// The data holds JSON that cannot be read into memory, such as the number 1e400.
    #[error("the data of {kind} does not fit: \"data\" cannot be read: {reason}")]
    Unreadable {
        /// The type.
        kind: &'static str,
        /// Why.
        reason: String,
    },
}

/// The keys of an object that no field has taken yet.
pub(super) struct Keys {
    kind: &'static str,
    left: Map<String, Value>,
}

impl Keys {
    /// The keys of an event's data. Data that is absent or null is an object without keys.
    pub(super) fn of(kind: &'static str, data: Value) -> Result<Self, DoesNotFit> {
        match data {
            Value::Object(left) => Ok(Self { kind, left }),
            Value::Null => Ok(Self { kind, left: Map::new() }),
            other => Err(DoesNotFit::NotAnObject { kind, found: shown(&other) }),
        }
    }

    /// Takes a field that must be there, under its own key or else under another one.
    pub(super) fn required<T: Field>(
        &mut self,
        field: &'static str,
        also: &[&'static str],
    ) -> Result<T, DoesNotFit> {
        // Only where any JSON will do is null a value.
        if T::KIND == FieldKind::Any
            && let Some(value) = self.left.remove(field)
        {
            return self.fit(field, value);
        }
        self.optional(field, also)?.ok_or_else(|| self.missing::<T>(field))
    }

    /// Takes a field that may be absent; null is as good.
    pub(super) fn optional<T: Field>(
        &mut self,
        field: &'static str,
        also: &[&'static str],
    ) -> Result<Option<T>, DoesNotFit> {
        for key in std::iter::once(field).chain(also.iter().copied()) {
            match self.left.remove(key) {
                None | Some(Value::Null) => {}
                Some(value) => return self.fit(key, value).map(Some),
            }
        }
        Ok(None)
    }

    fn fit<T: Field>(&self, field: &'static str, value: Value) -> Result<T, DoesNotFit> {
        let found = shown(&value);
        T::read(value).ok_or_else(|| DoesNotFit::Field {
            kind: self.kind,
            field,
            found,
            expected: T::KIND.expected(),
        })
    }

    /// That a field is missing.
    pub(super) fn missing<T: Field>(&self, field: &'static str) -> DoesNotFit {
        DoesNotFit::Missing { kind: self.kind, field, expected: T::KIND.expected() }
    }

    /// What no field has taken.
    pub(super) fn rest(self) -> Map<String, Value> {
        self.left
    }
}

/// Reads the data of a known type.
pub(super) fn read<T: KnownEvent>(json: &str) -> Result<T, DoesNotFit> {
    let data = serde_json::from_str(json)
        .map_err(|e| DoesNotFit::Unreadable { kind: T::TYPE, reason: e.to_string() })?;
    T::from_data(data)
}

/// A value in an error: what it is, and if it is short, itself.
fn shown(value: &Value) -> String {
    /// The most characters of a text that are shown.
    const SHORT: usize = 40;
    match value {
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.chars().count() > SHORT => "a longer text".to_owned(),
        other => other.to_string(),
    }
}
