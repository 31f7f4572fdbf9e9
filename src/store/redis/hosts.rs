//! The servers that a URL names one after the other.

use super::dial::with_tcp;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

/// How servers are spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Plain,
    /// Their certificates are checked against the system's authorities.
    Tls,
}

impl Transport {
    /// What a URL says of which the scheme is `redis` or `rediss` and this, and the URL without its scheme.
    pub(super) fn of<'u>(url: &'u str, kind: &str) -> Option<(Self, &'u str)> {
        let (scheme, rest) = url.split_once("://")?;
        match scheme.strip_suffix(kind)? {
            "redis" => Some((Self::Plain, rest)),
            "rediss" => Some((Self::Tls, rest)),
            _ => None,
        }
    }

    /// The scheme of a URL for one server.
    pub(super) fn scheme(self) -> &'static str {
        match self {
            Self::Plain => "redis",
            Self::Tls => "rediss",
        }
    }

    pub(super) fn address(self, host: String, port: u16) -> ConnectionAddr {
        match self {
            Self::Plain => ConnectionAddr::Tcp(host, port),
            Self::Tls => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        }
    }
}

/// How to connect to each of `host:port,host,[::1]:port`, with `user:password` before their `@` in a URL.
pub(super) fn parse(
    transport: Transport,
    credentials: &str,
    hosts: &str,
    default_port: u16,
) -> Option<Vec<ConnectionInfo>> {
    let hosts = hosts.split(',').map(|host| {
        let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
        let port = if has_port { String::new() } else { format!(":{default_port}") };
        let info = format!("{}://{credentials}@{host}{port}/", transport.scheme());
        info.into_connection_info().map(with_tcp).ok()
    });
    hosts.collect()
}
