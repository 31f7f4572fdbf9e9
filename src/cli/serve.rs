//! `runhub serve`: runs the hub until it is told to stop.

use super::{Failure, files, say, scheduling};
use crate::config::{self, Config};
use crate::embed::{self, StartError};
use crate::hub::Hub;
use crate::store::LogStore;
use crate::telemetry::log::one_line;
use crate::telemetry::{log as logging, metrics};
use crate::web::{self, App, Server};
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Args, Clone)]
pub(super) struct ServeArgs {
    /// Address and port to listen on.
    #[arg(long, value_name = "ADDRESS:PORT")]
    bind: Option<String>,
    /// Redis to store in, such as redis://127.0.0.1:6379; without it the embedded store is used.
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    /// Folder of the embedded store and the spool.
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// Configuration file; config/runhub.toml is read where it is there and no other is named.
    #[arg(long, env = "RUNHUB_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

/// How long readers have to take the last frames of their streams.
const LAST_FRAMES: Duration = Duration::from_secs(2);
/// A stop takes no longer than this, whatever is configured.
const LONGEST_STOP: Duration = Duration::from_millis(9500);

pub(super) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let mut config = load(args)?;
    logging::init(&config.log.level.0);
    let metrics = metrics::install()
        .map_err(|e| Failure::Failed(format!("cannot start the metrics: {e}")))?;
    files::bound_clients(&mut config)?;
    if config.server.batch_scheduling {
        scheduling::wait_for_turns();
    }
    let cannot_listen =
        |e| Failure::Failed(format!("cannot listen on {}: {e}", config.server.bind));
    // Taken first, so that a second hub by mistake says what is wrong before it touches any file.
    let bound = web::bind(config.server.bind).map_err(cannot_listen)?;
    let (store, spool) = embed::open(&config).map_err(|e| match e {
        StartError::Redis(e) => Failure::Usage(e.to_string()),
        other => Failure::Failed(other.to_string()),
    })?;
    let (address, listener) = bound.listen().map_err(cannot_listen)?;
    let system = actix::System::new();
    system.block_on(async move {
        let failed = |e: std::io::Error| Failure::Failed(format!("cannot wait for signals: {e}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        // Whoever waits for this line may send a signal at once.
        announce(address, &config, &*store);
        let hub = Hub::start(config.clone(), store, spool);
        let app = App::new(hub.clone(), Some(metrics.clone()));
        let (server, running) = Server::start(listener, app, &config)
            .map_err(|e| Failure::Failed(format!("cannot serve on {address}: {e}")))?;
        let running = actix::spawn(running);
        actix::spawn(async move {
            let mut tick = tokio::time::interval(Duration::from_secs(5));
            loop {
                tick.tick().await;
                metrics.run_upkeep();
            }
        });
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        log::info!("stopping");
        let limit = config.server.shutdown_timeout.min(LONGEST_STOP);
        let stop = async {
            // Half for what waits to be stored; the rest for the answers under way.
            hub.close(limit / 2).await;
            // A reader that takes nothing is not waited for.
            drop(tokio::time::timeout(LAST_FRAMES, hub.streams_ended()).await);
            server.stop().await;
            drop(running.await);
        };
        tokio::select! {
            () = stop => log::info!("stopped"),
            () = tokio::time::sleep(limit) => log::warn!("stopped with connections still open"),
            _ = interrupt.recv() => log::warn!("stopped at once"),
        }
        Ok(())
    })
}

/// The configuration that a hub started with these flags would have.
pub(super) fn load(args: &ServeArgs) -> Result<Config, Failure> {
    let flags = [
        ("bind", "server", "bind", args.bind.as_deref()),
        ("redis-url", "redis", "url", args.redis_url.as_deref()),
        ("data-dir", "server", "data_dir", args.data_dir.as_deref()),
    ];
    let flags: Vec<_> = flags.into_iter().filter_map(|(f, s, k, v)| Some((f, s, k, v?))).collect();
    // Names and values that are not Unicode are none of ours.
    let variables = std::env::vars_os()
        .filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)));
    config::load(args.config.as_deref(), variables, &flags)
        .map_err(|e| Failure::Usage(e.to_string()))
}

fn announce(address: SocketAddr, config: &Config, store: &dyn LogStore) {
    let base = format!("http://{address}");
    let store = match &config.redis.url {
        Some(url) => format!("Redis at {url}"),
        None => {
            format!("embedded in {} (set REDIS_URL to use Redis)", one_line(&store.status().place))
        }
    };
    let folder = config.server.data_dir.display().to_string();
    say(&format!("runhub {} listening on {base}", env!("CARGO_PKG_VERSION")));
    say(&format!("store: {store}"));
    say(&format!("data folder: {}", one_line(&folder)));
    say(&format!("follow a run:     curl -N {base}/runs/demo/events/stream"));
    say(&format!(
        "publish an event: curl -d '{{\"type\":\"llm.stream\",\"data\":{{\"content\":\"hi\"}}}}' {base}/runs/demo/events"
    ));
}
