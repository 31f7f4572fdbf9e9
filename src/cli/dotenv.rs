//! The file `.env` in the working directory, which a hub often shares with other programs. What those write into it that
//! cannot be read is left out, and said; what is the hub's own and cannot be read is an error.

use super::{Failure, say};
use crate::config::key_of_variable;

const FILE: &str = ".env";
/// The most lines of one value.
const LONGEST: usize = 100;

/// Takes the file's variables into the environment, but for those that are there.
pub(super) fn load() -> Result<(), Failure> {
    let Ok(text) = std::fs::read_to_string(FILE) else {
        // A missing file is usual.
        return Ok(());
    };
    let set = std::env::vars_os().filter_map(|(name, _)| key_of_variable(name.to_str()?));
    let (text, faults) = cleaned(&text, &set.collect::<Vec<_>>())?;
    for fault in faults {
        say(&format!("runhub: {fault}; it is left out"));
    }
    let unreadable = |_| Failure::Usage(format!("{FILE} cannot be read"));
    dotenvy::from_read(text.as_bytes()).map_err(unreadable)
}

/// The text without what cannot be read, and without the keys that are `set` in the environment, be it under another
/// name; and what was wrong.
fn cleaned(text: &str, set: &[(String, String)]) -> Result<(String, Vec<String>), Failure> {
    let (lines, mut at) = (text.lines().collect::<Vec<_>>(), 0);
    let (mut kept, mut faults) = (Vec::new(), Vec::new());
    while at < lines.len() {
        let key = key_of(lines[at]);
        // A value in quotes may go over several lines.
        let most = lines.len().min(at + LONGEST);
        let Some(end) = (at + 1..=most).find(|end| can_be_read(&lines[at..*end].join("\n"))) else {
            at += 1;
            // The value may be a secret.
            let shown: String = key.escape_default().take(60).collect();
            let fault =
                format!("{FILE}, line {at}: the value of {shown} cannot be read; put it in quotes");
            if key.starts_with("RUNHUB_") || key == "REDIS_URL" {
                return Err(Failure::Usage(fault));
            }
            faults.push(fault);
            continue;
        };
        if !key_of_variable(key).is_some_and(|key| set.contains(&key)) {
            kept.extend_from_slice(&lines[at..end]);
        }
        at = end;
    }
    Ok((kept.join("\n"), faults))
}

/// Whether this is one value, or none and no attempt at one.
fn can_be_read(text: &str) -> bool {
    if matches!(text.trim_start().chars().next(), None | Some('#')) {
        return true;
    }
    // Of a quote that is not closed comes nothing, not even an error.
    let mut items = dotenvy::from_read_iter(text.as_bytes());
    let first = items.next();
    first.is_some_and(|item| item.is_ok_and(|(name, _)| name == key_of(text)))
        && items.next().is_none()
}

fn key_of(line: &str) -> &str {
    let line = line.trim_start();
    let line = line.strip_prefix("export ").unwrap_or(line);
    line.split_once('=').map_or(line, |(key, _)| key).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(text: &str, set: &[&str]) -> Result<(Vec<(String, String)>, usize), String> {
        let set: Vec<_> = set.iter().filter_map(|name| key_of_variable(name)).collect();
        let (text, faults) = cleaned(text, &set).map_err(|e| match e {
            Failure::Failed(message) | Failure::Usage(message) => message,
        })?;
        let items = dotenvy::from_read_iter(text.as_bytes()).map(Result::unwrap);
        Ok((items.collect(), faults.len()))
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn what_others_write_hides_nothing_of_ours() {
        let text = "APP_NAME=My App\nB='open\nexport REDIS_URL=redis://h/0\nLONG=\"a\nb\"\n# a comment\nX=1\n";
        let expected = vec![pair("REDIS_URL", "redis://h/0"), pair("LONG", "a\nb"), pair("X", "1")];
        assert_eq!(loaded(text, &[]).unwrap(), (expected, 2));
    }

    #[test]
    fn what_is_ours_and_cannot_be_read_is_named_without_its_value() {
        for (text, named) in [
            (
                "X=1\nRUNHUB_REDIS__URL=redis://u:secret word@h\n",
                "line 2: the value of RUNHUB_REDIS__URL",
            ),
            ("A=\"secret\nREDIS_URL='redis://secret\n", "line 2: the value of REDIS_URL"),
            ("REDIS_URL='redis://secret\nX=1\n", "line 1: the value of REDIS_URL"),
        ] {
            let message = loaded(text, &[]).unwrap_err();
            assert!(message.contains(named) && !message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn the_environment_is_stronger_under_either_name() {
        let text = "RUNHUB_REDIS__URL=redis://h/0\nRUNHUB_BIND=127.0.0.1:1\n";
        let (items, _) = loaded(text, &["REDIS_URL"]).unwrap();
        assert_eq!(items, [pair("RUNHUB_BIND", "127.0.0.1:1")]);
    }
}
