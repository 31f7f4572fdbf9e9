//! The macro that turns documented `key: type = default` lines into a section of the configuration.

/// One key of a section, as [`super::render`] shows it.
pub struct KeyDoc {
    /// The key.
    pub name: &'static str,
    /// Its documentation, one string a line.
    pub doc: &'static [&'static str],
    /// Its default as TOML; none for a key that is unset by default.
    pub default: Option<String>,
    /// What an unset key could be set to, as TOML.
    pub example: &'static str,
}

/// What the loader needs of a section.
pub trait Section {
    /// Sets one key; `None` if the section has no such key.
    fn set(&mut self, key: &str, value: &toml::Value) -> Option<Result<(), String>>;
    /// The section's own documentation, one string a line.
    fn section_doc() -> &'static [&'static str];
    /// Its keys, in order.
    fn keys() -> Vec<KeyDoc>;
}

/// Defines a section.
macro_rules! section {
    (
        $(#[doc = $section_doc:literal])*
        $section:ident {
            $( $(#[doc = $doc:literal])* $key:ident : $kind:ty = $default:expr, )*
        }
    ) => {
        $(#[doc = $section_doc])*
        #[derive(Debug, Clone)]
        pub struct $section {
            $( $(#[doc = $doc])* pub $key: $kind, )*
        }

        impl Default for $section {
            fn default() -> Self {
                Self { $( $key: $default, )* }
            }
        }

        impl $crate::config::section::Section for $section {
            fn set(&mut self, key: &str, value: &toml::Value) -> Option<Result<(), String>> {
                use $crate::config::setting::Setting;
                match key {
                    $( stringify!($key) => Some(<$kind>::read(value).map(|read| self.$key = read)), )*
                    _ => None,
                }
            }

            fn section_doc() -> &'static [&'static str] {
                &[$($section_doc),*]
            }

            fn keys() -> Vec<$crate::config::section::KeyDoc> {
                use $crate::config::setting::Setting;
                let default = Self::default();
                vec![ $( $crate::config::section::KeyDoc {
                    name: stringify!($key),
                    doc: &[$($doc),*],
                    default: default.$key.show(),
                    example: <$kind>::EXAMPLE,
                }, )* ]
            }
        }
    };
}
