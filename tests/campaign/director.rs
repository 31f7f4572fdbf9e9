//! The director: which fault comes when, by seed.

use super::Plan;
use super::fault::{Fault, Of};
use super::shared::Shared;
use super::stage::Stage;
use crate::history::What;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use std::time::{Duration, Instant};

const SHORTEST_FAULT: Duration = Duration::from_millis(200);
/// Between faults, in ms.
const PAUSES: std::ops::Range<u64> = 200..2000;
/// How often the hub dies in the middle of another fault.
const WITHIN: f64 = 0.3;

/// Plays the faults, and leaves everything healed. All that is slept here is how long things last, not
/// something waited for.
pub fn direct(shared: &Shared, stage: &mut Stage, plan: &Plan) {
    let random = StdRng::seed_from_u64(plan.seed);
    let mut director = Director { shared, stage, plan, random, deck: Vec::new() };
    std::thread::sleep(plan.clean);
    let end = Instant::now() + plan.faults;
    // The first is always the same, so that something is in doubt in even the shortest campaign.
    let mut fault = Fault::HubKilled;
    loop {
        director.play(fault);
        if Instant::now() >= end {
            return;
        }
        let pause = director.random.random_range(PAUSES);
        std::thread::sleep(Duration::from_millis(pause));
        fault = director.draw();
    }
}

struct Director<'a> {
    shared: &'a Shared,
    stage: &'a mut Stage,
    plan: &'a Plan,
    random: StdRng,
    /// Faults that have not had their turn.
    deck: Vec<Fault>,
}

impl Director<'_> {
    /// The next fault; every one comes before one comes again.
    fn draw(&mut self) -> Fault {
        if self.deck.is_empty() {
            let all = Fault::ALL.iter().copied();
            let fits = |fault: &Fault| fault.of().is_there_with(self.plan.store);
            self.deck = all.filter(fits).collect();
            self.deck.shuffle(&mut self.random);
        }
        self.deck.pop().expect("there are faults for every store")
    }

    fn play(&mut self, fault: Fault) {
        let longest = self.plan.longest_fault.as_secs_f64();
        let lasts = self.random.random_range(SHORTEST_FAULT.as_secs_f64()..longest);
        let lasts = Duration::from_secs_f64(lasts);
        self.begin(fault);
        if fault.of() != Of::Hub && self.random.random_bool(WITHIN) {
            let deaths = [Fault::HubKilled, Fault::HubTerminated];
            let death = deaths[self.random.random_range(0..deaths.len())];
            std::thread::sleep(lasts / 3);
            self.begin(death);
            self.end(death);
            std::thread::sleep(lasts / 3);
        } else {
            std::thread::sleep(lasts);
        }
        self.end(fault);
    }

    fn begin(&mut self, fault: Fault) {
        let stops_hub = fault == Fault::HubStopped;
        self.shared.record(What::FaultBegun { name: fault.name().to_owned(), stops_hub });
        if let Err(wrong) = fault.begin(self.stage, &mut self.random) {
            self.shared.broken(wrong);
        }
    }

    fn end(&mut self, fault: Fault) {
        fault.end(self.stage);
        self.shared.record(What::FaultEnded { name: fault.name().to_owned() });
    }
}
