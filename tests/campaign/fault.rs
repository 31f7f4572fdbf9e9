//! The faults: what each does to the stage, and how it is healed.

use super::stage::{Stage, StoreKind};
use crate::common::RedisServer;
use rand::RngExt;
use rand::rngs::StdRng;
use std::time::Duration;

macro_rules! faults {
    ($( $(#[doc = $doc:literal])* $fault:ident = $name:literal, $of:ident; )*) => {
        /// A fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Fault { $( $(#[doc = $doc])* $fault, )* }

        impl Fault {
            pub const ALL: &'static [Self] = &[$( Self::$fault, )*];

            pub const fn name(self) -> &'static str {
                match self { $( Self::$fault => $name, )* }
            }

            pub const fn of(self) -> Of {
                match self { $( Self::$fault => Of::$of, )* }
            }
        }
    };
}

/// What has the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    Redis,
    Network,
    Cluster,
    Hub,
}

impl Of {
    /// Whether a campaign with this store has it.
    pub fn is_there_with(self, store: StoreKind) -> bool {
        match self {
            Self::Redis | Self::Network => store == StoreKind::Redis,
            Self::Cluster => store == StoreKind::Cluster,
            Self::Hub => true,
        }
    }
}

faults! {
    /// kill -9, and a new start on the same files.
    RedisKilled = "redis killed", Redis;
    /// SIGSTOP, then SIGCONT.
    RedisFrozen = "redis frozen", Redis;
    /// Writes are refused with OOM.
    OutOfMemory = "redis out of memory", Redis;
    /// Writes are refused with READONLY.
    ReadOnly = "redis a replica", Redis;
    /// Writes are refused with NOREPLICAS.
    NoReplicas = "redis without replicas", Redis;
    /// The scripts are forgotten.
    ScriptsFlushed = "scripts flushed", Redis;
    /// Redis closes all connections.
    ClientsKilled = "clients killed", Redis;
    Latency = "latency", Network;
    Throttle = "throttled", Network;
    Reset = "connections reset", Network;
    BlackHoleExisting = "black hole for the existing", Network;
    BlackHoleAll = "black hole for all", Network;
    RepliesDropped = "replies dropped", Network;
    Refused = "connections refused", Network;
    Held = "requests held and released", Network;
    RequestsCut = "requests cut", Network;
    RepliesCut = "replies cut", Network;
    /// One of the servers gets kill -9, and a new start on the same files.
    ServerKilled = "a server killed", Cluster;
    /// One of the servers gets SIGSTOP, then SIGCONT.
    ServerFrozen = "a server frozen", Cluster;
    /// A slot that holds something moves to the next server.
    SlotMoves = "a slot moves", Cluster;
    /// The same, as fast as it goes.
    SlotMoved = "a slot moved", Cluster;
    /// One of the servers closes all connections of clients.
    ServersClientsKilled = "a server's clients killed", Cluster;
    /// kill -9, and a new start at the same port.
    HubKilled = "hub killed", Hub;
    /// SIGTERM, the end awaited, and a new start.
    HubTerminated = "hub terminated", Hub;
    /// SIGSTOP, then SIGCONT.
    HubStopped = "hub stopped", Hub;
}

impl Fault {
    /// Makes it so; says what the hub did wrong at that.
    pub fn begin(self, stage: &mut Stage, random: &mut StdRng) -> Result<(), String> {
        match self {
            Self::RedisKilled => stage.setup.redis.as_mut().expect("Redis").kill(),
            Self::RedisFrozen => stage.setup.redis_server().freeze(),
            Self::OutOfMemory => redis(stage, "CONFIG SET maxmemory 1"),
            Self::ReadOnly => redis(stage, "REPLICAOF 127.0.0.1 1"),
            Self::NoReplicas => redis(stage, "CONFIG SET min-replicas-to-write 1"),
            Self::ScriptsFlushed => redis(stage, "SCRIPT FLUSH"),
            Self::ClientsKilled => {
                let _: u64 =
                    stage.setup.redis_server().command(&["CLIENT", "KILL", "TYPE", "normal"]);
            }
            Self::Latency => {
                stage.proxy().delay(Duration::from_millis(random.random_range(20..400)));
            }
            Self::Throttle => stage.proxy().throttle(Some(random.random_range(2_000..40_000))),
            Self::Reset => stage.proxy().reset_existing(),
            Self::BlackHoleExisting => stage.proxy().black_hole_existing(),
            Self::BlackHoleAll => stage.proxy().black_hole_all(true),
            Self::RepliesDropped => stage.proxy().drop_replies(true),
            Self::Refused => {
                stage.proxy().refuse(true);
                stage.proxy().reset_existing();
            }
            Self::Held => stage.proxy().hold(true),
            Self::RequestsCut => {
                stage.proxy().cut_requests_after(Some(random.random_range(1..20_000)));
            }
            Self::RepliesCut => {
                stage.proxy().cut_replies_after(Some(random.random_range(1..5_000)));
            }
            Self::ServerKilled => one_of_the_servers(stage, random).kill(),
            Self::ServerFrozen => one_of_the_servers(stage, random).freeze(),
            Self::SlotMoves | Self::SlotMoved => {
                one_of_the_servers(stage, random);
                let (chosen, cluster) = (stage.chosen, stage.cluster());
                let key = cluster.servers[chosen].try_command(&["RANDOMKEY"]);
                if let Ok(redis::Value::BulkString(key)) = key {
                    let key = String::from_utf8(key).expect("keys are UTF-8");
                    stage.moving = Some(cluster.begin_to_move(&key, (chosen + 1) % 3));
                }
                if self == Self::SlotMoved {
                    end_move(stage);
                }
            }
            Self::ServersClientsKilled => {
                let server = one_of_the_servers(stage, random);
                let _: u64 = server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
            }
            Self::HubKilled => stage.kill_hub(),
            Self::HubTerminated => return stage.terminate_hub(),
            Self::HubStopped => stage.hub().signal("-STOP"),
        }
        Ok(())
    }

    /// Heals it.
    pub fn end(self, stage: &mut Stage) {
        match self {
            Self::RedisKilled => stage.setup.redis.as_mut().expect("Redis").start_again(),
            Self::RedisFrozen => stage.setup.redis_server().thaw(),
            Self::OutOfMemory => redis(stage, "CONFIG SET maxmemory 0"),
            Self::ReadOnly => redis(stage, "REPLICAOF NO ONE"),
            Self::NoReplicas => redis(stage, "CONFIG SET min-replicas-to-write 0"),
            // These are over as soon as they are there.
            Self::ScriptsFlushed
            | Self::ClientsKilled
            | Self::Reset
            | Self::BlackHoleExisting
            | Self::SlotMoved
            | Self::ServersClientsKilled => {}
            Self::ServerKilled => chosen(stage).start_again(),
            Self::ServerFrozen => chosen(stage).thaw(),
            Self::SlotMoves => end_move(stage),
            Self::Latency => stage.proxy().delay(Duration::ZERO),
            Self::Throttle => stage.proxy().throttle(None),
            Self::BlackHoleAll => stage.proxy().black_hole_all(false),
            Self::RepliesDropped => stage.proxy().drop_replies(false),
            Self::Refused => stage.proxy().refuse(false),
            Self::Held => stage.proxy().hold(false),
            Self::RequestsCut => stage.proxy().cut_requests_after(None),
            Self::RepliesCut => stage.proxy().cut_replies_after(None),
            Self::HubKilled | Self::HubTerminated => stage.start_hub(),
            Self::HubStopped => stage.hub().signal("-CONT"),
        }
    }
}

/// Chooses a server of the cluster.
fn one_of_the_servers<'a>(stage: &'a mut Stage, random: &mut StdRng) -> &'a mut RedisServer {
    stage.chosen = random.random_range(0..stage.cluster().servers.len());
    chosen(stage)
}

/// The one that was chosen.
fn chosen(stage: &mut Stage) -> &mut RedisServer {
    let chosen = stage.chosen;
    &mut stage.cluster().servers[chosen]
}

fn end_move(stage: &mut Stage) {
    if let Some(moving) = stage.moving.take() {
        stage.cluster().end_move(&moving);
    }
}

/// Sends Redis a command, past the proxy.
fn redis(stage: &Stage, command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    let () = stage.setup.redis_server().command(&words);
}
