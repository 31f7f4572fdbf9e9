//! What a field of a known type can hold: how it is read, described, and called where it does not fit.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// A JSON object.
pub type Object = Map<String, Value>;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// Text.
    Text,
    /// True or false.
    Truth,
    /// A number.
    Number,
    /// A JSON object.
    Object,
    /// Any JSON.
    Any,
    /// One of these words.
    Words(&'static [&'static str]),
}

impl FieldKind {
    /// What must stand in the field, in words.
    pub fn expected(self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Truth => "true or false".to_owned(),
            Self::Number => "a number".to_owned(),
            Self::Object => "an object".to_owned(),
            Self::Any => "some JSON".to_owned(),
            Self::Words(words) => format!("one of {}", words.join(", ")),
        }
    }

    /// As the table of types shows it; nothing for text, which most are.
    pub fn note(self) -> String {
        match self {
            Self::Text => String::new(),
            Self::Truth => "true/false".to_owned(),
            Self::Number => "number".to_owned(),
            Self::Object => "object".to_owned(),
            Self::Any => "any JSON".to_owned(),
            Self::Words(words) => words.join("/"),
        }
    }

    /// As a JSON Schema; of a field that may also be null, if `or_null`.
    pub fn schema(self, or_null: bool) -> Map<String, Value> {
        let name = match self {
            Self::Text | Self::Words(_) => "string",
            Self::Truth => "boolean",
            Self::Number => "number",
            Self::Object => "object",
            Self::Any => return Map::new(),
        };
        let mut schema = Map::new();
        schema.insert("type".to_owned(), if or_null { json!([name, "null"]) } else { json!(name) });
        if let Self::Words(words) = self {
            let mut words: Vec<Value> = words.iter().map(|word| json!(word)).collect();
            words.extend(or_null.then_some(Value::Null));
            schema.insert("enum".to_owned(), Value::Array(words));
        }
        schema
    }
}

/// A Rust type that a field can have.
pub(super) trait Field: Sized {
    /// What it holds.
    const KIND: FieldKind;

    /// The value, if it fits.
    fn read(value: Value) -> Option<Self>;
}

impl Field for String {
    const KIND: FieldKind = FieldKind::Text;

    fn read(value: Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

impl Field for bool {
    const KIND: FieldKind = FieldKind::Truth;

    fn read(value: Value) -> Option<Self> {
        value.as_bool()
    }
}

impl Field for f64 {
    const KIND: FieldKind = FieldKind::Number;

    fn read(value: Value) -> Option<Self> {
        value.as_f64()
    }
}

impl Field for Object {
    const KIND: FieldKind = FieldKind::Object;

    fn read(value: Value) -> Option<Self> {
        match value {
            Value::Object(object) => Some(object),
            _ => None,
        }
    }
}

impl Field for Value {
    const KIND: FieldKind = FieldKind::Any;

    fn read(value: Value) -> Option<Self> {
        Some(value)
    }
}

macro_rules! words {
    ($( $(#[doc = $doc:literal])* $name:ident { $( $(#[doc = $word_doc:literal])* $word:ident = $text:literal, )* } )*) => { $(
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        pub enum $name { $( $(#[doc = $word_doc])* #[serde(rename = $text)] $word, )* }

        impl Field for $name {
            const KIND: FieldKind = FieldKind::Words(&[$($text),*]);

            fn read(value: Value) -> Option<Self> {
                match value.as_str() {
                    $( Some($text) => Some(Self::$word), )*
                    _ => None,
                }
            }
        }
    )* };
}

words! {
    /// How a run finished.
    FinishStatus {
        /// Well.
        Success = "success",
        /// With an error.
        Error = "error",
    }
    /// How an agent ended.
    AgentOutcome {
        /// Well.
        Success = "success",
        /// Without what it was to bring.
        Failed = "failed",
    }
    /// Whether an agent works alone.
    AgentMode {
        /// Alone.
        Single = "single",
        /// With a team.
        Team = "team",
    }
}
