//! `GET /runs/{run_id}/events/stream`: a run as Server-Sent Events (WHATWG HTML, section 9.2).

use super::App;
use super::accept;
use super::connection::Handover;
use super::extract::{last_event_id, last_event_id_text, run_id};
use super::http10;
use super::problem::{Code, Problem};
use super::query::Query;
use super::taken_over::{Source, TakenOver};
use super::turns::Turn;
use crate::event::frame::Framing;
use crate::event::{EventId, Filter, RunId, many_cursor};
use crate::hub::{
    Item, ManySubscription, Shape, Shortcut, Start, SubscribeError, SubscribeOptions, Subscription,
};
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Handles GET and HEAD.
pub(super) async fn follow(request: HttpRequest, app: Data<App>) -> Result<HttpResponse, Problem> {
    let run = run_id(&request)?;
    accept::choose(&request, &["text/event-stream"])?;
    let query = Query::of(&request);
    let options = SubscribeOptions {
        shape: Shape::Sse(framing(&query)?),
        ..options(&query, last_event_id(&request, &query)?)?
    };
    let opened = match request.method() == Method::HEAD {
        true => app.hub.can_subscribe(&run, options).await.map(|()| None),
        false => app.hub.subscribe(&run, options).await.map(Some),
    };
    answer(&request, opened)
}

/// The most runs on one stream.
const MOST_RUNS: usize = 128;

/// Handles GET and HEAD for several runs.
pub(super) async fn follow_many(
    request: HttpRequest,
    app: Data<App>,
) -> Result<HttpResponse, Problem> {
    accept::choose(&request, &["text/event-stream"])?;
    let query = Query::of(&request);
    let runs = runs(&query)?;
    let positions = match last_event_id_text(&request, &query)? {
        Some(cursor) => Some(
            many_cursor::decode(&runs, cursor)
                .map_err(|e| Problem::new(Code::InvalidEventId, e.to_string()))?,
        ),
        None => None,
    };
    let (options, framing) = (options(&query, None)?, framing(&query)?);
    let hub = &app.hub;
    let opened = match request.method() == Method::HEAD {
        true => hub.can_subscribe_many(&runs, positions.as_deref(), &options).await.map(|()| None),
        false => hub.subscribe_many(runs, positions, &options, framing).await.map(Some),
    };
    answer(&request, opened)
}

/// The runs of a query, sorted, each once.
fn runs(query: &Query<'_>) -> Result<Vec<RunId>, Problem> {
    let invalid = |detail: String| Err(Problem::new(Code::InvalidQuery, detail));
    let Some(text) = query.get("runs")?.filter(|text| !text.is_empty()) else {
        return invalid("runs names the runs to follow: ?runs=a,b,c".to_owned());
    };
    let mut runs = text.split(',').map(RunId::parse).collect::<Result<Vec<_>, _>>()?;
    runs.sort();
    runs.dedup();
    match runs.len() {
        count if count > MOST_RUNS => {
            invalid(format!("runs names {count} runs, the most on one stream is {MOST_RUNS}"))
        }
        _ => Ok(runs),
    }
}

/// The stream, or what stands before it where none was opened, or why there is none.
fn answer(
    request: &HttpRequest,
    opened: Result<Option<impl Source>, SubscribeError>,
) -> Result<HttpResponse, Problem> {
    match opened {
        Ok(Some(source)) => Ok(open_stream(request, source)),
        Ok(None) => Ok(head_of_stream().finish()),
        Err(SubscribeError::Finished) => Ok(HttpResponse::NoContent().finish()),
        Err(error) => Err(error.into()),
    }
}

fn framing(query: &Query<'_>) -> Result<Framing, Problem> {
    let framings = [("typed", Framing::Typed), ("message", Framing::Message)];
    Ok(query.word("framing", &framings)?.unwrap_or_default())
}

/// What a query asks for, but for how it is written.
pub(super) fn options(
    query: &Query<'_>,
    cursor: Option<EventId>,
) -> Result<SubscribeOptions, Problem> {
    let from = query.word("from", &[("start", Start::Beginning), ("live", Start::Live)])?;
    Ok(SubscribeOptions {
        // A client that comes back says where it was; where it once began no longer matters.
        start: cursor.map(Start::After).or(from).unwrap_or_default(),
        filter: filter(query)?,
        shape: Shape::Items,
        fold_deltas: query.word("deltas", &[("folded", true), ("single", false)])?.unwrap_or(false),
        must_exist: query.word("must_exist", &[("true", true), ("false", false)])?.unwrap_or(false),
    })
}

/// The filter that a query asks for.
pub(super) fn filter(query: &Query<'_>) -> Result<Filter, Problem> {
    Ok(Filter::parse(query.get("types")?, query.get("agent")?)?)
}

fn open_stream(request: &HttpRequest, source: impl Source) -> HttpResponse {
    let body = StreamBody::new(request, source);
    let mut head = head_of_stream();
    if let Some(handover) = &body.handover {
        handover.begin();
        // Behind the stream nothing more is read from it.
        head.force_close();
    }
    http10::readable(request, head.body(body))
}

fn head_of_stream() -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-cache, no-transform"))
        .insert_header((HeaderName::from_static("x-accel-buffering"), "no"));
    response
}

/// The body of a stream, until the stream takes the connection over.
struct StreamBody<S> {
    source: Option<S>,
    turn: Turn,
    handover: Option<Handover>,
}

impl<S: Source> StreamBody<S> {
    fn new(request: &HttpRequest, source: S) -> Self {
        // What goes without chunks is the server's to write. In an application that is not ours there is no such
        // connection.
        let handover = request.conn_data::<Handover>().filter(|_| http10::knows_chunks(request));
        let handover = handover.cloned();
        Self { source: Some(source), turn: Turn::default(), handover }
    }
}

impl<S: Source> MessageBody for StreamBody<S> {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        if let Some(handover) = &self.handover {
            // The head is written first.
            let socket = ready!(handover.poll_take(cx));
            if let (Some(socket), Some(source)) = (socket, self.source.take()) {
                actix_web::rt::spawn(TakenOver::new(socket, source));
            }
            return Poll::Ready(None);
        }
        let Self { source, turn, .. } = &mut *self;
        let Some(source) = source else { return Poll::Ready(None) };
        turn.poll(cx, |cx| source.poll_bytes(cx)).map(|bytes| bytes.map(Ok))
    }
}

impl Source for Subscription {
    fn rest(&mut self, shortcut: impl FnOnce() -> Box<dyn Shortcut>) -> bool {
        Self::rest(self, shortcut)
    }

    fn wake_up(&mut self) -> Option<Bytes> {
        Self::wake_up(self)
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match ready!(self.poll_next(cx)) {
                Some(Item::Bytes(bytes)) => return Poll::Ready(Some(bytes)),
                None => return Poll::Ready(None),
                // It was asked for bytes alone.
                Some(Item::Event(_) | Item::Control(_)) => {}
            }
        }
    }
}

impl Source for ManySubscription {
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.poll_next(cx)
    }
}
