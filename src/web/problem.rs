//! Every error a client can meet: its code, status and words, in one table, as `application/problem+json`
//! (RFC 9457).

use crate::event::{InvalidEvent, InvalidEventId, InvalidFilter, InvalidRunId};
use crate::hub::{PublishError, SubscribeError};
use crate::store::StoreError;
use crate::telemetry::log::one_line;
use actix_web::body::BoxBody;
use actix_web::http::header::{ALLOW, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, Responder, ResponseError};
use serde_json::{Map, Value, json};
use std::fmt;

macro_rules! codes {
    ($( $(#[doc = $doc:literal])* $name:ident = $code:literal, $status:literal, $title:literal; )*) => {
        /// The codes of the contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $( $(#[doc = $doc])* $name, )* }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$( Self::$name, )*];

            /// The code on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$name => $code, )* }
            }

            /// The HTTP status it comes with.
            pub const fn status(self) -> u16 {
                match self { $( Self::$name => $status, )* }
            }

            const fn title(self) -> &'static str {
                match self { $( Self::$name => $title, )* }
            }
        }
    };
}

codes! {
    /// A run id breaks the grammar.
    InvalidRunId = "INVALID_RUN_ID", 400, "The run id is not valid";
    /// An event id or `event_id` outside an event breaks the grammar.
    InvalidEventId = "INVALID_EVENT_ID", 400, "The event id is not valid";
    /// The body is not JSON.
    InvalidJson = "INVALID_JSON", 400, "The body is not valid JSON";
    /// A query parameter does not fit.
    InvalidQuery = "INVALID_QUERY", 400, "A query parameter is not valid";
    /// No or bad credentials.
    Unauthorized = "UNAUTHORIZED", 401, "Credentials are needed";
    /// The credentials do not allow it.
    Forbidden = "FORBIDDEN", 403, "This is not allowed";
    /// There is no such run.
    RunNotFound = "RUN_NOT_FOUND", 404, "There is no such run";
    /// There is no such path.
    NotFound = "NOT_FOUND", 404, "There is nothing here";
    /// The path does not know the method.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", 405, "The method is not allowed here";
    /// The client accepts nothing that can be answered.
    NotAcceptable = "NOT_ACCEPTABLE", 406, "No acceptable representation";
    /// The run has expired.
    RunExpired = "RUN_EXPIRED", 410, "The run has expired";
    /// An event is too large.
    EventTooLarge = "EVENT_TOO_LARGE", 413, "The event is too large";
    /// A publish is too large.
    BatchTooLarge = "BATCH_TOO_LARGE", 413, "The batch is too large";
    /// The body is of another type.
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", 415, "The body's type is not supported";
    /// An event does not fit.
    InvalidEvent = "INVALID_EVENT", 422, "The event is not valid";
    /// An `event_id` was used for other content.
    EventIdReused = "EVENT_ID_REUSED", 422, "The event_id was used for another event";
    /// Too many requests.
    RateLimited = "RATE_LIMITED", 429, "Too many requests";
    /// The store does not answer.
    StoreUnavailable = "STORE_UNAVAILABLE", 503, "The store is not available";
    /// No room for more events.
    SpoolFull = "SPOOL_FULL", 503, "There is no room for more events";
    /// As many streams are open as may be.
    TooManySubscribers = "TOO_MANY_SUBSCRIBERS", 503, "Too many streams are open";
}

/// Seconds after which a client should try again what failed for want of the store or of room.
const RETRY_SECONDS: u64 = 1;

/// Marks a response behind which the server has nothing to wait for on its connection.
pub(super) struct EndsConnection;

/// An error as its client sees it.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: String,
    index: Option<usize>,
    /// Numbers that say more, by name.
    numbers: Vec<(&'static str, u64)>,
    /// A header that says what would do.
    header: Option<Box<(HeaderName, String)>>,
    /// The connection is of no use any more.
    ends_connection: bool,
}

impl Problem {
    /// A problem with what went wrong, and what to do, in words.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        let (detail, numbers) = (detail.into(), Vec::new());
        Self { code, detail, index: None, numbers, header: None, ends_connection: false }
    }

    /// The same, about the element of a batch at this index.
    pub fn at(mut self, index: Option<usize>) -> Self {
        self.index = index;
        self
    }

    /// The same, with a number of this name.
    pub fn with(mut self, name: &'static str, number: u64) -> Self {
        self.numbers.push((name, number));
        self
    }

    /// The same, of a body that stopped within: the rest of it is not waited for.
    pub fn within_a_body(self) -> Self {
        Self { ends_connection: true, ..self }
    }

    /// The path knows only these methods.
    pub fn method_not_allowed(allowed: &'static [Method]) -> Self {
        let names = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
        let detail = format!("this path takes {names}");
        Self::new(Code::MethodNotAllowed, detail).with_header(ALLOW, names)
    }

    /// The same, with a header that says what would do.
    pub fn with_header(self, name: HeaderName, value: impl Into<String>) -> Self {
        Self { header: Some(Box::new((name, value.into()))), ..self }
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.code
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut body = Map::new();
        let mut set = |key: &str, value: Value| body.insert(key.to_owned(), value);
        set("type", json!(format!("urn:runhub:problem:{}", self.code.as_str())));
        set("title", json!(self.code.title()));
        set("status", json!(self.code.status()));
        set("detail", json!(one_line(&self.detail)));
        set("code", json!(self.code.as_str()));
        if let Some(index) = self.index {
            set("index", json!(index));
        }
        for (name, number) in &self.numbers {
            set(name, json!(number));
        }
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((CONTENT_TYPE, "application/problem+json"));
        if let Some((name, value)) = self.header.as_deref() {
            response.insert_header((name.clone(), value.as_str()));
        }
        // Who may not follow must not keep a connection that others need.
        if self.ends_connection || self.code == Code::TooManySubscribers {
            response.force_close();
        }
        if matches!(self.code.status(), 429 | 503) {
            response.insert_header((RETRY_AFTER, RETRY_SECONDS));
        }
        let mut response = response.body(Value::Object(body).to_string());
        if self.ends_connection {
            response.extensions_mut().insert(EndsConnection);
        }
        response
    }
}

impl Responder for Problem {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse<BoxBody> {
        self.error_response()
    }
}

impl From<InvalidRunId> for Problem {
    fn from(error: InvalidRunId) -> Self {
        Self::new(Code::InvalidRunId, error.to_string())
    }
}

impl From<InvalidEventId> for Problem {
    fn from(error: InvalidEventId) -> Self {
        Self::new(Code::InvalidEventId, error.to_string())
    }
}

impl From<InvalidFilter> for Problem {
    fn from(error: InvalidFilter) -> Self {
        Self::new(Code::InvalidQuery, error.to_string())
    }
}

impl From<InvalidEvent> for Problem {
    fn from(error: InvalidEvent) -> Self {
        let code = match error {
            InvalidEvent::Syntax(_) => Code::InvalidJson,
            InvalidEvent::DataTooLarge { .. } | InvalidEvent::EnvelopeTooLarge { .. } => {
                Code::EventTooLarge
            }
            InvalidEvent::Shape(_)
            | InvalidEvent::Unfit(_)
            | InvalidEvent::NoType
            | InvalidEvent::TwoTypes
            | InvalidEvent::Type(_)
            | InvalidEvent::Timestamp(_)
            | InvalidEvent::Key(_)
            | InvalidEvent::Source(_)
            | InvalidEvent::Field { .. }
            | InvalidEvent::Data(_)
            | InvalidEvent::OtherRun => Code::InvalidEvent,
        };
        Self::new(code, error.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::new(Code::StoreUnavailable, error.to_string())
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let detail = error.to_string();
        match error {
            PublishError::Late | PublishError::Closing => Self::new(Code::StoreUnavailable, detail),
            PublishError::Full => Self::new(Code::SpoolFull, detail),
            PublishError::NotSpooled(_) => Self::new(Code::StoreUnavailable, detail),
            PublishError::KeyReused { index } => {
                Self::new(Code::EventIdReused, detail).at(Some(index))
            }
            PublishError::Invalid { index, .. } => {
                Self::new(Code::InvalidEvent, detail).at(Some(index))
            }
            PublishError::Store(error) => error.into(),
        }
    }
}

impl From<SubscribeError> for Problem {
    fn from(error: SubscribeError) -> Self {
        let detail = error.to_string();
        match error {
            // The stream's handler answers this one with 204.
            SubscribeError::Finished | SubscribeError::Expired => {
                Self::new(Code::RunExpired, detail)
            }
            SubscribeError::NotFound => Self::new(Code::RunNotFound, detail),
            SubscribeError::TooMany => Self::new(Code::TooManySubscribers, detail),
            SubscribeError::Closing => Self::new(Code::StoreUnavailable, detail),
            SubscribeError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_contracts() {
        let contract = "400 INVALID_RUN_ID INVALID_EVENT_ID INVALID_JSON INVALID_QUERY 401 UNAUTHORIZED 403 \
            FORBIDDEN 404 RUN_NOT_FOUND NOT_FOUND 405 METHOD_NOT_ALLOWED 406 NOT_ACCEPTABLE 410 RUN_EXPIRED \
            413 EVENT_TOO_LARGE BATCH_TOO_LARGE 415 UNSUPPORTED_MEDIA_TYPE 422 INVALID_EVENT EVENT_ID_REUSED \
            429 RATE_LIMITED 503 STORE_UNAVAILABLE SPOOL_FULL TOO_MANY_SUBSCRIBERS";
        let mut status = 0;
        let mut expected = Vec::new();
        for word in contract.split_whitespace() {
            match word.parse() {
                Ok(number) => status = number,
                Err(_) => expected.push((status, word)),
            }
        }
        let ours: Vec<_> = Code::ALL.iter().map(|c| (c.status(), c.as_str())).collect();
        assert_eq!(ours, expected);
    }
}
