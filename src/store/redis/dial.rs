//! Making one connection to the Redis server that takes writes: the URL, the socket's settings, and the
//! questions a new connection must answer before it is used.

use super::hosts::Transport;
use super::reply;
use super::sentinels::Sentinels;
use crate::config::{RedisConfig, RedisUrl};
use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    ServerError, Value,
};
use std::time::Duration;

/// The URL cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the Redis URL {url} cannot be used: {reason}")]
pub struct InvalidUrl {
    /// The URL without secrets.
    pub url: RedisUrl,
    /// What is wrong, without secrets.
    pub reason: String,
}

/// Where to find the server.
#[derive(Debug, Clone)]
enum Place {
    Server(Box<ConnectionInfo>),
    Sentinels(Box<Sentinels>),
}

/// Makes connections. A server's certificate is checked against the system's authorities.
#[derive(Debug, Clone)]
pub(super) struct Dialer {
    place: Place,
    connect_timeout: Duration,
}

/// Unanswered bytes or silence for this long and the kernel gives a connection up.
const SILENCE: Duration = Duration::from_secs(3);

impl Dialer {
    pub(super) fn new(url: &RedisUrl, config: &RedisConfig) -> Result<Self, InvalidUrl> {
        let invalid = |reason: &str| InvalidUrl { url: url.clone(), reason: reason.to_owned() };
        let text = url.reveal();
        let place = if let Some((transport, rest)) = Transport::of(text, "-sentinel") {
            let sentinels =
                Sentinels::parse(transport, rest).ok_or_else(|| invalid(Sentinels::EXPECTED))?;
            Place::Sentinels(Box::new(sentinels))
        } else {
            // The driver's own words may hold the URL, and so a password.
            let info = text.into_connection_info().map_err(|_| {
                invalid(
                    "expected redis://, unix://, redis-sentinel:// or redis-cluster://, or with TLS rediss://, \
                     rediss-sentinel:// or rediss-cluster://, with a host or path",
                )
            })?;
            Place::Server(Box::new(with_tcp(info)))
        };
        Ok(Self { place, connect_timeout: config.connect_timeout })
    }

    /// To this server.
    pub(super) fn to(server: ConnectionInfo, config: &RedisConfig) -> Self {
        Self { place: Place::Server(Box::new(server)), connect_timeout: config.connect_timeout }
    }

    /// Connects to the server that takes writes. The error is for operators and holds no secret.
    pub(super) async fn dial(
        &self,
        response_timeout: Duration,
    ) -> Result<MultiplexedConnection, String> {
        self.open(&self.config(response_timeout), ProtocolVersion::RESP2).await
    }

    /// The same for a connection on which the server also speaks unasked, which `listener` hears.
    pub(super) async fn dial_to_hear(
        &self,
        response_timeout: Duration,
        listener: impl AsyncPushSender,
    ) -> Result<MultiplexedConnection, String> {
        let config = self.config(response_timeout).set_push_sender(listener);
        self.open(&config, ProtocolVersion::RESP3).await
    }

    fn config(&self, response_timeout: Duration) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(response_timeout))
            .set_pipeline_buffer_size(1024)
    }

    async fn open(
        &self,
        config: &AsyncConnectionConfig,
        protocol: ProtocolVersion,
    ) -> Result<MultiplexedConnection, String> {
        match &self.place {
            Place::Server(info) => self.open_at(info.as_ref().clone(), config, protocol).await,
            Place::Sentinels(sentinels) => {
                let (mut tried, mut reasons) = (Vec::new(), Vec::new());
                for sentinel in sentinels.all() {
                    match sentinels.ask(sentinel, &self.config(self.connect_timeout)).await {
                        Ok(server) if tried.contains(server.addr()) => {}
                        Ok(server) => {
                            let address = server.addr().clone();
                            match self.open_at(server, config, protocol).await {
                                Ok(connection) => return Ok(connection),
                                Err(e) => reasons.push(format!("{address}: {e}")),
                            }
                            tried.push(address);
                        }
                        Err(e) => reasons.push(format!("sentinel {}: {e}", sentinel.addr())),
                    }
                }
                Err(reasons.join("; "))
            }
        }
    }

    async fn open_at(
        &self,
        info: ConnectionInfo,
        config: &AsyncConnectionConfig,
        protocol: ProtocolVersion,
    ) -> Result<MultiplexedConnection, String> {
        let settings = info.redis_settings().clone().set_protocol(protocol);
        let mut connection = connect(info.set_redis_settings(settings), config).await?;
        // A server that accepts and then says nothing must not hold the dialling up.
        tokio::time::timeout(self.connect_timeout, vet(&mut connection))
            .await
            .map_err(|_| "connected, but the server does not answer".to_owned())??;
        Ok(connection)
    }
}

pub(super) async fn connect(
    info: ConnectionInfo,
    config: &AsyncConnectionConfig,
) -> Result<MultiplexedConnection, String> {
    let client = Client::open(info).map_err(|e| describe(&e))?;
    client.get_multiplexed_async_connection_with_config(config).await.map_err(|e| describe(&e))
}

/// Asks a new connection whether its server can be used.
async fn vet(connection: &mut MultiplexedConnection) -> Result<(), String> {
    let mut questions = redis::pipe();
    questions.cmd("PING").cmd("ROLE").cmd("INFO").arg("server");
    let answers =
        connection.send_packed_commands(&questions, 0, 3).await.map_err(|e| describe(&e))?;
    let [ping, role, info] =
        answers.try_into().map_err(|_| "the server speaks another protocol")?;
    // One that cannot save refuses this like a write, and yet can be read.
    if let Value::ServerError(e) = ping
        && e.code() != "MISCONF"
    {
        return Err(answered(&e));
    }
    // Rights to ask these two may be missing; then the first write tells.
    if let Value::Array(role) = role
        && matches!(role.first(), Some(Value::BulkString(name)) if name != b"master")
    {
        return Err("the server is a replica and takes no writes".to_owned());
    }
    if let Value::BulkString(info) = info {
        let info = String::from_utf8_lossy(&info);
        let version = reply::said_in_info(&info, "redis_version");
        let major = version.and_then(|v| v.split('.').next()?.parse::<u32>().ok());
        if major.is_some_and(|major| major < 7) {
            let version = version.unwrap_or_default();
            return Err(format!("the server is Redis {version}; Runhub needs 7.0 or newer"));
        }
    }
    Ok(())
}

/// An error that a server answered, in words.
pub(super) fn answered(error: &ServerError) -> String {
    format!("the server answered {} {}", error.code(), error.details().unwrap_or_default())
}

/// With the settings of every socket to a server.
pub(super) fn with_tcp(info: ConnectionInfo) -> ConnectionInfo {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(1))
        .with_interval(Duration::from_secs(1))
        .with_retries(2);
    let tcp =
        TcpSettings::default().set_nodelay(true).set_keepalive(keepalive).set_user_timeout(SILENCE);
    info.set_tcp_settings(tcp)
}

/// A driver's error in words that hold no secret.
pub(super) fn describe(error: &redis::RedisError) -> String {
    match (error.kind(), error.code()) {
        (redis::ErrorKind::AuthenticationFailed, _) => {
            "the server refused the user name or password, or has too many clients".to_owned()
        }
        (_, Some(code)) => {
            format!("the server answered {code} {}", error.detail().unwrap_or_default())
        }
        _ => error.to_string(),
    }
}
