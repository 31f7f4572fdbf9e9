//! Sentinels: they tell which of several servers takes writes now. Each is asked anew for each connection, and
//! none is believed blindly: one that was cut off may name a server that is gone, or that is a replica by now.
//! After Redis' guidelines for clients of Sentinel (redis.io/docs/latest/develop/reference/sentinel-clients).

use super::dial::{connect, describe, with_tcp};
use super::hosts::{self, Transport};
use redis::{AsyncConnectionConfig, ConnectionInfo, IntoConnectionInfo};

/// Where they are, and what they are asked for.
#[derive(Debug, Clone)]
pub(super) struct Sentinels {
    /// To the sentinels and to the servers.
    transport: Transport,
    sentinels: Vec<ConnectionInfo>,
    /// The name that the sentinels have for the servers.
    master: String,
    /// How to connect to a server, but for its address.
    server: ConnectionInfo,
}

impl Sentinels {
    /// What a URL of sentinels says.
    pub(super) const EXPECTED: &str = "expected redis-sentinel:// or rediss-sentinel:// and \
         [user:password@]host:port,host:port/master_name, with ?db=, &sentinel_username=, &sentinel_password= \
         if need be";

    /// From such a URL, without its scheme. The user's name and password are the servers'.
    pub(super) fn parse(transport: Transport, rest: &str) -> Option<Self> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut db, mut name, mut password) = ("0", "", "");
        for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            match key {
                "db" => db = value,
                "sentinel_username" => name = value,
                "sentinel_password" => password = value,
                _ => return None,
            }
        }
        let (hosts, master) = rest.rsplit_once('/')?;
        let (credentials, hosts) = hosts.rsplit_once('@').unwrap_or(("", hosts));
        let sentinels = hosts::parse(transport, &format!("{name}:{password}"), hosts, 26379)?;
        let server = format!("{}://{credentials}@placeholder:6379/{db}", transport.scheme());
        let server = with_tcp(server.into_connection_info().ok()?);
        let master = master.to_owned();
        (!master.is_empty()).then_some(Self { transport, sentinels, master, server })
    }

    /// In the order in which they are to be asked.
    pub(super) fn all(&self) -> &[ConnectionInfo] {
        &self.sentinels
    }

    /// Which server takes writes, as one of them knows. The error is for operators and holds no secret.
    pub(super) async fn ask(
        &self,
        sentinel: &ConnectionInfo,
        config: &AsyncConnectionConfig,
    ) -> Result<ConnectionInfo, String> {
        let mut connection = connect(sentinel.clone(), config).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        let address: Option<(String, u16)> =
            command.query_async(&mut connection).await.map_err(|e| describe(&e))?;
        let (host, port) =
            address.ok_or_else(|| format!("it knows no master with the name {:?}", self.master))?;
        Ok(self.server.clone().set_addr(self.transport.address(host, port)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(of: &Sentinels) -> Vec<String> {
        of.sentinels.iter().map(|s| s.addr().to_string()).collect()
    }

    #[test]
    fn a_url_names_sentinels_servers_and_both_passwords() {
        let all =
            "me:p%40ss@a:1,b,[::1],[::1]:7/main?db=3&sentinel_password=s%2Fe&sentinel_username=u";
        let parsed = Sentinels::parse(Transport::Plain, all).unwrap();
        assert_eq!(addresses(&parsed), ["a:1", "b:26379", "::1:26379", "::1:7"]);
        let (server, sentinel) =
            (parsed.server.redis_settings(), parsed.sentinels[1].redis_settings());
        assert_eq!(
            (server.username(), server.password(), server.db()),
            (Some("me"), Some("p@ss"), 3)
        );
        assert_eq!((sentinel.username(), sentinel.password()), (Some("u"), Some("s/e")));
        let plain = Sentinels::parse(Transport::Plain, "a:1/main").unwrap();
        for settings in [plain.server.redis_settings(), plain.sentinels[0].redis_settings()] {
            assert_eq!((settings.username(), settings.password(), settings.db()), (None, None, 0));
        }
    }

    #[test]
    fn what_is_missing_or_unknown_makes_a_url_unusable() {
        for bad in ["a:1", "a:1/", "/main", "a:port/main", "a:1/main?db=x", "a:1/main?tls=yes"] {
            assert!(Sentinels::parse(Transport::Plain, bad).is_none(), "{bad}");
        }
    }
}
