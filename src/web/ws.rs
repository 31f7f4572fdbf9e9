//! `GET /runs/{run_id}/events/ws`: a run over a WebSocket (RFC 6455). Each event is a text message with its
//! JSON; what is no event is one with `control`. The hub pings, and cuts who does not answer. Who is cut, and reads on
//! after all, gets the message under way whole, and is told why.

use super::App;
use super::connection::Handover;
use super::extract::{last_event_id, run_id};
use super::problem::{Code, Problem};
use super::query::Query;
use super::stream;
use super::turns::Turn;
use crate::config::Config;
use crate::hub::{
    CloseReason, Control, Item, Shape, SubscribeError, SubscribeOptions, Subscription,
};
use actix_codec::{Decoder, Encoder};
use actix_http::ws::{self, CloseCode, Codec, Frame, Item as Part, Message, ProtocolError};
use actix_web::body::{BodyStream, MessageBody};
use actix_web::http::Version;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use futures::{Stream, StreamExt};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

/// The most bytes a client may send in one message. Readers have nothing to say.
const LONGEST_MESSAGE: usize = 64 << 10;
/// The most messages a client may send within a minute.
const MOST_MESSAGES: u32 = 100;
/// The most bytes put together before they are handed over.
const PIECE: usize = 16 << 10;
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Handles the request.
pub(super) async fn follow(
    request: HttpRequest,
    payload: Payload,
    app: Data<App>,
) -> Result<HttpResponse, Problem> {
    let run = run_id(&request)?;
    check_handshake(&request)?;
    check_origin(request.headers(), app.hub.config())?;
    let query = Query::of(&request);
    let cursor = last_event_id(&request, &query)?;
    let options = SubscribeOptions { shape: Shape::Items, ..stream::options(&query, cursor)? };
    let subscription = match app.hub.subscribe(&run, options).await {
        Ok(subscription) => Some(subscription),
        // There is nothing left to say but that.
        Err(SubscribeError::Finished) => None,
        Err(error) => return Err(error.into()),
    };
    let mut response = ws::handshake(request.head())
        .map_err(|e| Problem::new(Code::InvalidQuery, format!("no WebSocket handshake: {e}")))?;
    let (out, ready) = mpsc::channel(1);
    let body = BodyStream::new(ReceiverStream(ready));
    let response = response.message_body(body.boxed()).map_err(|e| {
        Problem::new(Code::InvalidQuery, format!("the WebSocket cannot be answered: {e}"))
    })?;
    // It is pinged, and cut if it does not answer.
    if let Some(connection) = request.conn_data::<Handover>() {
        connection.let_be();
    }
    let subscribe = &app.hub.config().subscribe;
    let conversation = Conversation {
        out,
        incoming: Incoming::new(payload),
        codec: Codec::new(),
        ping_every: subscribe.heartbeat,
        stall: subscribe.stall_timeout,
        untaken: BytesMut::new(),
    };
    actix_web::rt::spawn(conversation.hold(subscription));
    Ok(response.into())
}

/// What is ready, as the body of the answer. One piece waits at most: a client that does not read fills no
/// memory.
struct ReceiverStream(mpsc::Receiver<Bytes>);

impl Stream for ReceiverStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|piece| piece.map(Ok))
    }
}

/// What a handshake must have, with a problem document for each thing it lacks.
fn check_handshake(request: &HttpRequest) -> Result<(), Problem> {
    let has = |name: header::HeaderName, word: &str| {
        let values = request.headers().get_all(name).filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|w| w.trim().eq_ignore_ascii_case(word))
    };
    let refuse = |detail: &str| Err(Problem::new(Code::InvalidQuery, detail));
    let upgrade = request.headers().get_all(header::UPGRADE).map(HeaderValue::as_bytes);
    // The library would take another protocol's name beside it, and then speak that.
    let only = upgrade.map(<[u8]>::to_ascii_lowercase).eq([b"websocket".to_vec()]);
    if !only || !has(header::CONNECTION, "upgrade") || request.version() < Version::HTTP_11 {
        return refuse(
            "this is a WebSocket: send Connection: Upgrade and Upgrade: websocket, with HTTP/1.1",
        );
    }
    if !has(header::SEC_WEBSOCKET_VERSION, "13") {
        let detail = "the version of WebSockets is 13: send Sec-WebSocket-Version: 13";
        let problem = Problem::new(Code::InvalidQuery, detail);
        // RFC 6455, section 4.4.
        return Err(problem.with_header(header::SEC_WEBSOCKET_VERSION, "13"));
    }
    if !request.headers().contains_key(header::SEC_WEBSOCKET_KEY) {
        return refuse("a WebSocket handshake has a Sec-WebSocket-Key");
    }
    Ok(())
}

/// A page may open a WebSocket anywhere, unasked: what CORS does for other requests is done here. A page of
/// the hub's own address, one that is listed, and whatever is no page, may.
fn check_origin(headers: &HeaderMap, config: &Config) -> Result<(), Problem> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let may = |origin: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default();
        let own = host.is_some_and(|host| {
            let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
        });
        own || config.server.cors_origins.0.iter().any(|listed| listed == origin)
    };
    if headers.get_all(header::ORIGIN).all(may) {
        return Ok(());
    }
    let detail = "pages of this origin may not use the hub; list it in server.cors_origins";
    Err(Problem::new(Code::Forbidden, detail))
}

/// One WebSocket.
struct Conversation {
    out: mpsc::Sender<Bytes>,
    incoming: Incoming,
    codec: Codec,
    ping_every: Duration,
    /// How long a client may take nothing.
    stall: Duration,
    /// What a client was to take and did not.
    untaken: BytesMut,
}

/// Why a conversation ends.
enum End {
    /// The stream ends.
    Closed(CloseReason),
    /// The client is gone, or says goodbye.
    Gone,
    /// The client does not answer pings.
    Silent,
    /// The client takes nothing, and so was not told.
    Slow,
    /// The client breaks a rule.
    Refused(CloseCode, &'static str),
}

impl Conversation {
    /// Talks until one of the two has enough.
    async fn hold(mut self, subscription: Option<Subscription>) {
        let end = match subscription {
            Some(subscription) => self.talk(subscription).await,
            None => {
                let mut bytes = BytesMut::new();
                let reason = CloseReason::RunFinished;
                write(&mut self.codec, control(&Control::Close(reason)), &mut bytes);
                self.send(bytes).await.unwrap_or(End::Closed(reason))
            }
        };
        let mut bytes = std::mem::take(&mut self.untaken);
        if matches!(end, End::Slow) {
            write(&mut self.codec, control(&Control::Close(CloseReason::SlowClient)), &mut bytes);
        } else {
            self.stall = GOODBYE;
        }
        let (code, description) = match end {
            End::Slow => (CloseCode::Again, Some(CloseReason::SlowClient.as_str().to_owned())),
            End::Gone => (CloseCode::Normal, None),
            End::Silent => (CloseCode::Again, Some("no answer to two pings".to_owned())),
            End::Closed(reason) => {
                let code = match reason {
                    CloseReason::RunFinished | CloseReason::RunDeleted => CloseCode::Normal,
                    CloseReason::Shutdown => CloseCode::Away,
                    CloseReason::SlowClient => CloseCode::Again,
                };
                (code, Some(reason.as_str().to_owned()))
            }
            End::Refused(code, why) => (code, Some(why.to_owned())),
        };
        let close = Message::Close(Some(ws::CloseReason { code, description }));
        write(&mut self.codec, close, &mut bytes);
        if self.send(bytes).await.is_some() {
            log::debug!("a WebSocket client did not hear the goodbye");
        }
    }

    async fn talk(&mut self, mut subscription: Subscription) -> End {
        let mut ping_at = Instant::now() + self.ping_every;
        let mut unanswered = 0;
        let (mut heard, mut minute) = (0, Instant::now());
        let gone = self.out.clone();
        let mut turn = Turn::default();
        loop {
            let mut bytes = BytesMut::new();
            let end = tokio::select! {
                end = poll_fn(|cx| {
                    turn.poll(cx, |cx| gather(&mut self.codec, &mut subscription, &mut bytes, cx))
                }) => end,
                frame = self.incoming.next() => {
                    if minute.elapsed() >= Duration::from_secs(60) {
                        (heard, minute) = (0, Instant::now());
                    }
                    heard += 1;
                    // Whatever comes shows that the client is there.
                    unanswered = 0;
                    match frame {
                        Ok(_) if heard > MOST_MESSAGES => {
                            Some(End::Refused(CloseCode::Policy, "too many messages"))
                        }
                        Ok(Some(ping)) => {
                            write(&mut self.codec, Message::Pong(ping), &mut bytes);
                            None
                        }
                        Ok(None) => None,
                        Err(end) => Some(end),
                    }
                }
                () = gone.closed() => Some(End::Gone),
                () = tokio::time::sleep_until(ping_at) => {
                    unanswered += 1;
                    ping_at = Instant::now() + self.ping_every;
                    write(&mut self.codec, Message::Ping(Bytes::new()), &mut bytes);
                    (unanswered > 2).then_some(End::Silent)
                }
            };
            if let Some(end @ (End::Gone | End::Silent | End::Refused(..))) = end {
                return end;
            }
            if let Some(stuck) = self.send_while(bytes, || subscription.is_taking()).await {
                return stuck;
            }
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Hands bytes over; gives the end if the client takes none, or is gone.
    async fn send(&mut self, bytes: BytesMut) -> Option<End> {
        self.send_while(bytes, || {}).await
    }

    /// The same, in small pieces, each of which that is taken shows that the client is slow, not gone.
    async fn send_while(&mut self, mut bytes: BytesMut, taken: impl Fn()) -> Option<End> {
        while !bytes.is_empty() {
            match timeout(self.stall, self.out.reserve()).await {
                Ok(Ok(room)) => {
                    room.send(bytes.split_to(bytes.len().min(PIECE)).freeze());
                    taken();
                }
                Ok(Err(_)) => return Some(End::Gone),
                Err(_) => {
                    self.untaken = bytes;
                    return Some(End::Slow);
                }
            }
        }
        None
    }
}

/// Writes what the stream has ready, a piece at most; ready with the end of it, or with none if it goes
/// on.
fn gather(
    codec: &mut Codec,
    subscription: &mut Subscription,
    bytes: &mut BytesMut,
    cx: &Context<'_>,
) -> Poll<Option<End>> {
    while bytes.len() < PIECE {
        let (message, end) = match subscription.poll_next(cx) {
            Poll::Pending if bytes.is_empty() => return Poll::Pending,
            Poll::Pending => break,
            Poll::Ready(None) => return Poll::Ready(Some(End::Gone)),
            Poll::Ready(Some(Item::Event(event))) => {
                // An event's JSON is text.
                let text = ByteString::try_from(event.json).unwrap_or_default();
                (Message::Text(text), None)
            }
            Poll::Ready(Some(Item::Control(said))) => {
                let end = match &said {
                    Control::Close(reason) => Some(End::Closed(*reason)),
                    _ => None,
                };
                (control(&said), end)
            }
            // Streams of items have no bytes.
            Poll::Ready(Some(Item::Bytes(_))) => continue,
        };
        write(codec, message, bytes);
        if end.is_some() {
            return Poll::Ready(end);
        }
    }
    Poll::Ready(None)
}

fn write(codec: &mut Codec, message: Message, bytes: &mut BytesMut) {
    if let Err(e) = codec.encode(message, bytes) {
        log::error!("a WebSocket message cannot be written: {e}");
    }
}

/// What the client sends. Nothing of it matters but that it is within the rules, and its pings.
struct Incoming {
    payload: Payload,
    codec: Codec,
    bytes: BytesMut,
    /// The parts of a message that has not ended.
    fragments: Vec<u8>,
    is_text: bool,
}

impl Incoming {
    fn new(payload: Payload) -> Self {
        let codec = Codec::new().max_size(LONGEST_MESSAGE);
        Self { payload, codec, bytes: BytesMut::new(), fragments: Vec::new(), is_text: false }
    }

    /// The next frame; with what is to be sent back, if it is a ping.
    async fn next(&mut self) -> Result<Option<Bytes>, End> {
        loop {
            match self.codec.decode(&mut self.bytes) {
                Ok(Some(frame)) => return self.take(frame),
                // The library waits for a frame's end however long it says to be.
                Ok(None) if declared(&self.bytes) > LONGEST_MESSAGE as u64 => {
                    return Err(too_large());
                }
                Ok(None) => {}
                Err(ProtocolError::Overflow) => return Err(too_large()),
                Err(_) => {
                    return Err(End::Refused(CloseCode::Protocol, "not a WebSocket message"));
                }
            }
            match self.payload.next().await {
                Some(Ok(more)) => self.bytes.extend_from_slice(&more),
                Some(Err(_)) | None => return Err(End::Gone),
            }
        }
    }

    fn take(&mut self, frame: Frame) -> Result<Option<Bytes>, End> {
        match frame {
            Frame::Text(text) => check_text(&text).map(|()| None),
            Frame::Binary(_) | Frame::Pong(_) => Ok(None),
            Frame::Ping(bytes) => Ok(Some(bytes)),
            Frame::Close(_) => Err(End::Gone),
            Frame::Continuation(part) => {
                let (bytes, is_last) = match part {
                    Part::FirstText(bytes) => {
                        self.is_text = true;
                        (bytes, false)
                    }
                    Part::FirstBinary(bytes) => {
                        self.is_text = false;
                        (bytes, false)
                    }
                    Part::Continue(bytes) => (bytes, false),
                    Part::Last(bytes) => (bytes, true),
                };
                self.fragments.extend_from_slice(&bytes);
                if self.fragments.len() > LONGEST_MESSAGE {
                    return Err(too_large());
                }
                if is_last {
                    let whole = std::mem::take(&mut self.fragments);
                    if self.is_text {
                        check_text(&whole)?;
                    }
                }
                Ok(None)
            }
        }
    }
}

/// How long the payload is that a frame's header says to come; 0 if that has not come itself.
fn declared(frame: &[u8]) -> u64 {
    match frame {
        [_, length, rest @ ..] => match (length & 0x7f, rest) {
            (126, [a, b, ..]) => u16::from_be_bytes([*a, *b]).into(),
            (127, rest) => rest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)),
            (short @ 0..126, _) => short.into(),
            _ => 0,
        },
        _ => 0,
    }
}

fn check_text(text: &[u8]) -> Result<(), End> {
    let invalid = |_| End::Refused(CloseCode::Invalid, "the text is not UTF-8");
    std::str::from_utf8(text).map(|_| ()).map_err(invalid)
}

fn too_large() -> End {
    End::Refused(CloseCode::Size, "the message is too large")
}

fn control(control: &Control) -> Message {
    let text = format!("{{\"control\":\"{}\",{}}}", control.name(), control.members());
    Message::Text(text.into())
}
