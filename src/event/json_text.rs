//! JSON as text that is carried, not understood: checks that parsing to text leaves out, and writing.
//!
//! `serde_json`'s `RawValue` keeps bytes as they came, but bounds no depth and lets lone surrogates pass;
//! either would break a reader's parser. [`check`] finds both in one pass.

/// The deepest nesting of arrays and objects that is carried as JSON.
pub const MAX_DEPTH: usize = 128;

/// Why well-formed JSON is not carried as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnfitJson {
    /// Nested deeper than readers can be expected to parse.
    #[error("it is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// An escape such as `\ud800` without its other half: no Unicode text.
    #[error("a string holds a lone surrogate escape, which is no Unicode character")]
    LoneSurrogate,
}

/// Checks well-formed JSON for depth and lone surrogates.
pub fn check(json: &str) -> Result<(), UnfitJson> {
    let bytes = json.as_bytes();
    // Most is told at a glance: so few brackets cannot nest that deep, and no escape is no surrogate.
    // Counted in bytes, of which the compiler makes a few instructions for many.
    let bracket = |b: &u8| u8::from(b | 0x20 == b'{');
    let brackets = bytes.chunks(255).map(|c| usize::from(c.iter().map(bracket).sum::<u8>()));
    let brackets: usize = brackets.sum();
    if brackets <= MAX_DEPTH && !json.contains("\\u") {
        return Ok(());
    }
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(&b) = bytes.get(at) {
        at += 1;
        match b {
            b'[' | b'{' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(UnfitJson::TooDeep);
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => at = end_of_string(bytes, at)?,
            _ => {}
        }
    }
    Ok(())
}

/// The index behind the closing quote of the string whose content starts at `at`.
fn end_of_string(bytes: &[u8], mut at: usize) -> Result<usize, UnfitJson> {
    loop {
        match bytes.get(at) {
            None => return Ok(at),
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => match code_unit(bytes, at) {
                Some(0xD800..=0xDBFF) => match code_unit(bytes, at + 6) {
                    Some(0xDC00..=0xDFFF) => at += 12,
                    _ => return Err(UnfitJson::LoneSurrogate),
                },
                Some(0xDC00..=0xDFFF) => return Err(UnfitJson::LoneSurrogate),
                Some(_) => at += 6,
                None => at += 2,
            },
            Some(_) => at += 1,
        }
    }
}

/// The number in a `\uXXXX` escape that starts at `at`, if one does.
fn code_unit(bytes: &[u8], at: usize) -> Option<u32> {
    let escape = bytes.get(at..at + 6)?;
    let hex = escape.strip_prefix(b"\\u")?;
    u32::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
}

/// Appends a JSON string with everything escaped that JSON wants escaped.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    // All at once, not up to the first: the compiler makes that a few instructions for many bytes.
    let special = |b: &u8| u8::from(*b < 0x20) | u8::from(*b == b'"') | u8::from(*b == b'\\');
    if text.as_bytes().iter().map(special).fold(0, |any, one| any | one) == 0 {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    // Writing to a Vec cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// Appends well-formed JSON on one line: a raw line break can only stand between tokens, where a space
/// means the same.
pub fn push_one_line(out: &mut Vec<u8>, json: &str) {
    let start = out.len();
    out.extend_from_slice(json.as_bytes());
    for b in &mut out[start..] {
        if matches!(b, b'\n' | b'\r') {
            *b = b' ';
        }
    }
}

/// Appends a number in decimal.
pub fn push_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_bounded_and_brackets_in_strings_do_not_count() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(check(&nested(MAX_DEPTH)), Ok(()));
        assert_eq!(check(&nested(MAX_DEPTH + 1)), Err(UnfitJson::TooDeep));
        assert_eq!(check(&format!("\"{}\\\"{}\"", "[".repeat(500), "{".repeat(500))), Ok(()));
        assert_eq!(check(&format!("[{}1]", "[],".repeat(5000))), Ok(()));
    }

    #[test]
    fn lone_surrogates_are_found_and_pairs_pass() {
        for good in [r#""\ud83d\ude00""#, r#""\\ud800""#, r#""\u00e9""#, r#"{"a\n":"\"\\"}"#] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in
            [r#""\ud800""#, r#""\udc00""#, r#""\ud800\n""#, r#""\ud800\ud800""#, r#"{"\uDfff":1}"#]
        {
            assert_eq!(check(bad), Err(UnfitJson::LoneSurrogate), "{bad}");
        }
    }
}
