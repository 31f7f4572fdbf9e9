//! What handlers take from a request besides its query: the run, the cursor, the address's own headers.

use super::problem::{Code, Problem};
use super::query::Query;
use crate::event::{EventId, RunId};
use actix_web::HttpRequest;
use actix_web::http::header::HeaderName;

/// The run that the path names.
pub(super) fn run_id(request: &HttpRequest) -> Result<RunId, Problem> {
    // Percent-encoded slashes stay encoded here, and so are refused with all other characters.
    Ok(RunId::parse(request.match_info().get("run").unwrap_or_default())?)
}

/// The one value of a header, if it is there.
pub(super) fn header<'r>(
    request: &'r HttpRequest,
    name: &HeaderName,
) -> Result<Option<&'r str>, Problem> {
    let mut values = request.headers().get_all(name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| odd_header(name)),
        (Some(_), Some(_)) => Err(odd_header(name)),
    }
}

fn odd_header(name: &HeaderName) -> Problem {
    Problem::new(Code::InvalidEventId, format!("{name} is to be given once, in ASCII"))
}

/// The cursor a reader of one run comes back with.
pub(super) fn last_event_id(
    request: &HttpRequest,
    query: &Query<'_>,
) -> Result<Option<EventId>, Problem> {
    last_event_id_text(request, query)?.map(|text| Ok(EventId::parse(text)?)).transpose()
}

/// The cursor a reader comes back with: the header, or for clients that cannot set one, the parameter.
pub(super) fn last_event_id_text<'r>(
    request: &'r HttpRequest,
    query: &'r Query<'_>,
) -> Result<Option<&'r str>, Problem> {
    static NAME: HeaderName = HeaderName::from_static("last-event-id");
    let given = match header(request, &NAME)? {
        Some(value) => Some(value),
        None => query.get("last_event_id")?,
    };
    // An empty one is what a page has that has seen nothing yet.
    Ok(given.filter(|text| !text.is_empty()))
}
