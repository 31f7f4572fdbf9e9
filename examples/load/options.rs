//! The command line.

use crate::scenario::{ALL, Scenario};
use crate::target::Kind;
use clap::{Parser, ValueEnum};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

/// Load for a hub, or for what others use in its place, and a count of all that arrives.
#[derive(Parser)]
#[command(
    name = "load",
    after_help = "`load copier --bind ADDRESS` serves as the target `copier`."
)]
pub struct Options {
    /// a b bb c cb d e e+ f g w s, or all; see docs/performance.md
    #[arg(required = true, value_name = "SCENARIO", value_parser = scenario)]
    scenarios: Vec<Word>,
    /// What is measured.
    #[arg(long, value_enum, default_value_t = Kind::Hub)]
    pub target: Kind,
    /// What a hub started here stores in.
    #[arg(long, value_enum, default_value_t = Store::Redis)]
    pub store: Store,
    /// How events are published to a hub: over HTTP, or past it into its Redis.
    #[arg(long, value_enum, default_value_t = Publish::Http)]
    pub publish: Publish,
    /// The hub's executable; else `runhub` of the same build as this one.
    #[arg(long, value_name = "PATH")]
    pub hub: Option<PathBuf>,
    /// A target that runs already, instead of one started afresh for each measurement.
    #[arg(long, value_name = "URL", value_parser = address)]
    pub base: Option<SocketAddr>,
    /// With --base: the Redis behind it.
    #[arg(long, value_name = "URL", value_parser = address, requires = "base")]
    pub redis: Option<SocketAddr>,
    /// With --base: its processes, whose CPU and memory are counted; a redis-server among them is told apart.
    #[arg(long, value_delimiter = ',', requires = "base")]
    pub pids: Vec<u32>,
    /// How long is published, in scenarios that go by time.
    #[arg(long)]
    pub secs: Option<f64>,
    /// How often each scenario is measured; what is printed are medians.
    #[arg(long, default_value_t = 1)]
    pub repeats: usize,
    /// Another number of subscribers than the scenario's; in c, cb and g, of runs too.
    #[arg(long)]
    pub subscribers: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Store {
    Redis,
    Embedded,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Publish {
    Http,
    Xadd,
}

#[derive(Clone, Copy)]
enum Word {
    All,
    One(Scenario),
}

fn scenario(word: &str) -> Result<Word, String> {
    if word == "all" {
        return Ok(Word::All);
    }
    let known = ALL.into_iter().find(|scenario| scenario.name() == word);
    known.map(Word::One).ok_or_else(|| "a b bb c cb d e e+ f g w s, or all".to_owned())
}

fn address(url: &str) -> Result<SocketAddr, String> {
    let place = url.rsplit("//").next().unwrap_or(url).split('/').next().unwrap_or_default();
    let mut found = place.to_socket_addrs().map_err(|e| format!("{place}: {e}"))?;
    found.next().ok_or_else(|| format!("{place} is no HOST:PORT"))
}

impl Options {
    pub fn chosen(&self) -> Vec<Scenario> {
        let words = self.scenarios.iter();
        words
            .flat_map(|word| match word {
                Word::All => ALL.to_vec(),
                Word::One(scenario) => vec![*scenario],
            })
            .collect()
    }
}
