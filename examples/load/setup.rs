//! The processes of one measurement: a target afresh with all it needs, or one that runs already.

use crate::options::{Options, Publish, Store};
use crate::processes::Processes;
use crate::target::{Kind, Target};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

pub struct Setup {
    pub target: Target,
    pub processes: Processes,
    pub redis: Option<SocketAddr>,
    /// From the start of the process that is measured until it served.
    pub ready_after: Duration,
    /// Ended in this order.
    children: Vec<Child>,
    dir: TempDir,
}

impl Drop for Setup {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Setup {
    pub fn start(options: &Options) -> Result<Self, String> {
        let mut setup = Self {
            target: Target { kind: options.target, address: free_address(), xadd: None },
            processes: Processes::default(),
            redis: options.redis,
            ready_after: Duration::ZERO,
            children: Vec::new(),
            dir: tempfile::tempdir()
                .map_err(|e| format!("no folder for the target's files: {e}"))?,
        };
        if let Some(base) = options.base {
            setup.target.address = base;
            options.pids.iter().try_for_each(|pid| setup.processes.add(*pid))?;
        } else {
            setup.start_target(options)?;
        }
        setup.target.xadd = match options.target {
            Kind::Redis => Some(setup.target.address),
            Kind::Hub if options.publish == Publish::Xadd => setup.redis,
            _ => None,
        };
        Ok(setup)
    }

    fn start_target(&mut self, options: &Options) -> Result<(), String> {
        let address = self.target.address;
        match options.target {
            Kind::Hub => {
                if options.store == Store::Redis {
                    self.redis = Some(free_address());
                    self.start_redis(self.redis.unwrap_or(address))?;
                }
                self.start_hub(options)
            }
            Kind::Redis => self.start_redis(address),
            Kind::Copier => {
                let this = std::env::current_exe().map_err(|e| format!("this executable: {e}"))?;
                let mut command = Command::new(this);
                command.args(["copier", "--bind", &address.to_string()]);
                self.spawn(command, "copier", || TcpStream::connect(address).is_ok())
            }
            Kind::Nchan | Kind::Fastapi => Err(format!(
                "{} is not started here: start it and give --base and --pids, as benches/compare/run does",
                Target::name(options.target)
            )),
        }
    }

    fn start_redis(&mut self, address: SocketAddr) -> Result<(), String> {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
        command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]);
        command.args(["--maxclients", "19000", "--tcp-backlog", "4096", "--dir"]);
        command.arg(self.dir.path());
        self.spawn(command, "redis-server", || {
            let mut answer = [0; 5];
            TcpStream::connect(address).is_ok_and(|mut connection| {
                let asked = connection.write_all(b"PING\r\n");
                asked.and_then(|()| connection.read_exact(&mut answer)).is_ok()
                    && answer == *b"+PONG"
            })
        })
    }

    fn start_hub(&mut self, options: &Options) -> Result<(), String> {
        let mut command = Command::new(hub_executable(options)?);
        command.args(["serve", "--bind", &self.target.address.to_string()]);
        command.current_dir(self.dir.path()).env("RUNHUB_DATA_DIR", self.dir.path().join("data"));
        match self.redis {
            Some(redis) => command.env("REDIS_URL", format!("redis://{redis}/0")),
            None => command.env_remove("REDIS_URL"),
        };
        let address = self.target.address;
        self.spawn(command, "runhub", || is_ready(address).unwrap_or(false))
    }

    /// Starts a process and waits until it serves.
    fn spawn(
        &mut self,
        mut command: Command,
        name: &str,
        serves: impl Fn() -> bool,
    ) -> Result<(), String> {
        let log = self.dir.path().join(format!("{name}.log"));
        let file = std::fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let same = file.try_clone().map_err(|e| format!("{}: {e}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file).stderr(same);
        let began = Instant::now();
        let child = command.spawn().map_err(|e| {
            let program = command.get_program().display();
            format!("cannot start {program}: {e}; is it installed, or built?")
        })?;
        let pid = child.id();
        self.children.insert(0, child);
        while !serves() {
            let ended = self.children[0].try_wait().ok().flatten();
            if ended.is_some() || began.elapsed() > PATIENCE {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("{name} does not serve after {:?}: {said}", began.elapsed()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.ready_after = began.elapsed();
        self.processes.add(pid)
    }

    /// Names of runs that are new to the target.
    pub fn runs(count: usize) -> Arc<[String]> {
        let this = rand::random::<u32>();
        (0..count).map(|run| format!("load-{this:08x}-{run}")).collect()
    }
}

/// The one of the same build: examples lie in a folder beside it.
pub fn hub_executable(options: &Options) -> Result<PathBuf, String> {
    if let Some(path) = &options.hub {
        return path.canonicalize().map_err(|e| format!("--hub {}: {e}", path.display()));
    }
    let this = std::env::current_exe().map_err(|e| format!("this executable: {e}"))?;
    let hub = this.ancestors().nth(2).map(|folder| folder.join("runhub"));
    let hub = hub.filter(|path| path.is_file());
    hub.ok_or_else(|| {
        format!("no runhub beside {}: `cargo build --release`, or --hub", this.display())
    })
}

/// A port that nobody listens on now, and none of those that the system gives to clients.
fn free_address() -> SocketAddr {
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, rand::random_range(10_000..30_000)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

fn is_ready(hub: SocketAddr) -> std::io::Result<bool> {
    let mut connection = TcpStream::connect(hub)?;
    connection
        .write_all(b"GET /health/ready HTTP/1.1\r\nhost: hub\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}
