//! What a publisher is told of each event.

use crate::event::json_text::push_string;
use crate::event::{EventKey, RunId};
use crate::hub::Published;
use crate::store::Placed;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use std::io::Write;

/// How far an event has come; the least of all is the answer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// In the hub's memory.
    Accepted,
    /// On the hub's disk.
    Spooled,
    /// In the store.
    Persisted,
    /// In the store since an earlier publish.
    Known,
}

impl Standing {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Accepted | Self::Spooled => StatusCode::ACCEPTED,
            Self::Persisted => StatusCode::CREATED,
            Self::Known => StatusCode::OK,
        }
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Spooled => "spooled",
            Self::Persisted | Self::Known => "persisted",
        }
    }
}

/// One event of an answer.
#[derive(Debug)]
pub(super) struct Row<'a> {
    /// Its run, where the answer is about several.
    run: Option<&'a RunId>,
    key: &'a EventKey,
    pub(super) standing: Standing,
    pub(super) place: Option<Placed>,
}

impl<'a> Row<'a> {
    /// The event at this index of a publish.
    pub(super) fn new(
        run: Option<&'a RunId>,
        key: &'a EventKey,
        published: &Published,
        index: usize,
    ) -> Self {
        let (standing, place) = match published {
            Published::Accepted => (Standing::Accepted, None),
            Published::Spooled => (Standing::Spooled, None),
            Published::Persisted(placed) => match placed.get(index) {
                Some(place) if place.duplicate => (Standing::Known, Some(*place)),
                place => (Standing::Persisted, place.copied()),
            },
        };
        Self { run, key, standing, place }
    }
}

/// A row an event; of a publish to one run, with its name.
pub(super) fn of_events(run: Option<&RunId>, rows: &[Row<'_>]) -> HttpResponse {
    let standing = rows.iter().map(|row| row.standing).min().unwrap_or(Standing::Persisted);
    let mut body = Vec::with_capacity(96 + rows.len() * 96);
    body.push(b'{');
    // Writing to a Vec cannot fail.
    if let Some(run) = run {
        let _ = write!(body, r#""run_id":"{run}","#);
    }
    let (word, count) = (standing.word(), rows.len());
    let _ = write!(body, r#""status":"{word}","count":{count},"events":["#);
    for (index, row) in rows.iter().enumerate() {
        body.extend_from_slice(if index == 0 { b"{" } else { b",{" });
        if let Some(run) = row.run {
            let _ = write!(body, r#""run_id":"{run}","#);
        }
        if let Some(place) = row.place {
            let _ = write!(body, r#""id":"{}","sequence":{},"#, place.id, place.sequence.0);
        }
        body.extend_from_slice(br#""event_id":"#);
        push_string(&mut body, row.key.as_str());
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    json(standing.status(), body)
}

/// What became of a body that was taken line by line: how many events, and where the last one is.
pub(super) fn of_lines(
    run: &RunId,
    standing: Standing,
    count: u64,
    last: Option<Placed>,
) -> HttpResponse {
    let body = serde_json::json!({
        "run_id": run.as_str(),
        "status": standing.word(),
        "count": count,
        "last_id": last.map(|place| place.id.to_string()),
        "last_sequence": last.map(|place| place.sequence.0),
    });
    json(standing.status(), body.to_string().into_bytes())
}

fn json(status: StatusCode, body: Vec<u8>) -> HttpResponse {
    HttpResponse::build(status).insert_header((CONTENT_TYPE, "application/json")).body(body)
}
