//! The `x-request-id` of a response: the client's own where it sent a sound one, else a new ULID.

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{HeaderName, HeaderValue};
use ulid::Ulid;

/// The header's name.
pub(super) static NAME: HeaderName = HeaderName::from_static("x-request-id");

/// The id for the answer to a request.
pub(super) fn of(request: &ServiceRequest) -> HeaderValue {
    let given = request.headers().get(&NAME).filter(|value| {
        let bytes = value.as_bytes();
        (1..=128).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    });
    // A ULID is letters and digits.
    given.cloned().unwrap_or_else(|| {
        let mut text = [0; ulid::ULID_LEN];
        let text = Ulid::generate().array_to_str(&mut text);
        HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("none"))
    })
}
