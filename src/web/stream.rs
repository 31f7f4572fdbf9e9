//! `GET /runs/{run_id}/events/stream`: a run as Server-Sent Events (WHATWG HTML, section 9.2).

use super::App;
use super::accept;
use super::extract::{last_event_id, run_id};
use super::problem::{Code, Problem};
use super::query::Query;
use crate::event::Filter;
use crate::event::frame::Framing;
use crate::hub::{Start, SubscribeError, SubscribeOptions, Subscription};
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Handles GET.
pub(super) async fn follow(request: HttpRequest, app: Data<App>) -> Result<HttpResponse, Problem> {
    let run = run_id(&request)?;
    accept::choose(&request, &["text/event-stream"])?;
    let options = options(&request)?;
    match app.hub.subscribe(&run, options).await {
        Ok(subscription) => Ok(head_of_stream().body(StreamBody(subscription))),
        Err(SubscribeError::Finished) => Ok(HttpResponse::NoContent().finish()),
        Err(error) => Err(error.into()),
    }
}

/// Handles HEAD: the headers of a stream, without opening one.
pub(super) async fn head(request: HttpRequest) -> Result<HttpResponse, Problem> {
    run_id(&request)?;
    Ok(head_of_stream().finish())
}

fn options(request: &HttpRequest) -> Result<SubscribeOptions, Problem> {
    let query = Query::of(request);
    let cursor = last_event_id(request, &query)?;
    let from = query.word("from", &[("start", Start::Beginning), ("live", Start::Live)])?;
    if query.get("deltas")?.is_some() {
        let detail = "deltas is not supported by this version";
        return Err(Problem::new(Code::InvalidQuery, detail));
    }
    let framings = [("typed", Framing::Typed), ("message", Framing::Message)];
    Ok(SubscribeOptions {
        // A client that comes back says where it was; where it once began no longer matters.
        start: cursor.map(Start::After).or(from).unwrap_or_default(),
        filter: filter(&query)?,
        framing: query.word("framing", &framings)?.unwrap_or_default(),
        must_exist: query.word("must_exist", &[("true", true), ("false", false)])?.unwrap_or(false),
    })
}

/// The filter that a query asks for.
pub(super) fn filter(query: &Query<'_>) -> Result<Filter, Problem> {
    Ok(Filter::parse(query.get("types")?, query.get("agent")?)?)
}

fn head_of_stream() -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-cache, no-transform"))
        .insert_header((HeaderName::from_static("x-accel-buffering"), "no"));
    response
}

/// The body of a stream.
struct StreamBody(Subscription);

impl MessageBody for StreamBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        self.get_mut().0.poll_next(cx).map(|chunk| chunk.map(Ok))
    }
}
