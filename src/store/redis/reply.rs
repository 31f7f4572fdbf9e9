//! From Redis's replies to our types.

use super::keys::StreamKey;
use super::link::odd;
use crate::event::{
    EventId, RunId, RunStatus, Sequence, StoredEvent, decode_entry, decode_job_entry,
};
use crate::store::{RunInfo, RunState, StoreError};
use redis::Value;
use std::time::Duration;

/// The items of an array reply; no reply counts as an empty one.
pub(super) fn items(value: Value) -> Result<Vec<Value>, StoreError> {
    match value {
        Value::Array(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        _ => Err(odd("expected an array")),
    }
}

/// The streams of an answer to `XREAD` on a connection that speaks RESP3, each with its entries.
pub(super) fn streams(value: Value) -> Result<Vec<(Value, Value)>, StoreError> {
    match value {
        Value::Map(streams) => Ok(streams),
        Value::Nil => Ok(Vec::new()),
        _ => Err(odd("expected streams")),
    }
}

/// The bytes of a text reply.
pub(super) fn bytes(value: &Value) -> Result<&[u8], StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Ok(text.as_bytes()),
        _ => Err(odd("expected text")),
    }
}

/// The text of a reply.
pub(super) fn text(value: &Value) -> Result<&str, StoreError> {
    std::str::from_utf8(bytes(value)?).map_err(|_| odd("expected UTF-8"))
}

/// What `INFO` says of this name.
pub(super) fn said_in_info<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

fn number(value: &Value) -> Result<Option<u64>, StoreError> {
    match (value, text(value)) {
        (Value::Int(n), _) => Ok(u64::try_from(*n).ok()),
        (_, Ok("")) => Ok(None),
        (_, Ok(digits)) => digits.parse().map(Some).map_err(|_| odd("expected a number")),
        (_, Err(e)) => Err(e),
    }
}

/// A score of a sorted set of ours, which is a time in ms.
pub(super) fn score(value: &Value) -> Result<u64, StoreError> {
    let score: f64 = text(value)?.parse().map_err(|_| odd("expected a score"))?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    Ok(score as u64)
}

fn id(value: &Value) -> Result<EventId, StoreError> {
    EventId::parse(text(value)?).map_err(|_| odd("expected a stream id"))
}

/// The entries that were read from a run's stream as events. Entries that were deleted meanwhile are left
/// out.
pub(super) fn events(
    run: &RunId,
    key: &StreamKey,
    entries: Value,
) -> Result<Vec<StoredEvent>, StoreError> {
    let entries = items(entries)?;
    let mut events = Vec::with_capacity(entries.len());
    for entry in &entries {
        let Value::Array(parts) = entry else { return Err(odd("expected an entry")) };
        let [entry_id, fields] = parts.as_slice() else { return Err(odd("expected an entry")) };
        let Value::Array(fields) = fields else { continue };
        let pairs = fields
            .chunks_exact(2)
            .filter_map(|pair| Some((bytes(&pair[0]).ok()?, bytes(&pair[1]).ok()?)));
        let id = id(entry_id)?;
        events.push(match key.is_jobs {
            true => decode_job_entry(run, id, pairs),
            false => decode_entry(run, id, pairs),
        });
    }
    Ok(events)
}

/// The answer of `run.lua` and `expire.lua`.
pub(super) fn state(value: Value) -> Result<RunState, StoreError> {
    let answer = items(value)?;
    let word = answer.first().map_or(Ok("unknown"), text)?;
    match (word, answer.get(1..)) {
        ("unknown", _) => Ok(RunState::Unknown),
        ("expired", _) => Ok(RunState::Expired),
        (_, Some([status, length, first, last, sequence, created, updated, ended, left])) => {
            let first_id = match text(first)? {
                "" => None,
                _ => Some(id(first)?),
            };
            Ok(RunState::Known(RunInfo {
                status: RunStatus::parse(text(status)?).unwrap_or_default(),
                length: number(length)?.unwrap_or(0),
                first_id,
                last_id: id(last)?,
                last_sequence: number(sequence)?.filter(|n| *n > 0).map(Sequence),
                created_ms: number(created)?.unwrap_or(0),
                updated_ms: number(updated)?.unwrap_or(0),
                ended_ms: number(ended)?,
                expires_in: number(left)?.map(Duration::from_millis),
            }))
        }
        _ => Err(odd("expected a run's state")),
    }
}
