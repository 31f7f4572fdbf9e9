//! When an event happened: RFC 3339 in UTC with milliseconds.

use std::cell::Cell;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time, kept in milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The text is not an RFC 3339 time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a timestamp is RFC 3339, such as 2025-01-01T12:00:00.001Z")]
pub struct InvalidTimestamp;

/// The years RFC 3339 can write: 0000 to 9999.
const RANGE_MS: std::ops::RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

impl Timestamp {
    /// The hub's clock.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// From milliseconds since the Unix epoch; times RFC 3339 cannot write become its last one.
    pub fn from_ms(ms: u64) -> Self {
        Self(i64::try_from(ms).unwrap_or(i64::MAX).min(*RANGE_MS.end()))
    }

    /// Milliseconds since the Unix epoch; 0 for times before it.
    pub fn as_ms(self) -> u64 {
        u64::try_from(self.0).unwrap_or(0)
    }

    /// Parses RFC 3339. A time without an offset is taken as UTC, because Python's `isoformat` of a
    /// UTC time has none; digits beyond milliseconds are cut.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        // The library takes a day alone, names of zones, and offsets of more than a day.
        let (_, time) = text.split_once(['T', 't', ' ']).ok_or(InvalidTimestamp)?;
        let offset = time.rsplit_once(['+', '-']).map(|(_, offset)| offset.as_bytes());
        let is_possible = |offset: &[u8]| offset.len() == 5 && offset <= b"23:59".as_slice();
        if time.contains('[') || !offset.is_none_or(is_possible) {
            return Err(InvalidTimestamp);
        }
        let zoned = text.parse::<jiff::Timestamp>();
        let time = zoned.or_else(|_| {
            let civil = text.parse::<jiff::civil::DateTime>()?;
            civil.to_zoned(jiff::tz::TimeZone::UTC).map(|z| z.timestamp())
        });
        let nanos = time.map_err(|_| InvalidTimestamp)?.as_nanosecond();
        let ms = i64::try_from(nanos.div_euclid(1_000_000)).map_err(|_| InvalidTimestamp)?;
        if RANGE_MS.contains(&ms) { Ok(Self(ms)) } else { Err(InvalidTimestamp) }
    }
}

/// The length of a second's text, `2025-01-01T12:00:00`.
const SECOND: usize = 19;

thread_local! {
    /// The second that was written last, and its text: events that are written together are of a few.
    static WRITTEN: Cell<(i64, [u8; SECOND])> = const { Cell::new((0, *b"1970-01-01T00:00:00")) };
}

impl Timestamp {
    /// The text: `2025-01-01T12:00:00.001Z`.
    fn text(self) -> [u8; SECOND + 5] {
        let ms = self.0.clamp(*RANGE_MS.start(), *RANGE_MS.end());
        let (second, left) = (ms.div_euclid(1000), ms.rem_euclid(1000));
        let (mut written, mut text) = WRITTEN.get();
        if written != second {
            let time = jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            // The range is what four digits of years can write.
            text.copy_from_slice(&time.to_string().as_bytes()[..SECOND]);
            written = second;
            WRITTEN.set((written, text));
        }
        let mut whole = *b"0000-00-00T00:00:00.000Z";
        whole[..SECOND].copy_from_slice(&text);
        for (place, unit) in [(20, 100), (21, 10), (22, 1)] {
            whole[place] += u8::try_from(left / unit % 10).unwrap_or(0);
        }
        whole
    }

    /// Appends the text.
    pub fn push_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.text());
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn offsets_and_finer_digits_become_utc_milliseconds() {
        for (given, shown) in [
            ("2025-01-01T12:00:00.001Z", "2025-01-01T12:00:00.001Z"),
            ("2025-01-01T12:00:00Z", "2025-01-01T12:00:00.000Z"),
            ("2025-01-01T14:00:00.0019+02:00", "2025-01-01T12:00:00.001Z"),
            ("2025-01-01T12:00:00.123456", "2025-01-01T12:00:00.123Z"),
            ("2025-01-01t12:00:00z", "2025-01-01T12:00:00.000Z"),
            ("2025-01-01 00:00:00-23:59", "2025-01-01T23:59:00.000Z"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp::parse(given).unwrap().to_string(), shown, "{given}");
        }
        for bad in [
            "",
            "yesterday",
            "1704067200",
            "2025-13-01T00:00:00Z",
            "2025-01-01T00:00:00Z\n",
            "2025-01-01",
            "2025-01-01T00:00:00+25:00",
            "2025-01-01T00:00:00+24:00",
            "2025-01-01T00:00:00+0200",
            "2025-01-01T00:00:00Z[UTC]",
            "2025-01-01T00:00:00+00:00[UTC]",
        ] {
            assert_eq!(Timestamp::parse(bad), Err(InvalidTimestamp), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_time_is_written_so_that_it_reads_back(ms in RANGE_MS) {
            prop_assert_eq!(Timestamp::parse(&Timestamp(ms).to_string()), Ok(Timestamp(ms)));
        }
    }
}
