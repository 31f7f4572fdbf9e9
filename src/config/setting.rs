//! The types a setting can have: how each reads from TOML or from the text of a variable or flag, what
//! it says when a value does not fit, and how its default is shown.

use crate::event::{EventType, LifecycleRules};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A type that a setting can have.
pub trait Setting: Sized {
    /// A value to show for a key that is unset by default.
    const EXAMPLE: &'static str = "";
    /// Reads a TOML value. The error says what was expected, without the value.
    fn read(value: &toml::Value) -> Result<Self, String>;
    /// The value as TOML; none if it is unset.
    fn show(&self) -> Option<String>;
}

/// A number of bytes, written `"1MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteCount(pub u64);

impl ByteCount {
    /// As a length in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// When the embedded store tells the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Before each answer: an acknowledged event survives the loss of power.
    Always,
    /// Within a second: an acknowledged event survives the death of the hub, not of the machine.
    Everysec,
}

/// How a run's Redis keys are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStyle {
    /// `run:7:events`.
    Plain,
    /// `run:{7}:events`, braces literal.
    Tagged,
}

/// A Redis URL. It may hold a password, so it never shows itself whole.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// From text; checked when the store is opened.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The whole URL, for the driver alone.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// With the user's name and password, and any query, left out.
impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        // Where both may be of a password, nothing behind the scheme is shown.
        let rest = match rest.rsplit_once('@') {
            Some((before, _)) if before.contains(['?', '#']) => "...",
            Some((_, host)) => host,
            None => rest,
        };
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        write!(f, "{}://{}", scheme.escape_default(), rest.escape_default())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The types that end a run.
#[derive(Debug, Clone)]
pub struct TerminalTypes(pub Vec<EventType>);

impl Default for TerminalTypes {
    fn default() -> Self {
        let kinds = ["completed", "failed", "cancelled", "finish"];
        Self(kinds.iter().filter_map(|a| EventType::from_parts("lifecycle", a).ok()).collect())
    }
}

impl TerminalTypes {
    /// As rules.
    pub fn rules(&self) -> LifecycleRules {
        LifecycleRules::new(&self.0)
    }
}

/// Origins of web pages: scheme, host and port, compared exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(pub Vec<String>);

/// What is logged: levels, in general and by module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(pub String);

impl Setting for LogFilter {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let expected =
            "a level (off, error, warn, info, debug, trace), or module=level, with commas";
        let filter = text(value, expected)?;
        let is_level = |word: &str| word.parse::<log::LevelFilter>().is_ok();
        let fits = |part: &str| match part.split_once('=') {
            Some((module, level)) => !module.is_empty() && is_level(level),
            None => is_level(part),
        };
        match filter.split(',').all(fits) {
            true => Ok(Self(filter.to_owned())),
            false => Err(format!("expected {expected}")),
        }
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.0))
    }
}

/// The items of a list, written as TOML or with commas.
fn list(value: &toml::Value) -> Option<Vec<&str>> {
    match value {
        toml::Value::Array(items) => items.iter().map(toml::Value::as_str).collect(),
        toml::Value::String(text) => {
            Some(text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect())
        }
        _ => None,
    }
}

/// A list of texts as TOML.
fn shown_list<'t>(items: impl Iterator<Item = &'t str>) -> String {
    format!("[{}]", items.map(quoted).collect::<Vec<_>>().join(", "))
}

fn text<'v>(value: &'v toml::Value, expected: &str) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| format!("expected {expected}"))
}

/// Quotes text as a TOML string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl Setting for bool {
    fn read(value: &toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::Boolean(on) => Ok(*on),
            toml::Value::String(s) if s == "true" => Ok(true),
            toml::Value::String(s) if s == "false" => Ok(false),
            _ => Err("expected true or false".into()),
        }
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for u64 {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let number = match value {
            toml::Value::Integer(i) => Self::try_from(*i).ok(),
            toml::Value::String(s) => s.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| "expected a whole number, 0 or more".into())
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Setting for SocketAddr {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let expected = "an address and port, such as 127.0.0.1:8082";
        text(value, expected)?.parse().map_err(|_| format!("expected {expected}"))
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

impl Setting for PathBuf {
    fn read(value: &toml::Value) -> Result<Self, String> {
        match text(value, "a path")? {
            "" => Err("expected a path".into()),
            path => Ok(path.into()),
        }
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&self.to_string_lossy()))
    }
}

impl Setting for Duration {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let expected = "a duration over zero with its unit, such as \"500ms\", \"10s\" or \"24h\"";
        let read = humantime::parse_duration(text(value, expected)?).ok();
        read.filter(|read| !read.is_zero()).ok_or_else(|| format!("expected {expected}"))
    }

    fn show(&self) -> Option<String> {
        Some(quoted(&humantime::format_duration(*self).to_string()))
    }
}

impl Setting for ByteCount {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let expected = "a size with its unit, such as \"64KiB\" or \"1MiB\"";
        match value {
            toml::Value::Integer(i) => u64::try_from(*i).ok(),
            toml::Value::String(s) => s.parse::<bytesize::ByteSize>().ok().map(|size| size.0),
            _ => None,
        }
        .map(Self)
        .ok_or_else(|| format!("expected {expected}"))
    }

    fn show(&self) -> Option<String> {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let whole =
            units.into_iter().find(|(size, _)| self.0 >= *size && self.0.is_multiple_of(*size));
        let (size, unit) = whole.unwrap_or((1, "B"));
        Some(quoted(&format!("{}{unit}", self.0 / size)))
    }
}

impl Setting for Sync {
    fn read(value: &toml::Value) -> Result<Self, String> {
        match value.as_str() {
            Some("always") => Ok(Self::Always),
            Some("everysec") => Ok(Self::Everysec),
            _ => Err("expected \"always\" or \"everysec\"".into()),
        }
    }

    fn show(&self) -> Option<String> {
        Some(quoted(match self {
            Self::Always => "always",
            Self::Everysec => "everysec",
        }))
    }
}

impl Setting for KeyStyle {
    fn read(value: &toml::Value) -> Result<Self, String> {
        match value.as_str() {
            Some("plain") => Ok(Self::Plain),
            Some("tagged") => Ok(Self::Tagged),
            _ => Err("expected \"plain\" or \"tagged\"".into()),
        }
    }

    fn show(&self) -> Option<String> {
        Some(quoted(match self {
            Self::Plain => "plain",
            Self::Tagged => "tagged",
        }))
    }
}

impl Setting for Option<RedisUrl> {
    const EXAMPLE: &'static str = "\"redis://127.0.0.1:6379/0\"";

    fn read(value: &toml::Value) -> Result<Self, String> {
        let url = text(value, "a Redis URL")?;
        Ok((!url.is_empty()).then(|| RedisUrl::new(url)))
    }

    fn show(&self) -> Option<String> {
        None
    }
}

impl Setting for TerminalTypes {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let expected = "expected a list of event types, such as [\"lifecycle.completed\"]";
        let kinds = list(value).ok_or(expected)?.into_iter().map(EventType::parse);
        kinds.collect::<Result<_, _>>().map(Self).map_err(|e| e.to_string())
    }

    fn show(&self) -> Option<String> {
        Some(shown_list(self.0.iter().map(EventType::as_str)))
    }
}

impl Setting for Origins {
    fn read(value: &toml::Value) -> Result<Self, String> {
        let expected = "expected a list of origins, such as [\"https://app.example\"]";
        let origins = list(value).ok_or(expected)?;
        let fits = |origin: &&str| {
            let host = origin.split_once("://").map(|(_, host)| host);
            host.is_some_and(|host| !host.is_empty() && !host.contains('/'))
        };
        match origins.iter().all(fits) {
            true => Ok(Self(origins.into_iter().map(str::to_owned).collect())),
            false => Err(expected.to_owned()),
        }
    }

    fn show(&self) -> Option<String> {
        Some(shown_list(self.0.iter().map(String::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_never_shows_its_password() {
        for url in [
            "redis://u:hunter2@h:1/0",
            "redis://:hunter2@h:1/0",
            "rediss://a:hun@ter2@h/1?x=hunter2",
            "unix:///s?pass=hunter2",
            "redis-sentinel://a:1/main?sentinel_password=hun@ter2",
            "redis://u:hunter2?@h",
        ] {
            let url = RedisUrl::new(url);
            for shown in [url.to_string(), format!("{url:?}"), format!("{:?}", Some(&url))] {
                assert!(!shown.contains("hunter2") && !shown.contains("ter2"), "{shown}");
            }
        }
        assert_eq!(RedisUrl::new("redis://:x@h:1/0").to_string(), "redis://h:1/0");
    }

    #[test]
    fn values_show_as_they_read() {
        fn same<T: Setting>(shown: &str) {
            let table: toml::Table = format!("x = {shown}").parse().unwrap();
            assert_eq!(T::read(&table["x"]).unwrap().show().as_deref(), Some(shown));
        }
        same::<Duration>("\"1m 30s\"");
        same::<ByteCount>("\"1MiB\"");
        same::<ByteCount>("\"1001B\"");
        same::<bool>("true");
        same::<u64>("7");
        same::<Sync>("\"always\"");
        same::<TerminalTypes>("[\"lifecycle.failed\"]");
        same::<SocketAddr>("\"[::1]:80\"");
    }
}
