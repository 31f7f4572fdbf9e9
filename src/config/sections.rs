//! The sections themselves: what can be set, what it means, what it is by default.

use super::section::Section;
use super::setting::{ByteCount, KeyStyle, LogFilter, Origins, RedisUrl, Sync, TerminalTypes};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

section! {
    /// Where the hub listens and keeps its files.
    ServerConfig {
        /// Address and port to listen on. Short forms: `--bind`, `RUNHUB_BIND`.
        bind: SocketAddr = SocketAddr::from((Ipv4Addr::LOCALHOST, 8082)),
        /// Folder for the embedded store and the spool. Short forms: `--data-dir`, `RUNHUB_DATA_DIR`.
        data_dir: PathBuf = PathBuf::from("./data"),
        /// Threads that speak HTTP; 0 for one a processor.
        workers: u64 = 0,
        /// Whether threads that wake wait until whoever computes on their processor pauses (Linux,
        /// SCHED_BATCH). That takes less time for the same work; beside programs that keep all processors
        /// busy, the slowest events come faster without it.
        batch_scheduling: bool = true,
        /// The most connections at once, streams included; what comes beyond is closed. Where the system lets fewer
        /// files be open, there are fewer, and fewer streams.
        max_connections: u64 = 100_000,
        /// Memory for large answers to questions for history that come again; 0 for none.
        history_cache: ByteCount = ByteCount(32 << 20),
        /// Origins whose pages may use the hub from a browser, such as `["https://app.example"]`.
        cors_origins: Origins = Origins::default(),
        /// How long a stop may take before what is left is cut off.
        shutdown_timeout: Duration = Duration::from_secs(8),
    }
}

section! {
    /// The Redis store, used when a URL is set.
    RedisConfig {
        /// Redis 7.0 or newer, or Valkey: redis://, unix://, redis-sentinel:// or redis-cluster://; with TLS rediss://,
        /// rediss-sentinel:// or rediss-cluster://.
        /// Short forms: `--redis-url`, `REDIS_URL`.
        url: Option<RedisUrl> = None,
        /// How long dialling Redis may take.
        connect_timeout: Duration = Duration::from_secs(1),
        /// How long Redis may take to answer a command before the connection is replaced; a second more for each MiB
        /// that it is sent. After an answer that came too late less is asked for at a time, down to one event.
        command_timeout: Duration = Duration::from_millis(1500),
        /// The most connections that wait for new events. One for each thread of the hub reads for all followed runs; the
        /// others wait at the streams that other programs, or other hubs, keep writing to, one at each, while no more than
        /// half of the clients are there that Redis takes.
        max_readers: u64 = 128,
        /// How a run's keys are written: "plain" for run:7:events, "tagged" for run:{7}:events. In a Redis Cluster always
        /// the latter.
        key_style: KeyStyle = KeyStyle::Plain,
        /// Serve the streams job_events:7 and job:7 of other programs as run 7, where run:7:events is
        /// not there.
        job_streams: bool = false,
        /// Look for streams that only other programs have written to, and list their runs.
        discover: bool = false,
    }
}

section! {
    /// The embedded store, used when no Redis URL is set.
    EmbeddedConfig {
        /// "always": an acknowledged event is on the disk. "everysec": within a second.
        sync: Sync = Sync::Always,
        /// Memory for blocks read from the disk.
        cache: ByteCount = ByteCount(32 << 20),
    }
}

section! {
    /// Taking events in.
    PublishConfig {
        /// How long a publish waits for the store before it goes to the spool.
        timeout: Duration = Duration::from_secs(1),
        /// The largest `data` of an event.
        max_data: ByteCount = ByteCount(1 << 20),
        /// The largest body of a publish.
        max_body: ByteCount = ByteCount(16 << 20),
        /// Memory for all bodies together that are being read, beside 16 KiB for each; at least that of one body.
        /// Publishes for which there is no room get 429.
        bodies: ByteCount = ByteCount(256 << 20),
        /// The most events in one publish.
        max_batch: u64 = 1000,
        /// How long a body may keep the hub waiting for its next bytes.
        body_timeout: Duration = Duration::from_secs(10),
        /// The same for a body that is taken line by line (`mode=stream`), where a pause is usual.
        stream_timeout: Duration = Duration::from_secs(30),
        /// How long a publisher's `event_id` stands for one event.
        dedup_window: Duration = Duration::from_secs(600),
        /// The most bytes of events that may wait in memory for the store, and as many for the spool.
        queue: ByteCount = ByteCount(64 << 20),
    }
}

section! {
    /// What events say.
    EventsConfig {
        /// Whether an event of a known type (docs/events.md) is refused if its data is not as the type says.
        strict: bool = false,
    }
}

section! {
    /// Where events wait on disk, in `spool` in the data folder, while the store does not take them.
    SpoolConfig {
        /// The most bytes on the disk; with more, publishes are refused.
        max_bytes: ByteCount = ByteCount(1 << 30),
    }
}

section! {
    /// Following runs live.
    SubscribeConfig {
        /// Silence after which an open stream gets a heartbeat.
        heartbeat: Duration = Duration::from_secs(15),
        /// What clients are told to wait before they reconnect.
        retry: Duration = Duration::from_secs(3),
        /// How long a client may take nothing before its stream is cut.
        stall_timeout: Duration = Duration::from_secs(60),
        /// Encoded events that may wait for one client in memory; beyond it the client is served from
        /// the store until it has caught up.
        outbox: ByteCount = ByteCount(256 << 10),
        /// The most streams open at once.
        max_subscribers: u64 = 50_000,
        /// How long a run's reader outlives its last subscriber.
        idle_grace: Duration = Duration::from_secs(10),
    }
}

section! {
    /// What is kept, and for how long.
    RetentionConfig {
        /// Events kept of each run, at least; a tenth more may be, or a node of the Redis stream.
        max_events: u64 = 10_000,
        /// How long a run is kept after its terminal event.
        after_end: Duration = Duration::from_secs(24 * 3600),
        /// How long an expired run answers 410 before it is forgotten.
        tombstone: Duration = Duration::from_secs(7 * 24 * 3600),
        /// The event types that end a run.
        terminal: TerminalTypes = TerminalTypes::default(),
    }
}

section! {
    /// What is logged, on standard error.
    LogConfig {
        /// What is shown: least severe level in general, then by module. (`actix_http` has nothing to say
        /// but what clients send it.)
        level: LogFilter = LogFilter("warn,runhub=info,actix_http=off".to_owned()),
    }
}

macro_rules! config {
    ($( $(#[doc = $doc:literal])* $name:ident : $section:ty, )*) => {
        /// The whole configuration.
        #[derive(Debug, Clone, Default)]
        pub struct Config {
            $( $(#[doc = $doc])* pub $name: $section, )*
        }

        impl Config {
            /// The section of this name.
            pub(super) fn section_mut(&mut self, name: &str) -> Option<&mut dyn SectionMut> {
                match name {
                    $( stringify!($name) => Some(&mut self.$name), )*
                    _ => None,
                }
            }

            /// Calls `visit` with each section's name, documentation and keys.
            pub(super) fn visit(mut visit: impl FnMut(&str, &[&str], Vec<super::section::KeyDoc>)) {
                $( visit(stringify!($name), <$section>::section_doc(), <$section>::keys()); )*
            }
        }
    };
}

/// The part of [`Section`] that works on a section of any type.
pub(super) trait SectionMut {
    /// See [`Section::set`].
    fn set_key(&mut self, key: &str, value: &toml::Value) -> Option<Result<(), String>>;
}

impl<S: Section> SectionMut for S {
    fn set_key(&mut self, key: &str, value: &toml::Value) -> Option<Result<(), String>> {
        self.set(key, value)
    }
}

config! {
    /// `[server]`.
    server: ServerConfig,
    /// `[redis]`.
    redis: RedisConfig,
    /// `[embedded]`.
    embedded: EmbeddedConfig,
    /// `[publish]`.
    publish: PublishConfig,
    /// `[events]`.
    events: EventsConfig,
    /// `[spool]`.
    spool: SpoolConfig,
    /// `[subscribe]`.
    subscribe: SubscribeConfig,
    /// `[retention]`.
    retention: RetentionConfig,
    /// `[log]`.
    log: LogConfig,
}
