//! Log lines on standard error. Whatever a line holds, it stays one line: control characters are shown
//! escaped, so that no client can forge an entry or reach a terminal.

use std::fmt::Write as _;
use std::io::Write as _;

/// The longest message, in bytes; the rest is cut.
const MAX_MESSAGE: usize = 2048;

/// Starts logging with this filter, such as `info` or `info,runhub::store=debug`.
/// Does nothing if logging was started before.
pub fn init(filter: &str) {
    let started = env_logger::Builder::new()
        .parse_filters(filter)
        .format(|out, record| {
            let now = crate::event::Timestamp::now();
            let message = one_line(&record.args().to_string());
            writeln!(out, "{now} {:5} {} {message}", record.level(), record.target())
        })
        .try_init();
    drop(started);
}

/// The text on one line, control characters escaped, cut at the longest message.
pub fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if out.len() >= MAX_MESSAGE {
            out.push('…');
            break;
        }
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            // Writing to a String cannot fail.
            let _ = write!(out, "{}", c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_message_stays_one_line() {
        assert_eq!(
            one_line("a\n{\"level\":\"info\"}\x1b[31m\0é"),
            "a\\n{\"level\":\"info\"}\\u{1b}[31m\\u{0}é"
        );
        assert!(one_line(&"x".repeat(10_000)).len() < 2100);
    }
}
