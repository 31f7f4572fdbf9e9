//! A small team of actors plays a run and publishes by message, without HTTP: a boss, an architect, an
//! engineer and a QA engineer, each an actix actor with a `Recipient<Publish>` of the hub.
//!
//! ```sh
//! cargo run --example runner_actor
//! ```
//!
//! The hub lives in this process, on the embedded store in a temporary folder. A follower prints what any
//! reader would get, and checks that nothing is missing.
#![allow(missing_docs, clippy::print_stdout, reason = "an example shows what it does")]

use actix::prelude::*;
use futures::StreamExt;
use runhub::event::typed::{
    AgentEnd, AgentOutcome, AgentStart, KnownEvent, LifecycleCompleted, LifecycleStarted,
    LlmStream, MessageComplete, StageChange, ToolEnd, ToolStart,
};
use runhub::event::{Event, RunId, Source};
use runhub::hub::{Followed, Publish, SubscribeOptions};
use runhub::{Config, Hub};
use std::error::Error;

/// Request: do your part, then tell the next one.
#[derive(Message)]
#[rtype(result = "()")]
struct Work(String);

/// One of the team.
struct Member {
    run: RunId,
    name: &'static str,
    stage: &'static str,
    hub: Recipient<Publish>,
    next: Option<Recipient<Work>>,
}

impl Member {
    /// An event of this member's.
    fn event(&self, known: &impl KnownEvent) -> Event {
        let name = Some(self.name.into());
        let team = Some("demo".into());
        let source = Source {
            agent_id: name.clone(),
            agent_name: name,
            team_name: team,
            ..Source::default()
        };
        known.event(&self.run).with_source(source)
    }

    /// Publishes and goes on: the mailbox keeps the order, and a hub that is full refuses.
    fn tell(&self, known: &impl KnownEvent) {
        self.hub.do_send(Publish::one(self.event(known)));
    }
}

impl Actor for Member {
    type Context = Context<Self>;
}

impl Handler<Work> for Member {
    type Result = ();

    fn handle(&mut self, Work(task): Work, _: &mut Self::Context) {
        self.tell(&StageChange::new(self.stage));
        self.tell(&AgentStart::new(task.clone(), "actix"));
        if self.name == "engineer" {
            self.tell(&ToolStart::new("cargo test"));
            self.tell(&ToolEnd::new("cargo test", "ok"));
        }
        let said = format!("{}: {task}, done", self.name);
        for word in said.split_inclusive(' ') {
            let message_id = format!("{}-1", self.name);
            let delta = self.event(&LlmStream::new(word)).with_message_id(message_id);
            self.hub.do_send(Publish::one(delta));
        }
        let whole = self.event(&MessageComplete::new(said.clone()));
        self.hub.do_send(Publish::one(whole.with_message_id(format!("{}-1", self.name))));
        self.tell(&AgentEnd::new(AgentOutcome::Success));
        match &self.next {
            Some(next) => next.do_send(Work(said)),
            None => self.tell(&LifecycleCompleted::new()),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    System::new().block_on(play())
}

async fn play() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let mut config = Config::default();
    config.server.data_dir = folder.path().join("data");
    let hub = Hub::open(config)?;
    let run = RunId::parse("team-1")?;

    let publisher = hub.publisher();
    let team = [
        ("qa", "testing"),
        ("engineer", "development"),
        ("architect", "design"),
        ("boss", "requirement"),
    ];
    let mut next: Option<Recipient<Work>> = None;
    for (name, stage) in team {
        let member = Member { run: run.clone(), name, stage, hub: publisher.clone(), next };
        next = Some(member.start().recipient());
    }

    // One that is waited for, before the play begins.
    let started = Publish::one(LifecycleStarted::new().event(&run));
    println!("published: {:?}", publisher.send(started).await??);
    if let Some(boss) = next {
        boss.do_send(Work("a page that says hello".to_owned()));
    }

    let mut events = hub.follow(&run, SubscribeOptions::default()).await?;
    let mut sequence = 0;
    while let Some(followed) = events.next().await {
        match followed {
            Followed::Event(stored) => {
                sequence += 1;
                let given = stored.sequence.map(|sequence| sequence.0);
                if given != Some(sequence) {
                    return Err(format!("expected event {sequence}, got {given:?}").into());
                }
                let agent = stored.event.source.as_ref().and_then(|s| s.agent_name.as_deref());
                println!("{sequence:>3} {:<10} {}", agent.unwrap_or("-"), stored.event.kind);
            }
            Followed::Closed(reason) => println!("closed: {}", reason.as_str()),
            other => println!("{other:?}"),
        }
    }
    println!("{sequence} events, in order");
    hub.close(std::time::Duration::from_secs(5)).await;
    Ok(())
}
