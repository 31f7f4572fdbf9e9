//! `GET /runs/{run_id}/events`: history as a page of JSON, or the whole range as a line an event.
//!
//! `next_id`, given back as `start_id`, continues: with `order=asc` it is the next event's id; with
//! `order=desc` it is written `(ID`, "all before ID", as Redis writes an exclusive bound, with the least
//! id wanted behind a comma, if there is one.

use super::App;
use super::accept;
use super::answers::{Question, Stamp};
use super::extract::run_id;
use super::http10;
use super::problem::{Code, Problem};
use super::query::Query;
use super::stream::filter;
use crate::event::frame::push_json;
use crate::event::{EventId, Filter, RunId, StoredEvent};
use crate::hub::Hub;
use crate::store::{Order, RangeRequest, RunState, StoreError};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use futures::stream;
use std::io::Write;

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
const DEFAULT_LIMIT: usize = 1000;
const MAX_LIMIT: usize = 10_000;
/// Events read from the store at a time, and about as many bytes.
const READ_EVENTS: usize = 1000;
const READ_BYTES: usize = 4 << 20;
/// About as many bytes as a page of JSON gets, however many events were asked for.
const PAGE_BYTES: usize = 32 << 20;

/// Handles the request.
pub(super) async fn history(request: HttpRequest, app: Data<App>) -> Result<HttpResponse, Problem> {
    let run = run_id(&request)?;
    let kind = accept::choose(&request, &[JSON, NDJSON])?;
    let query = Query::of(&request);
    let limit = query.number("limit", MAX_LIMIT)?;
    let walk = Walk { hub: app.hub.clone(), range: range(&query)?, filter: filter(&query)?, run };
    if kind == NDJSON {
        return Ok(http10::readable(&request, lines(walk, limit).await?));
    }
    let body = page_or_kept(&app, walk, request.query_string(), limit).await?;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, JSON))
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(body))
}

/// A page, read or as it was read before.
async fn page_or_kept(
    app: &App,
    walk: Walk,
    query: &str,
    limit: Option<usize>,
) -> Result<Bytes, Problem> {
    let question = Question { run: walk.run.clone(), query: query.into() };
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    let Some(kept) = app.answers.find(&question) else {
        let body = page(walk, limit).await?;
        app.answers.note(question, &body, None);
        return Ok(body);
    };
    // A store that cannot tell may still be read.
    let stamp = async || app.hub.run(&question.run).await.ok().and_then(|run| Stamp::of(&run));
    let before = stamp().await;
    if let Some((of, body)) = kept
        && before == Some(of)
    {
        return Ok(body);
    }
    let body = page(walk, limit).await?;
    // What was read is of this stamp only if nothing has happened meanwhile.
    let same = before.is_some() && stamp().await == before;
    app.answers.note(question.clone(), &body, before.filter(|_| same));
    Ok(body)
}

/// What is asked for, and how far it has been read.
struct Walk {
    hub: Hub,
    run: RunId,
    range: Range,
    filter: Filter,
}

#[derive(Clone, Copy)]
struct Range {
    start: EventId,
    end: EventId,
    order: Order,
    /// Whether all of it has been read.
    done: bool,
}

fn range(query: &Query<'_>) -> Result<Range, Problem> {
    let words = [("asc", Order::Ascending), ("desc", Order::Descending)];
    let order = query.word("order", &words)?.unwrap_or_default();
    let mut range = Range { start: EventId::START, end: EventId::MAX, order, done: false };
    match query.get("start_id")? {
        None | Some("-") => {}
        // A plus sign that nobody encoded is a space by the rules of queries.
        Some("+" | " ") => range.start = EventId::MAX,
        Some(text) => match text.strip_prefix('(') {
            None => range.start = EventId::parse(text)?,
            Some(text) => {
                let (behind, start) = text.split_once(',').unwrap_or((text, "0-0"));
                range.start = EventId::parse(start)?;
                range.behind(EventId::parse(behind)?);
            }
        },
    }
    match query.get("end_id")? {
        None | Some("+" | " ") => {}
        Some("-") => range.end = range.end.min(EventId::START),
        Some(text) => range.end = range.end.min(EventId::parse(text)?),
    }
    if let Some(after) = query.get("after")? {
        let after = EventId::parse(after)?;
        range.done |= after == EventId::MAX;
        range.start = range.start.max(after.next());
    }
    Ok(range)
}

impl Range {
    /// Goes on behind an event.
    fn behind(&mut self, id: EventId) {
        match self.order {
            Order::Ascending => {
                self.done |= id == EventId::MAX;
                self.start = id.next();
            }
            Order::Descending => {
                self.done |= id == EventId::START;
                self.end = id.before();
            }
        }
    }
}

impl Walk {
    /// Reads on, and keeps what is wanted.
    async fn read(&mut self, most: usize) -> Result<Vec<StoredEvent>, StoreError> {
        if self.range.done || self.range.start > self.range.end {
            self.range.done = true;
            return Ok(Vec::new());
        }
        let Range { start, end, order, .. } = self.range;
        let limit = most.min(READ_EVENTS);
        let request = RangeRequest { start, end, limit, enough_bytes: READ_BYTES, order };
        let page = self.hub.range(&self.run, request).await?;
        self.range.done = !page.more;
        if let Some(last) = page.events.last() {
            self.range.behind(last.id);
        }
        let mut events = page.events;
        if !self.filter.wants_all() {
            events.retain(|stored| self.filter.wants_event(&stored.event));
        }
        Ok(events)
    }

    /// A run with no events in the range: is there such a run?
    async fn check_run(&self) -> Result<(), Problem> {
        match self.hub.run(&self.run).await? {
            RunState::Known(_) => Ok(()),
            RunState::Unknown => Err(run_not_found()),
            RunState::Expired => Err(run_expired()),
        }
    }
}

/// The answer for a run that is not there.
pub(super) fn run_not_found() -> Problem {
    Problem::new(Code::RunNotFound, "no event was published to this run")
}

/// The answer for a run that has expired.
pub(super) fn run_expired() -> Problem {
    Problem::new(Code::RunExpired, "the run has expired and its events are gone")
}

async fn page(mut walk: Walk, limit: usize) -> Result<Bytes, Problem> {
    // One event more than asked for tells whether there is more, where a filter leaves events out.
    let mut body = Vec::with_capacity(limit.min(READ_EVENTS) * 384);
    let _ = write!(body, r#"{{"run_id":"{}","events":["#, walk.run);
    let (mut count, mut last, mut more) = (0, None, false);
    'read: while !walk.range.done {
        for stored in walk.read(limit + 1 - count).await? {
            if count == limit || body.len() >= PAGE_BYTES {
                more = true;
                break 'read;
            }
            if count > 0 {
                body.push(b',');
            }
            push_json(&mut body, &stored, walk.hub.upcasters());
            count += 1;
            last = Some(stored.id);
        }
    }
    if count == 0 {
        walk.check_run().await?;
    }
    let next = last.filter(|_| more).map_or_else(
        || "null".to_owned(),
        |last: EventId| match walk.range.order {
            Order::Ascending => format!("\"{}\"", last.next()),
            Order::Descending if walk.range.start == EventId::START => format!("\"({last}\""),
            Order::Descending => format!("\"({last},{}\"", walk.range.start),
        },
    );
    let _ = write!(body, r#"],"count":{count},"has_more":{more},"next_id":{next}}}"#);
    Ok(body.into())
}

async fn lines(mut walk: Walk, limit: Option<usize>) -> Result<HttpResponse, Problem> {
    let left = limit.unwrap_or(usize::MAX);
    let first = walk.read(left).await?;
    if first.is_empty() && walk.range.done {
        walk.check_run().await?;
    }
    let chunks =
        stream::try_unfold((walk, Some(first), left), |(mut walk, read, left)| async move {
            let mut read = match read {
                Some(read) => read,
                None => walk.read(left).await?,
            };
            // A page of which the filter leaves nothing gives no chunk; an empty one would end the body.
            while read.is_empty() && !walk.range.done && left > 0 {
                read = walk.read(left).await?;
            }
            if read.is_empty() || left == 0 {
                return Ok::<_, StoreError>(None);
            }
            let mut out = Vec::with_capacity(read.len() * 384);
            for stored in &read {
                push_json(&mut out, stored, walk.hub.upcasters());
                out.push(b'\n');
            }
            let left = left - read.len().min(left);
            Ok(Some((Bytes::from(out), (walk, None, left))))
        });
    // A store that goes away in the middle ends the body without its proper end: a client of HTTP/1.1 sees
    // that it has not got all.
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, NDJSON))
        .insert_header((CACHE_CONTROL, "no-store"))
        .streaming(chunks))
}
