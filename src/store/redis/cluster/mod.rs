//! A Redis Cluster: each run lives whole on one server, which its id's slot names; the list of runs lives on the server
//! that has its key's slot.
//!
//! Each server is a [`Server`] as a single one would be. Here is decided which of them is asked ([`slots`],
//! [`layout`]), and that is found out anew every few seconds, and whenever a server says that it does not have a key
//! ([`survey`], [`routing`]). A run's tail goes where the run goes ([`tail`]). What cannot be one step across servers, a
//! run and its place on the list, is two ([`list`], [`marks`]).

mod layout;
mod list;
mod marks;
mod routing;
mod slots;
mod store;
mod survey;
mod tail;

use super::dial::Dialer;
use super::hosts::{self, Transport};
use super::keys::RUNS;
use super::server::Server;
use super::{Ground, InvalidUrl, SetupError, discovery};
use crate::config::{RedisConfig, RedisUrl};
use crate::store::{LogStore, StoreRules};
use layout::Layout;
use list::keep_telling;
use marks::Marks;
use parking_lot::Mutex;
use redis::ConnectionInfo;
use slots::Address;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::Duration;
use survey::Survey;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

/// How often it is found out who has which slots, without a reason.
const SURVEY_EVERY: Duration = Duration::from_secs(2);
/// The least time between two surveys.
const BETWEEN_SURVEYS: Duration = Duration::from_millis(50);

/// A cluster.
pub(super) struct Cluster {
    place: RedisUrl,
    transport: Transport,
    /// Where to ask before any server is known, and when none that is known answers.
    seeds: Vec<ConnectionInfo>,
    /// How to connect to any server, but for its address.
    like: ConnectionInfo,
    ground: Ground,
    layouts: watch::Sender<Arc<Layout>>,
    /// Whether a survey has ended yet, either way.
    surveyed: watch::Sender<bool>,
    /// Why nobody could be asked, if so.
    trouble: Mutex<Option<String>>,
    /// A survey is wanted.
    moved: Arc<Notify>,
    marks: Marks,
    /// Slots that take their time to move, and until when nobody waits for them.
    restless: Mutex<HashMap<u16, Instant>>,
    /// The list is to be told something.
    due: Arc<Notify>,
    /// Held while the list is told.
    telling: tokio::sync::Mutex<()>,
    sweep_at: AtomicUsize,
}

/// Opens the cluster that a `redis-cluster://` or `rediss-cluster://` URL names; `rest` is that without its scheme.
pub(super) fn open(
    url: &RedisUrl,
    transport: Transport,
    rest: &str,
    rules: StoreRules,
    config: &RedisConfig,
) -> Result<Arc<dyn LogStore>, SetupError> {
    let invalid = |reason: &str| InvalidUrl { url: url.clone(), reason: reason.to_owned() };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (credentials, list) = rest.rsplit_once('@').unwrap_or(("", rest));
    let seeds = hosts::parse(transport, credentials, list, 6379)
        .filter(|_| !list.contains(['/', '?', '#']));
    let seeds = seeds.unwrap_or_default();
    let Some(like) = seeds.first().cloned() else {
        return Err(invalid(
            "expected redis-cluster:// or rediss-cluster://[user:password@]host:port,host:port",
        )
        .into());
    };
    if config.job_streams {
        return Err(invalid(
            "the streams of jobs cannot be served from a cluster; set redis.job_streams = false",
        )
        .into());
    }
    let moved = Arc::new(Notify::new());
    let ground = Ground::new(rules, config, Some(Arc::clone(&moved)))?;
    Ok(Cluster::start(url.clone(), transport, seeds, like, ground, moved))
}

impl Cluster {
    /// A cluster that is looked for in the background. `moved` is what the readers of its servers tell when a stream has
    /// gone elsewhere.
    fn start(
        place: RedisUrl,
        transport: Transport,
        seeds: Vec<ConnectionInfo>,
        like: ConnectionInfo,
        ground: Ground,
        moved: Arc<Notify>,
    ) -> Arc<Self> {
        let cluster = Arc::new(Self {
            place,
            transport,
            seeds,
            like,
            layouts: watch::Sender::default(),
            surveyed: watch::Sender::new(false),
            trouble: Mutex::default(),
            moved: Arc::clone(&moved),
            marks: Marks::default(),
            restless: Mutex::default(),
            due: Arc::default(),
            telling: tokio::sync::Mutex::default(),
            sweep_at: AtomicUsize::new(0),
            ground,
        });
        let background = cluster.ground.background.handle();
        background.spawn(keep_surveying(Arc::downgrade(&cluster), moved));
        background.spawn(keep_telling(Arc::downgrade(&cluster), Arc::clone(&cluster.due)));
        if cluster.ground.config.discover {
            let weak = Arc::downgrade(&cluster);
            background.spawn(discovery::walk::<Self, _>(move || weak.upgrade()));
        }
        cluster
    }

    /// Finds out who has which slots.
    async fn survey(&self) {
        let layout = self.layout();
        let mut survey = Survey::default();
        let known = layout.servers.iter();
        survey.take(known.map(|((host, _), server)| survey::ask(host, server))).await;
        if survey.result().is_none() {
            let limit = self.ground.config.connect_timeout;
            let asked = self.seeds.iter().map(|seed| survey::ask_at(seed.clone(), limit));
            survey.take(asked).await;
        }
        match survey.result() {
            Some(slots) => {
                if *slots != layout.slots {
                    let new = layout.with(slots.clone(), |address| self.connect(address));
                    if slots.servers() != layout.slots.servers() {
                        log::info!(
                            "the Redis Cluster has {} servers that take writes",
                            new.servers.len()
                        );
                    }
                    let list =
                        |layout: &Layout| layout.server_of(RUNS).ok().map(|(at, _)| at.clone());
                    if list(&new) != list(&layout) {
                        // It may not know all that the other one was told.
                        self.marks.forget();
                    }
                    self.layouts.send_replace(Arc::new(new));
                }
                *self.trouble.lock() = None;
            }
            None => {
                let trouble = survey.troubles.join("; ");
                if self.trouble.lock().replace(trouble.clone()).is_none() {
                    log::warn!("cannot ask the Redis Cluster who has which keys: {trouble}");
                }
            }
        }
        self.surveyed.send_replace(true);
    }

    /// A server of the cluster, with the user's name and password that the URL has for all.
    fn connect(&self, (host, port): &Address) -> Server {
        let address = self.transport.address(host.clone(), *port);
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let place = RedisUrl::new(format!("{}://{host}:{port}", self.transport.scheme()));
        let dialer = Dialer::to(self.like.clone().set_addr(address), &self.ground.config);
        Server::start(place, dialer, self.ground.clone())
    }

    fn layout(&self) -> Arc<Layout> {
        Arc::clone(&self.layouts.borrow())
    }

    /// The same; at the start, when nothing is known yet, behind the first survey, which has time limits of its own.
    async fn layout_after_the_first_survey(&self) -> Arc<Layout> {
        if !*self.surveyed.borrow() {
            drop(self.surveyed.subscribe().wait_for(|surveyed| *surveyed).await);
        }
        self.layout()
    }
}

/// Surveys until the store is gone.
async fn keep_surveying(cluster: Weak<Cluster>, moved: Arc<Notify>) {
    while let Some(cluster) = cluster.upgrade() {
        cluster.survey().await;
        drop(cluster);
        tokio::time::sleep(BETWEEN_SURVEYS).await;
        drop(timeout(SURVEY_EVERY, moved.notified()).await);
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("place", &self.place).finish_non_exhaustive()
    }
}
