//! Scenarios e and e+: many subscribers come back at once, behind one event of a run, and must get all the rest.

use crate::commands::{Commands, between, of_clients};
use crate::live::{add_cpu, settle};
use crate::mark::Mark;
use crate::measured::Measured;
use crate::publishers::{Load, Pace};
use crate::setup::Setup;
use crate::subscribers::{Counters, Follow, Subscribers};
use crate::target::Target;
use crate::wire::Wire;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

pub struct Resume {
    pub subscribers: usize,
    pub history: u32,
    /// The event behind which they come back.
    pub behind: u32,
}

pub fn measure(setup: &Setup, resume: &Resume) -> Result<Measured, String> {
    let runs = fill(setup, resume.history)?;
    come_back(setup, resume, &runs)
}

/// The same, once with one subscriber and once with all, and what each asks of Redis.
pub fn crowd(setup: &Setup, resume: &Resume) -> Result<Measured, String> {
    let runs = fill(setup, resume.history)?;
    let mut commands = setup.redis.map(Commands::of).transpose()?;
    let mut returns = |subscribers| {
        let before = commands.as_mut().map(Commands::counts).transpose()?;
        let measured = come_back(setup, &Resume { subscribers, ..*resume }, &runs)?;
        let after = commands.as_mut().map(Commands::counts).transpose()?;
        let asked = before.zip(after).map(|(before, after)| {
            of_clients(&between(&before, &after)).map(|(_, calls)| calls as f64).sum::<f64>()
        });
        Ok::<_, String>((measured, asked))
    };
    let (_, of_one) = returns(1)?;
    let (mut measured, of_all) = returns(resume.subscribers)?;
    if let Some((all, one)) = of_all.zip(of_one) {
        measured.add("commands", all);
        measured.add("commands_of_one", one);
    }
    Ok(measured)
}

/// A run with so many events.
pub fn fill(setup: &Setup, events: u32) -> Result<Arc<[String]>, String> {
    let runs = Setup::runs(1);
    let load = Load {
        target: setup.target.clone(),
        runs: Arc::clone(&runs),
        connections: 1,
        batch: 100,
        pace: Pace::Undelivered(1),
        secs: 60.0,
        each: Some(events),
    };
    let sent = load.publish(&Counters::default(), 0)?;
    settle(setup);
    if sent.events == u64::from(events) {
        return Ok(runs);
    }
    Err(format!("only {} of {events} events were published within a minute", sent.events))
}

fn come_back(setup: &Setup, resume: &Resume, runs: &Arc<[String]>) -> Result<Measured, String> {
    let id = id_of(&setup.target, runs, resume.behind)?;
    let before = setup.processes.cpu();
    let subscribers = Subscribers::connect(Follow {
        after: Some((id, resume.behind)),
        goal: Some(u64::from(resume.history - resume.behind)),
        ..Follow::new(&setup.target, runs, resume.subscribers)
    })?;
    subscribers.wait_for(&[resume.history]);
    let cpu = setup.processes.cpu().since(before);
    let secs = (subscribers.counters.last.load(Relaxed) - subscribers.began) as f64 / 1e9;
    let (heard, verdict) = subscribers.stop(&[resume.history])?;
    let mut measured = Measured::default();
    measured.add("deliveries_per_s", verdict.deliveries as f64 / secs.max(1e-9));
    measured.add_spread("", &heard.caught_up);
    add_cpu(&mut measured, setup, cpu, verdict.deliveries);
    measured.add_verdict(&verdict);
    measured.add("server_mb", setup.processes.memory() / 1024.0);
    Ok(measured)
}

/// The id of an event, as a subscriber is told it.
fn id_of(target: &Target, runs: &[String], sequence: u32) -> Result<String, String> {
    let trouble = |e: std::io::Error| format!("looking for the id of event {sequence}: {e}");
    let mut stream = TcpStream::connect(target.address).map_err(trouble)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(trouble)?;
    stream.write_all(&target.subscribe(runs, None)).map_err(trouble)?;
    let (mut wire, mut body, mut buffer) = (Wire::new(target, &runs[0]), Vec::new(), [0; 65_536]);
    loop {
        let length = stream.read(&mut buffer).map_err(trouble)?;
        if length == 0 {
            return Err(format!("the stream ended before event {sequence}"));
        }
        let next = wire.feed(&buffer[..length], &mut |part| body.extend_from_slice(part))?;
        if let Some(at) = Mark::position(&body, 0, sequence) {
            let id = target.id(&body[..at]);
            return id.map(str::to_owned).ok_or(format!("event {sequence} came without an id"));
        }
        next.map_or(Ok(()), |request| stream.write_all(&request)).map_err(trouble)?;
    }
}
