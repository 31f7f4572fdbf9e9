//! Writes `config/runhub.toml`: every key with its documentation and default.

use super::Config;
use std::fmt::Write;

/// The text of `config/runhub.toml`.
pub fn render() -> String {
    let mut out = String::from(
        "# Runhub's settings, each with its default.\n\
         # A flag is stronger than the environment (RUNHUB_SECTION__KEY, such as RUNHUB_PUBLISH__TIMEOUT=2s),\n\
         # the environment than this file, this file than the default.\n",
    );
    Config::visit(|name, doc, keys| {
        // Writing to a String cannot fail.
        let _ = writeln!(out);
        for line in doc {
            let _ = writeln!(out, "#{line}");
        }
        let _ = writeln!(out, "[{name}]");
        for key in keys {
            for line in key.doc {
                let _ = writeln!(out, "#{line}");
            }
            let _ = match key.default {
                Some(default) => writeln!(out, "{} = {default}", key.name),
                None => writeln!(out, "# {} = {}", key.name, key.example),
            };
        }
    });
    out
}

#[cfg(test)]
mod tests {
    /// Write the file anew with `RUNHUB_RENDER=1 cargo test config_file`.
    #[test]
    fn the_config_file_shows_every_key_with_its_default() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/runhub.toml");
        let rendered = super::render();
        if std::env::var_os("RUNHUB_RENDER").is_some() {
            std::fs::write(path, &rendered).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), rendered);
        let mut config = super::Config::default();
        crate::config::load::apply_file(&mut config, path.as_ref(), &rendered).unwrap();
        assert_eq!(format!("{config:?}"), format!("{:?}", super::Config::default()));
    }
}
