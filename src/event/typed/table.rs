//! The macros that turn the table of types into structs, the [`super::Typed`] enum and the table's rows.

/// The known types: for each its documentation, struct, name, flat name, whether it ends a run, and its
/// fields; those that are needed come first, those that may be absent behind the semicolon. `| "key"` is
/// another key for a field, `= "json"` what an absent one stands for.
macro_rules! vocabulary {
    ($(
        $(#[doc = $doc:literal])*
        $name:ident = $kind:literal $(, flat $flat:literal)? $(; $end:ident)? { $($body:tt)* }
    )*) => {
        $( known_event! { [$($doc)*] $name $kind { $($body)* } } )*

        /// Every known type.
        pub const KNOWN: &[KnownType] = &[$( KnownType {
            name: $kind,
            flat: first(&[$($flat)?]),
            terminal: first(&[$(stringify!($end))?]).is_some(),
            doc: &[$($doc),*],
            shape: $name::SHAPE,
        }, )*];

        /// The data of an event, as its type says.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Typed<'e> {
            $( $(#[doc = $doc])* $name($name), )*
            /// The JSON of a type that is not known.
            Other(Cow<'e, str>),
        }

        impl<'e> Typed<'e> {
            pub(super) fn read(kind: &str, json: Cow<'e, str>) -> Result<Self, DoesNotFit> {
                Ok(match kind {
                    $( $kind => Self::$name(read(&json)?), )*
                    _ => Self::Other(json),
                })
            }
        }
    };
}

/// One struct.
macro_rules! known_event {
    ([$($doc:literal)*] $name:ident $kind:literal { anything }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name {
            /// Any JSON.
            pub data: Value,
        }

        impl $name {
            const SHAPE: Shape = Shape::Anything;

            /// Data of this type.
            pub fn new(data: impl Into<Value>) -> Self {
                Self { data: data.into() }
            }
        }

        impl KnownEvent for $name {
            const TYPE: &'static str = $kind;

            fn from_data(data: Value) -> Result<Self, DoesNotFit> {
                Ok(Self { data })
            }
        }
    };
    ([$($doc:literal)*] $name:ident $kind:literal {
        $( $(#[doc = $must_doc:literal])* $must:ident : $must_type:ty $(| $must_also:literal)* ),* ;
        $( $(#[doc = $may_doc:literal])* $may:ident : $may_type:ty $(| $may_also:literal)* $(= $default:literal)? ),* ;
        $( needs $first:ident or $second:ident )?
    }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize)]
        pub struct $name {
            $( $(#[doc = $must_doc])* pub $must: $must_type, )*
            $(
                $(#[doc = $may_doc])*
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $may: Option<$may_type>,
            )*
            /// All other keys.
            #[serde(flatten)]
            pub extra: Object,
        }

        impl $name {
            const SHAPE: Shape = Shape::Fields {
                fields: &[
                    $( FieldRow {
                        name: stringify!($must),
                        also: &[$($must_also),*],
                        required: true,
                        kind: <$must_type as Field>::KIND,
                        default: None,
                        doc: &[$($must_doc),*],
                    }, )*
                    $( FieldRow {
                        name: stringify!($may),
                        also: &[$($may_also),*],
                        required: false,
                        kind: <$may_type as Field>::KIND,
                        default: first(&[$($default)?]),
                        doc: &[$($may_doc),*],
                    }, )*
                ],
                either: pair(&[$( (stringify!($first), stringify!($second)) )?]),
            };

            /// Data of this type, with what it needs.
            #[allow(clippy::new_without_default, reason = "only those that need nothing could have one")]
            pub fn new($( $must: impl Into<$must_type>, )* $( $first: impl Into<String> )?) -> Self {
                Self {
                    $( $must: $must.into(), )*
                    $( $may: None, )*
                    extra: Object::new(),
                }
                $( .$first($first) )?
            }

            $(
                $(#[doc = $may_doc])*
                pub fn $may(mut self, $may: impl Into<$may_type>) -> Self {
                    self.$may = Some($may.into());
                    self
                }
            )*
        }

        impl KnownEvent for $name {
            const TYPE: &'static str = $kind;

            fn from_data(data: Value) -> Result<Self, DoesNotFit> {
                let mut keys = Keys::of($kind, data)?;
                $( let $must = keys.required::<$must_type>(stringify!($must), &[$($must_also),*])?; )*
                $( let $may = keys.optional::<$may_type>(stringify!($may), &[$($may_also),*])?; )*
                $( if $first.is_none() && $second.is_none() {
                    return Err(keys.missing::<String>(stringify!($first)));
                } )?
                Ok(Self { $( $must, )* $( $may, )* extra: keys.rest() })
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let data = <Value as serde::Deserialize>::deserialize(deserializer)?;
                Self::from_data(data).map_err(serde::de::Error::custom)
            }
        }
    };
}

/// The one word, if there is one.
pub(super) const fn first(words: &[&'static str]) -> Option<&'static str> {
    match words {
        [word, ..] => Some(word),
        [] => None,
    }
}

/// The one pair, if there is one.
pub(super) const fn pair(
    pairs: &[(&'static str, &'static str)],
) -> Option<(&'static str, &'static str)> {
    match pairs {
        [pair, ..] => Some(*pair),
        [] => None,
    }
}
