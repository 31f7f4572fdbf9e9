//! The servers that a URL names one after the other.

use super::dial::with_tcp;
use redis::{ConnectionInfo, IntoConnectionInfo};

/// How to connect to each of `host:port,host,[::1]:port`, with `user:password` before their `@` in a URL.
pub(super) fn parse(
    credentials: &str,
    hosts: &str,
    default_port: u16,
) -> Option<Vec<ConnectionInfo>> {
    let hosts = hosts.split(',').map(|host| {
        let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
        let port = if has_port { String::new() } else { format!(":{default_port}") };
        let info = format!("redis://{credentials}@{host}{port}/").into_connection_info();
        info.map(with_tcp).ok()
    });
    hosts.collect()
}
