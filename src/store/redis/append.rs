//! Appends: from the events of many runs to one call of `append.lua`, and from its answer to what became of each
//! publish. One call for all runs, because Redis has the same work before and after each.

use super::keys::{Keys, StreamKey};
use super::link::refusal;
use super::reply;
use crate::event::entry::{ALWAYS, USUAL_FIELDS, encode_entry, entry_size, further_fields};
use crate::event::{Event, EventId, NewEvent, Sequence};
use crate::store::appended::Appended;
use crate::store::{Placed, Publish, PublishOutcome, RunAppend, StoreError, StoreRules};
use redis::{Cmd, Value};

/// The most runs in one call, which nobody else of the server's clients gets in between: a run that others wrote to
/// meanwhile takes milliseconds.
pub(super) const RUNS_A_CALL: usize = 64;

/// The call that appends to these runs, whose streams are `streams`, and lists them in `list`.
pub(super) fn call(
    hash: &str,
    list: &str,
    keys: Keys,
    rules: &StoreRules,
    appends: &[RunAppend],
    streams: &[StreamKey],
) -> Cmd {
    let (mut count, mut bytes) = (0, 0);
    for new in appends.iter().flat_map(events_of) {
        (count, bytes) = (count + 1, bytes + entry_size(&new.event));
    }
    // In one piece from the start: a buffer that grows is copied again and again.
    let arguments = 8 + appends.len() * 12 + count * USUAL_FIELDS;
    let mut call = Cmd::with_capacity(arguments, 128 + appends.len() * 192 + bytes);
    let plain: Vec<bool> = appends.iter().map(|append| is_plain(rules, append)).collect();
    let indexes = plain.iter().filter(|plain| !**plain).count();
    call.arg("EVALSHA").arg(hash).arg(1 + 2 * appends.len() + indexes).arg(list);
    for ((append, stream), plain) in appends.iter().zip(streams).zip(&plain) {
        call.arg(&stream.name).arg(keys.meta(&append.run));
        if !plain {
            call.arg(keys.index(&append.run));
        }
    }
    let writer = appends.first().map_or(0, |append| append.writer);
    call.arg(field_of(writer));
    let mut before = None;
    for (append, plain) in appends.iter().zip(plain) {
        call.arg(append.run.as_str());
        if plain
            && append.writer == writer
            && let [Publish { number, events, .. }] = append.publishes.as_slice()
            && let [new] = events.as_ref()
            && has_usual_fields(&new.event)
        {
            call.arg(number);
            push_entry(&mut call, &new.event, None);
            // The script does not always look at this source and type.
            before = None;
            continue;
        }
        let publishes = i64::try_from(append.publishes.len()).unwrap_or(i64::MAX);
        call.arg(field_of(append.writer)).arg(if plain { publishes } else { -publishes });
        for publish in &append.publishes {
            call.arg(publish.number).arg(flag(publish.answered)).arg(publish.events.len());
            if !plain {
                call.arg(publish.published_ms);
            }
            for new in publish.events.iter() {
                if !plain {
                    call.arg(flag(new.key_is_given))
                        .arg(new.key.as_str())
                        .arg(format!("{:x}", new.digest))
                        .arg(status(rules, new).unwrap_or_default());
                }
                push_entry(&mut call, &new.event, before.replace(&new.event));
            }
        }
    }
    call
}

fn events_of(append: &RunAppend) -> impl Iterator<Item = &NewEvent> {
    append.publishes.iter().flat_map(|publish| publish.events.iter())
}

/// Whether the store need not know more of the events than what their entries say.
fn is_plain(rules: &StoreRules, append: &RunAppend) -> bool {
    events_of(append).all(|new| !new.key_is_given && status(rules, new).is_none())
}

/// The status that an event gives its run.
fn status(rules: &StoreRules, new: &NewEvent) -> Option<&'static str> {
    rules.lifecycle.of(&new.event.kind).map(|lifecycle| lifecycle.status().as_str())
}

/// The field of a run's meta that holds the greatest number of this writer that was applied.
fn field_of(writer: u64) -> String {
    format!("w:{writer:016x}")
}

fn flag(set: bool) -> &'static str {
    if set { "1" } else { "0" }
}

/// Whether an entry has no field but those that all have, and an `event_id`.
fn has_usual_fields(event: &Event) -> bool {
    event.event_id.is_some() && further_fields(event) == 1
}

/// Pushes an entry in as few arguments as it can be told in; `before` is the event whose entry was pushed before, if
/// the source and type may be told by it.
fn push_entry(call: &mut Cmd, event: &Event, before: Option<&Event>) {
    let usual = has_usual_fields(event);
    let is_like = |e: &Event| e.kind == event.kind && e.source == event.source;
    let like_before = usual && before.is_some_and(is_like);
    match (usual, like_before) {
        (true, true) => call.arg("="),
        (true, false) => call.arg("+"),
        (false, _) => call.arg(2 * further_fields(event)),
    };
    let mut field = 0;
    encode_entry(event, |name, value| {
        let is_further = field >= ALWAYS;
        if is_further && !usual {
            call.arg(name);
        }
        // Between the timestamp and the data stand source and type.
        if !like_before || is_further || field == 0 || field == ALWAYS - 1 {
            call.arg(value);
        }
        field += 1;
    });
}

/// Reads the script's answer: a line for each run.
pub(super) fn lines(
    reply: &Value,
    appends: &[RunAppend],
) -> Result<Vec<Result<Appended, StoreError>>, StoreError> {
    let text = reply::text(reply).map_err(|_| unreadable("expected text"))?;
    let lines: Vec<&str> = text.split('\n').collect();
    if lines.len() != appends.len() {
        return Err(unreadable("expected a line for each run"));
    }
    Ok(lines.into_iter().zip(appends).map(|(line, append)| appended(line, append)).collect())
}

/// Reads what the script says of the appends to one run.
fn appended(line: &str, append: &RunAppend) -> Result<Appended, StoreError> {
    if let Some(error) = line.strip_prefix('-') {
        let (code, details) = error.split_once(' ').unwrap_or((error, ""));
        return Err(refusal(code, details));
    }
    let mut words = line.split(' ');
    let previous = id(words.next())?;
    let outcomes = append.publishes.iter().map(|publish| outcome(&mut words, publish));
    Ok(Appended { previous, outcomes: outcomes.collect::<Result<_, _>>()? })
}

fn outcome<'a>(
    words: &mut impl Iterator<Item = &'a str>,
    publish: &Publish,
) -> Result<PublishOutcome, StoreError> {
    let mut placed = Vec::new();
    match words.next() {
        Some("n") => {
            let first = number(words.next())?;
            placed.reserve_exact(publish.events.len());
            for sequence in (first..).take(publish.events.len()) {
                let (id, sequence) = (id(words.next())?, Sequence(sequence));
                placed.push(Placed::of_new(id, sequence));
            }
        }
        Some("m") => {
            for _ in publish.events.iter() {
                let (id, sequence) = (id(words.next())?, Sequence(number(words.next())?));
                let was = words.next();
                let (duplicate, reused) = (was != Some("0"), was == Some("2"));
                placed.push(Placed { id, sequence, duplicate, reused });
            }
        }
        Some("r") => {
            let index = usize::try_from(number(words.next())?)
                .map_err(|_| unreadable("expected an index"))?;
            return Ok(PublishOutcome::KeyReused { index });
        }
        Some("a") => return Ok(PublishOutcome::Already),
        _ => return Err(unreadable("expected an outcome")),
    }
    Ok(PublishOutcome::Stored(placed))
}

fn id(word: Option<&str>) -> Result<EventId, StoreError> {
    EventId::parse(word.unwrap_or_default()).map_err(|_| unreadable("expected a stream id"))
}

fn number(word: Option<&str>) -> Result<u64, StoreError> {
    word.unwrap_or_default().parse().map_err(|_| unreadable("expected a number"))
}

/// An answer of another shape than was asked for. The events may have been stored all the same.
fn unreadable(what: &str) -> StoreError {
    StoreError::NoAnswer { reason: format!("an answer to an append of unexpected shape: {what}") }
}
