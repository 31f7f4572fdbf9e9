//! The stage of a campaign: the hub, its store, and the proxy between them.

use crate::common::proxy::Proxy;
use crate::common::redis_cluster::{Move, RedisCluster};
use crate::common::redis_server::free_port;
use crate::common::{Hub, RedisServer, Setup};
use std::time::Duration;

/// What the hub stores in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    Redis,
    /// Three servers, none of which has a replica.
    Cluster,
    Embedded,
}

impl StoreKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Cluster => "cluster",
            Self::Embedded => "embedded",
        }
    }
}

pub struct Stage {
    pub setup: Setup,
    /// Between the hub and Redis.
    proxy: Option<Proxy>,
    pub cluster: Option<RedisCluster>,
    /// The slot that is moving, and the number of the server that something was done to.
    pub moving: Option<Move>,
    pub chosen: usize,
    /// None while it is dead.
    hub: Option<Hub>,
    port: u16,
    /// Another hub on the same store, which is left alone.
    other: Option<(Setup, Hub)>,
    /// What hubs that are dead have logged.
    logs: String,
}

/// Contract: a hub ends within 10 s. A busy machine gets a little more.
const LONGEST_STOP: Duration = Duration::from_secs(12);

impl Stage {
    pub fn start(store: StoreKind) -> Self {
        let cluster = (store == StoreKind::Cluster).then(|| RedisCluster::start(3));
        let (setup, proxy) = match store {
            StoreKind::Embedded => (Setup::embedded(), None),
            StoreKind::Cluster => {
                let url = cluster.as_ref().expect("it was started").url();
                (Setup::embedded().set("REDIS__URL", &url), None)
            }
            StoreKind::Redis => {
                let setup = Setup::redis();
                let proxy = Proxy::to(setup.redis_server().port);
                let url = format!("redis://127.0.0.1:{}/0", proxy.port);
                (setup.set("REDIS__URL", &url), Some(proxy))
            }
        };
        let setup = trimming_nothing(setup);
        let port = free_port();
        let hub = Some(setup.hub_at(port));
        let url = match store {
            StoreKind::Embedded => None,
            StoreKind::Cluster => cluster.as_ref().map(RedisCluster::url),
            // Past the proxy.
            StoreKind::Redis => setup.redis.as_ref().map(RedisServer::url),
        };
        let other = url.map(|url| Setup::embedded().set("REDIS__URL", &url));
        let other = other.map(|setup| {
            let setup = trimming_nothing(setup);
            let hub = setup.hub();
            (setup, hub)
        });
        let (moving, chosen, logs) = (None, 0, String::new());
        Self { setup, proxy, cluster, moving, chosen, hub, port, other, logs }
    }

    /// Of the hub, and of the other one.
    pub fn ports(&self) -> (u16, Option<u16>) {
        (self.port, self.other.as_ref().map(|(_, hub)| hub.port))
    }

    pub fn hub(&self) -> &Hub {
        self.hub.as_ref().expect("the hub is there")
    }

    /// The proxy of a stage with Redis.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("faults of the network are for Redis")
    }

    /// The servers of a stage with a cluster.
    pub fn cluster(&mut self) -> &mut RedisCluster {
        self.cluster.as_mut().expect("faults of a cluster are for one")
    }

    pub fn kill_hub(&mut self) {
        if let Some(mut hub) = self.hub.take() {
            hub.kill();
            self.keep_log(&hub);
        }
    }

    /// SIGTERM; says what was wrong with how the hub ended.
    pub fn terminate_hub(&mut self) -> Result<(), String> {
        let Some(mut hub) = self.hub.take() else { return Ok(()) };
        hub.signal("-TERM");
        let ended = hub.wait_within(LONGEST_STOP);
        self.keep_log(&hub);
        match ended {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("the hub ended with {status} at SIGTERM")),
            None => Err(format!("the hub did not end within {LONGEST_STOP:?} of SIGTERM")),
        }
    }

    pub fn start_hub(&mut self) {
        self.hub = Some(self.setup.hub_at(self.port));
    }

    fn keep_log(&mut self, hub: &Hub) {
        self.logs += &hub.log();
        self.logs += "--- that hub is dead ---\n";
    }

    /// What all hubs have logged.
    pub fn logs(&self) -> String {
        let log = |hub: Option<&Hub>| hub.map_or(String::new(), Hub::log);
        let other = log(self.other.as_ref().map(|(_, hub)| hub));
        let hub = log(self.hub.as_ref());
        format!("{}{hub}--- the other hub ---\n{other}", self.logs)
    }
}

fn trimming_nothing(setup: Setup) -> Setup {
    setup.set("PUBLISH__TIMEOUT", "1s").set("RETENTION__MAX_EVENTS", "1000000")
}
