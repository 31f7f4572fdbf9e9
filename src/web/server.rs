//! The HTTP server: its socket, its limits, its end.

use super::admission::Admission;
use super::connection::{Connection, Handover};
use super::problem::EndsConnection;
use super::silence;
use super::{App, not_found, request_id, routes};
use crate::config::Config;
use crate::telemetry::metrics;
use actix_cors::Cors;
use actix_http::HttpService;
use actix_http::error::DispatchError;
use actix_server::{Server as ActixServer, ServerHandle};
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::{AppConfig, Service as _};
use actix_web::error::ErrorBadRequest;
use actix_web::http::Method;
use actix_web::http::header::{CACHE_CONTROL, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use actix_web::middleware::Condition;
use actix_web::rt::net::TcpStream;
use actix_web::web::Data;
use actix_web::{App as ActixApp, web};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection without requests is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Bytes taken ahead of a reader before its stream waits.
const WRITE_BUFFER: usize = 32 << 10;

/// Bytes the kernel may hold that were not sent yet.
const UNSENT: u32 = 128 << 10;

/// A running server.
pub struct Server {
    handle: ServerHandle,
}

/// An address that is taken, where nobody can connect yet.
#[derive(Debug)]
pub struct Bound(Socket);

/// Takes the address, or says that it is somebody else's. Whoever connects is refused until the hub
/// listens: a request must not wait for the store to be opened.
pub fn bind(address: SocketAddr) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(Bound(socket))
}

impl Bound {
    /// Lets clients connect.
    pub fn listen(self) -> io::Result<(SocketAddr, TcpListener)> {
        self.0.listen(BACKLOG)?;
        let listener = TcpListener::from(self.0);
        Ok((listener.local_addr()?, listener))
    }
}

impl Server {
    /// Serves on a socket. The second value runs the server and must be polled.
    pub fn start(
        listener: TcpListener,
        app: App,
        config: &Config,
    ) -> io::Result<(Self, ActixServer)> {
        let data = Data::new(app);
        let origins = config.server.cors_origins.0.clone();
        // A reader that takes nothing is told so first; then the kernel gives its connection up.
        let stall = config.subscribe.stall_timeout.saturating_add(Duration::from_secs(30));
        let publish = &config.publish;
        let body = publish.body_timeout.max(publish.stream_timeout).max(HEAD_TIMEOUT);
        // Whatever has a limit of its own is over by then.
        let longest_silence = body.saturating_mul(2).saturating_add(publish.timeout);
        let (address, builder) = (listener.local_addr()?, ActixServer::build());
        let stopping = builder.graceful_shutdown_signal();
        let connections = usize::try_from(config.server.max_connections).unwrap_or(usize::MAX);
        let admission = Admission::new(connections);
        let service = move || {
            let app = ActixApp::new()
                .app_data(Data::clone(&data))
                .configure(routes)
                .default_service(web::to(not_found))
                .wrap(Condition::new(!origins.is_empty(), cors(&origins)))
                .wrap_fn(|request, service| {
                    let id = request_id::of(&request);
                    let is_post = request.method() == Method::POST;
                    // What is sent behind the request for a stream could not be answered.
                    let unheard = request.conn_data::<Handover>().is_some_and(Handover::is_taken);
                    let answered = (!unheard).then(|| service.call(request));
                    async move {
                        let answered =
                            answered.ok_or_else(|| ErrorBadRequest("behind a stream"))?;
                        let mut response = answered.await?;
                        metrics::responded(response.status().as_u16());
                        if response.response().extensions().contains::<EndsConnection>()
                            && let Some(connection) = response.request().conn_data::<Handover>()
                        {
                            connection.end();
                        }
                        let headers = response.headers_mut();
                        headers.insert(request_id::NAME.clone(), id);
                        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
                        // What a run holds is nobody else's; answers to a POST are kept nowhere.
                        if !is_post && !headers.contains_key(CACHE_CONTROL) {
                            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                        }
                        Ok(response)
                    }
                })
                .into_factory()
                .map_err(|e| e.error_response());
            let stopping = stopping.clone();
            let http = HttpService::build()
                // A closed browser is noticed at once, not at the next write.
                .h1_allow_half_closed(false)
                .h1_write_buffer_size(WRITE_BUFFER)
                .keep_alive(KEEP_ALIVE)
                .client_request_timeout(HEAD_TIMEOUT)
                .local_addr(address)
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                .on_connect_ext(|connection: &Connection, data| {
                    data.insert(connection.handover());
                })
                .h1(map_config(app, |()| AppConfig::default()));
            let admission = Arc::clone(&admission);
            fn_service(move |socket: TcpStream| {
                let admission = Arc::clone(&admission);
                async move {
                    set_limits(&SockRef::from(&socket), stall);
                    let peer = socket.peer_addr().ok();
                    let full = || DispatchError::Io(io::ErrorKind::QuotaExceeded.into());
                    let connection = Connection::new(admission.admit(socket).ok_or_else(full)?);
                    silence::watch(connection.glimpse(), longest_silence);
                    Ok((connection, peer))
                }
            })
            .and_then(http)
        };
        let server = builder
            .workers(workers(config))
            // Else whoever is one too many would wait and not be told.
            .max_concurrent_connections(connections.saturating_add(1))
            .disable_signals()
            .shutdown_timeout(2)
            .listen("http", listener, service)?
            .run();
        Ok((Self { handle: server.handle() }, server))
    }

    /// Stops accepting, waits a little for answers under way, and ends.
    pub async fn stop(&self) {
        self.handle.stop(true).await;
    }
}

/// The threads that serve connections.
pub(crate) fn workers(config: &Config) -> usize {
    let processors = || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    match usize::try_from(config.server.workers) {
        Ok(0) | Err(_) => processors(),
        Ok(workers) => workers.min(512),
    }
}

/// Vanished clients are noticed by the kernel. Best effort: a socket that refuses still works.
fn set_limits(socket: &SockRef<'_>, silence: Duration) {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10));
    drop(socket.set_tcp_nodelay(true));
    drop(socket.set_tcp_keepalive(&keepalive));
    drop(socket.set_tcp_user_timeout(Some(silence)));
    // Else the kernel takes megabytes before it takes more, and a slow reader looks like a stalled one.
    drop(socket.set_tcp_notsent_lowat(UNSENT));
}

/// Lets pages of the configured origins, and no others, use the hub from a browser.
fn cors(origins: &[String]) -> Cors {
    let mut cors = Cors::default()
        .allowed_methods(["GET", "HEAD", "POST", "PUT", "DELETE"])
        .allowed_headers([
            "content-type",
            "last-event-id",
            "idempotency-key",
            "x-request-id",
            "authorization",
        ])
        .expose_headers(["x-request-id", "retry-after"])
        .max_age(3600);
    for origin in origins {
        cors = cors.allowed_origin(origin);
    }
    cors
}
