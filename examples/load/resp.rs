//! As much of Redis' protocol as a client that measures needs: commands out, and where replies end.

use memchr::{memchr, memmem};
use std::io::Write;

/// Appends a command.
pub fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    write!(out, "*{}\r\n", words.len()).expect("a Vec takes all");
    for word in words {
        write!(out, "${}\r\n", word.len()).expect("a Vec takes all");
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// How long the first reply is, if it is there as a whole.
pub fn reply_length(bytes: &[u8]) -> Result<Option<usize>, String> {
    let (mut at, mut open) = (0, 1);
    while open > 0 {
        let Some(end) = memchr(b'\n', &bytes[at..]) else { return Ok(None) };
        let line = &bytes[at..at + end];
        at += end + 1;
        open -= 1;
        let number = || {
            let text = std::str::from_utf8(line.get(1..)?).ok()?;
            text.trim_end().parse::<usize>().ok()
        };
        match line.first() {
            Some(b'*') => open += number().unwrap_or(0),
            Some(b'$') => at += number().map_or(0, |length| length + 2),
            Some(b'-') => {
                return Err(format!("Redis says {}", String::from_utf8_lossy(line).trim()));
            }
            _ => {}
        }
        if at > bytes.len() {
            return Ok(None);
        }
    }
    Ok(Some(at))
}

/// The id of the last entry that begins in these bytes of a reply with entries.
pub fn last_id(bytes: &[u8]) -> Option<&str> {
    let entry = &bytes[memmem::rfind(bytes, b"*2\r\n$")? + 4..];
    std::str::from_utf8(entry).ok()?.split("\r\n").nth(1)
}
