//! Puts the configuration together: defaults, then the file, then the environment, then flags.

use super::Config;
use std::fmt;
use std::path::{Path, PathBuf};

/// The file that is read when it is there and no other is named.
pub const DEFAULT_FILE: &str = "config/runhub.toml";

/// Variables that set a key under a shorter name.
const SHORT_VARIABLES: [(&str, &str, &str); 3] = [
    ("RUNHUB_BIND", "server", "bind"),
    ("RUNHUB_DATA_DIR", "server", "data_dir"),
    ("REDIS_URL", "redis", "url"),
];

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A command-line flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {}", name.escape_default()),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

/// Why there is no configuration. One line, naming the key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {reason}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path} is not TOML: {reason}", path = path.display())]
    NotToml {
        /// The file.
        path: PathBuf,
        /// Where and why, on one line.
        reason: String,
    },
    /// There is no such key.
    #[error("{origin}: unknown key {key}; config/runhub.toml shows every key")]
    UnknownKey {
        /// Where it was given.
        origin: Origin,
        /// `section.key`.
        key: String,
    },
    /// A variable would set a key if another underscore stood in its name.
    #[error(
        "environment variable {name} sets nothing: behind a section stand two underscores, {meant}"
    )]
    OneUnderscore {
        /// The variable.
        name: String,
        /// What it should be called.
        meant: String,
    },
    /// The value does not fit the key.
    #[error("{origin}: bad value for {key}: {expected}")]
    BadValue {
        /// Where it was given.
        origin: Origin,
        /// `section.key`.
        key: String,
        /// What would fit.
        expected: String,
    },
}

/// Loads the configuration. `file` must exist if it is named; `flags` are `(flag, section, key, value)`.
pub fn load(
    file: Option<&Path>,
    variables: impl IntoIterator<Item = (String, String)>,
    flags: &[(&'static str, &str, &str, &str)],
) -> Result<Config, ConfigError> {
    let mut config = Config::default();
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    if file.is_some() || path.exists() {
        let text = std::fs::read_to_string(path)
            .map_err(|reason| ConfigError::Unreadable { path: path.into(), reason })?;
        apply_file(&mut config, path, &text)?;
    }
    let mut variables: Vec<_> = variables.into_iter().collect();
    // Their order must not decide; a long name is stronger than the short one for the same key.
    variables.sort_by_key(|(name, _)| (name.contains("__"), name.clone()));
    for (name, value) in variables {
        if value.is_empty() && is_short(&name) {
            continue;
        }
        let Some((section, key)) = key_of_variable(&name) else {
            match meant_by(&name) {
                Some(meant) => return Err(ConfigError::OneUnderscore { name, meant }),
                None => continue,
            }
        };
        set(&mut config, Origin::Variable(name), &section, &key, &toml::Value::String(value))?;
    }
    for (flag, section, key, value) in flags {
        let value = toml::Value::String((*value).to_owned());
        set(&mut config, Origin::Flag(flag), section, key, &value)?;
    }
    Ok(config)
}

/// Whether this is a short form. One that is empty counts as not set, which is what `${REDIS_URL:-}` in a file of
/// services means.
fn is_short(name: &str) -> bool {
    SHORT_VARIABLES.iter().any(|(short, ..)| *short == name)
}

/// The section and the key that an environment variable of this name sets; none for a variable of others.
pub fn key_of_variable(name: &str) -> Option<(String, String)> {
    if let Some((_, section, key)) = SHORT_VARIABLES.iter().find(|(short, ..)| *short == name) {
        return Some(((*section).to_owned(), (*key).to_owned()));
    }
    let (section, key) = name.strip_prefix("RUNHUB_")?.split_once("__")?;
    Some((section.to_lowercase(), key.to_lowercase()))
}

/// The variable that was meant by one whose name has one underscore behind a section.
fn meant_by(name: &str) -> Option<String> {
    let name = name.strip_prefix("RUNHUB_")?.to_lowercase();
    let mut meant = None;
    Config::visit(|section, _, keys| {
        if let Some(key) = name.strip_prefix(section).and_then(|rest| rest.strip_prefix('_'))
            && keys.iter().any(|known| known.name == key)
        {
            meant = Some(format!("RUNHUB_{section}__{key}").to_uppercase());
        }
    });
    meant
}

/// Applies the text of a file.
pub(super) fn apply_file(config: &mut Config, path: &Path, text: &str) -> Result<(), ConfigError> {
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
        let line =
            e.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        let reason = format!("line {line}: {}", e.message().replace('\n', " "));
        ConfigError::NotToml { path: path.into(), reason }
    })?;
    for (section, keys) in &table {
        let origin = || Origin::File(path.into());
        let Some(keys) = keys.as_table() else {
            return Err(ConfigError::UnknownKey { origin: origin(), key: section.clone() });
        };
        if keys.is_empty() && config.section_mut(section).is_none() {
            return Err(ConfigError::UnknownKey { origin: origin(), key: section.clone() });
        }
        for (key, value) in keys {
            set(config, origin(), section, key, value)?;
        }
    }
    Ok(())
}

fn set(
    config: &mut Config,
    origin: Origin,
    section: &str,
    key: &str,
    value: &toml::Value,
) -> Result<(), ConfigError> {
    let name = || format!("{section}.{key}").escape_debug().to_string();
    match config.section_mut(section).and_then(|s| s.set_key(key, value)) {
        None => Err(ConfigError::UnknownKey { origin, key: name() }),
        Some(Err(expected)) => Err(ConfigError::BadValue { origin, key: name(), expected }),
        Some(Ok(())) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn with(
        variables: &[(&str, &str)],
        flags: &[(&'static str, &str, &str, &str)],
    ) -> Result<Config, ConfigError> {
        let owned = variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        load(None, owned, flags)
    }

    fn from_file(text: &str) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        apply_file(&mut config, Path::new("x.toml"), text).map(|()| config)
    }

    #[test]
    fn the_stronger_origin_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runhub.toml");
        std::fs::write(
            &path,
            "[publish]\ntimeout = \"2s\"\nmax_batch = 5\n[server]\nbind = \"127.0.0.1:1\"\n",
        )
        .unwrap();
        let variables =
            [("RUNHUB_PUBLISH__TIMEOUT", "3s"), ("RUNHUB_BIND", "127.0.0.1:2"), ("HOME", "/")];
        let variables = variables.map(|(n, v)| (n.to_owned(), v.to_owned()));
        let config =
            load(Some(&path), variables, &[("bind", "server", "bind", "127.0.0.1:3")]).unwrap();
        assert_eq!(config.publish.timeout, Duration::from_secs(3));
        assert_eq!(config.publish.max_batch, 5);
        assert_eq!(config.server.bind.port(), 3);
        assert_eq!(config.retention.max_events, 10_000);
    }

    #[test]
    fn what_does_not_fit_is_named_on_one_line() {
        for (result, named) in [
            (from_file("[publish]\ntimeot = 1"), "x.toml: unknown key publish.timeot"),
            (from_file("[pub]\nx = 1"), "unknown key pub.x"),
            (from_file("timeout = 1"), "unknown key timeout"),
            (
                from_file("[publish]\ntimeout = 5"),
                "bad value for publish.timeout: expected a duration",
            ),
            (from_file("[publish\n"), "x.toml is not TOML: line 1"),
            (
                with(&[("RUNHUB_PUBLISH__X", "1")], &[]),
                "environment variable RUNHUB_PUBLISH__X: unknown key publish.x",
            ),
            (
                with(&[("RUNHUB_REDIS_COMMAND_TIMEOUT", "1s")], &[]),
                "RUNHUB_REDIS_COMMAND_TIMEOUT sets nothing: behind a section stand two underscores, \
                 RUNHUB_REDIS__COMMAND_TIMEOUT",
            ),
            (
                with(&[("RUNHUB_BIND", "here")], &[]),
                "RUNHUB_BIND: bad value for server.bind: expected an address",
            ),
            (
                with(&[], &[("bind", "server", "bind", "x")]),
                "flag --bind: bad value for server.bind",
            ),
            (
                load(Some(Path::new("/nowhere.toml")), [], &[]),
                "cannot read the configuration file /nowhere.toml",
            ),
        ] {
            let message = result.unwrap_err().to_string();
            assert!(message.contains(named), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn an_empty_short_variable_is_none_and_an_empty_long_one_takes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runhub.toml");
        std::fs::write(&path, "[redis]\nurl = \"redis://a\"\n").unwrap();
        let url = |name: &str| {
            let variables = [(name.to_owned(), String::new())];
            load(Some(&path), variables, &[]).unwrap().redis.url
        };
        assert!(url("REDIS_URL").is_some() && url("RUNHUB_REDIS__URL").is_none());
        assert!(with(&[("RUNHUB_BIND", "")], &[]).is_ok());
    }

    #[test]
    fn variables_of_others_are_left_alone() {
        assert!(
            with(&[("RUNHUB_PORT", "tcp://10.0.0.1:8082"), ("RUNHUB_SERVICE_HOST", "x")], &[])
                .is_ok()
        );
    }
}
