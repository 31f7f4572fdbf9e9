//! A Redis Cluster of the test's own.

use super::redis_server::{RedisServer, free_port};
use super::tls::{Authority, arguments};
use super::wait::until;
use redis::Value;

/// So many slots share all keys.
const SLOTS: usize = 16384;

pub struct RedisCluster {
    pub servers: Vec<RedisServer>,
    /// Where they listen for clients with TLS, if they do.
    tls_ports: Vec<u16>,
}

impl RedisCluster {
    /// So many servers that share all slots, ready to serve.
    pub fn start(masters: usize) -> Self {
        let servers = (0..masters).map(|_| server(&[])).collect();
        Self::of(servers, Vec::new())
    }

    /// The same over TLS.
    pub fn start_with_tls(masters: usize, authority: &Authority) -> Self {
        let ports: Vec<u16> = (0..masters).map(|_| free_port()).collect();
        let servers = ports.iter().map(|port| {
            let mut options = authority.options(*port);
            options.push(("tls-cluster", "yes".to_owned()));
            server(&arguments(&options))
        });
        Self::of(servers.collect(), ports)
    }

    fn of(servers: Vec<RedisServer>, tls_ports: Vec<u16>) -> Self {
        let masters = servers.len();
        for (number, server) in servers.iter().enumerate() {
            let (first, next) = (number * SLOTS / masters, (number + 1) * SLOTS / masters);
            let () = server.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            let (first, last) = (first.to_string(), (next - 1).to_string());
            let () = server.command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
        }
        let cluster = Self { servers, tls_ports };
        cluster.servers[1..].iter().for_each(|server| meet(&cluster.servers[0], server));
        cluster.wait_until_all_is_well();
        cluster
    }

    /// Gives each server that takes writes a replica, which takes over when it is gone.
    pub fn with_replicas(mut self) -> Self {
        for number in 0..self.servers.len() {
            let (replica, id) =
                (server(&[]), self.servers[number].command::<String>(&["CLUSTER", "MYID"]));
            meet(&self.servers[0], &replica);
            until("the replica knows its master", || {
                replica.try_command(&["CLUSTER", "REPLICATE", &id]).ok()
            });
            self.servers.push(replica);
        }
        self.wait_until_all_is_well();
        for replica in &self.servers[self.servers.len() / 2..] {
            replica.until_it_follows();
        }
        self
    }

    fn wait_until_all_is_well(&self) {
        let nodes = format!("cluster_known_nodes:{}\r", self.servers.len());
        for server in &self.servers {
            until("the servers of the cluster know each other, and serve", || {
                let info: String = server.command(&["CLUSTER", "INFO"]);
                (info.contains("cluster_state:ok") && info.contains(&nodes)).then_some(())
            });
        }
    }

    /// The hub's URL for this.
    pub fn url(&self) -> String {
        let urls = |scheme: &str, ports: Vec<u16>| {
            let hosts: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
            format!("{scheme}://{}", hosts.join(","))
        };
        match &self.tls_ports[..] {
            [] => urls("redis-cluster", self.servers.iter().map(|server| server.port).collect()),
            ports => urls("rediss-cluster", ports.to_vec()),
        }
    }

    /// The number of the server that takes writes to a key, as the server of this number knows.
    pub fn holder_seen_by(&self, asked: usize, key: &str) -> Option<usize> {
        let slot: u16 = self.servers[asked]
            .try_command(&["CLUSTER", "KEYSLOT", key])
            .ok()
            .map(|slot| redis::from_redis_value(slot).unwrap())?;
        let Value::BulkString(nodes) =
            self.servers[asked].try_command(&["CLUSTER", "NODES"]).ok()?
        else {
            return None;
        };
        let nodes = String::from_utf8(nodes).unwrap();
        // A line a server: id, host:port@bus, flags, six more, and its slots.
        let holder =
            nodes.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|words| {
                let has = |range: &str| {
                    let (first, last) = range.split_once('-').unwrap_or((range, range));
                    let (first, last): (u16, u16) = (first.parse().unwrap(), last.parse().unwrap());
                    (first..=last).contains(&slot)
                };
                words[8..].iter().copied().filter(|range| !range.starts_with('[')).any(has)
            })?;
        let port: u16 = holder[1].split([':', '@']).nth(1)?.parse().ok()?;
        self.servers.iter().position(|server| server.port == port)
    }

    /// The number of the server that takes writes to a key.
    pub fn holder(&self, key: &str) -> usize {
        self.holder_seen_by(0, key).expect("the cluster is whole")
    }

    /// Begins to move the slot of a key, and moves all keys in it, to the server of this number.
    pub fn begin_to_move(&self, key: &str, to: usize) -> Move {
        // One that has just come back takes no keys yet.
        self.wait_until_all_is_well();
        let from = self.holder(key);
        let id = |number: usize| self.servers[number].command::<String>(&["CLUSTER", "MYID"]);
        let slot = self.servers[from].command::<u16>(&["CLUSTER", "KEYSLOT", key]).to_string();
        let () = self.servers[to].command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
        let () = self.servers[from].command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
        let moving = Move { slot, from, to };
        self.move_keys(&moving);
        moving
    }

    fn move_keys(&self, moving: &Move) {
        let (from, to) = (&self.servers[moving.from], &self.servers[moving.to]);
        let keys: Vec<String> = from.command(&["CLUSTER", "GETKEYSINSLOT", &moving.slot, "1000"]);
        if keys.is_empty() {
            return;
        }
        let port = to.port.to_string();
        let migrate = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let () = from.command(&[&migrate[..], &keys].concat());
    }

    /// Ends the move: everybody is told that the slot is there now.
    pub fn end_move(&self, moving: &Move) {
        let to = &self.servers[moving.to];
        let id: String = to.command(&["CLUSTER", "MYID"]);
        let others = self.servers.iter().filter(|server| server.port != to.port);
        for server in [to].into_iter().chain(others) {
            let () = server.command(&["CLUSTER", "SETSLOT", &moving.slot, "NODE", &id]);
        }
    }
}

/// A slot that is moving, from one server to another.
pub struct Move {
    slot: String,
    from: usize,
    to: usize,
}

/// One that writes every change to disk before it answers: what is synced each second it may write late when the disk
/// is slow, and be killed before.
fn server(more: &[String]) -> RedisServer {
    let durable = ["--appendonly", "yes", "--appendfsync", "always"];
    let bus = free_port().to_string();
    let cluster =
        ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", &bus];
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    RedisServer::with(&[&durable[..], &cluster[..], &more[..]].concat())
}

fn meet(one: &RedisServer, other: &RedisServer) {
    let (port, bus): (u16, Vec<String>) =
        (other.port, other.command(&["CONFIG", "GET", "cluster-port"]));
    let () = one.command(&["CLUSTER", "MEET", "127.0.0.1", &port.to_string(), &bus[1]]);
}
