//! Answers of unknown length for clients that speak HTTP/1.0, as some proxies do: such a client knows no chunks
//! (RFC 9112, section 7.1), so its connection ends with the body.

use actix_web::http::{ConnectionType, Version};
use actix_web::{HttpRequest, HttpResponse};

/// Makes a streamed answer one that the client of this request can read.
pub(super) fn readable(request: &HttpRequest, mut response: HttpResponse) -> HttpResponse {
    if !knows_chunks(request) {
        let head = response.head_mut();
        head.no_chunking(true);
        head.set_connection_type(ConnectionType::Close);
    }
    response
}

/// Whether a body may come in chunks.
pub(super) fn knows_chunks(request: &HttpRequest) -> bool {
    request.version() >= Version::HTTP_11
}
