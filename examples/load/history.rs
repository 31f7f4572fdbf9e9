//! Scenario f: all of a run of 1,000 events, asked for again and again over one connection.

use crate::connection::Connection;
use crate::mark::{Marks, now};
use crate::measured::{Measured, Spread};
use crate::resume::fill;
use crate::setup::Setup;
use crate::tally::Tally;

const EVENTS: u32 = 1000;

pub fn measure(setup: &Setup, secs: f64) -> Result<Measured, String> {
    let runs = fill(setup, EVENTS)?;
    let request = setup.target.history(&runs[0]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut took, mut queries, mut lost) = (Spread::default(), 0_u32, 0);
    let (mut doubled, mut reordered) = (0, 0);
    let before = setup.processes.cpu();
    let began = now();
    runtime.block_on(async {
        let target = &setup.target;
        let mut connection = Connection::open(target.address, target.is_redis()).await?;
        while (now() - began) as f64 / 1e9 < secs {
            let asked = now();
            let page = connection.ask(&request, 1).await?;
            took.record(now() - asked);
            queries += 1;
            let mut tally = Tally::from(1);
            Marks::default().feed(&page, &mut |mark| {
                tally.note(mark.sequence);
            });
            lost += tally.lost(EVENTS);
            doubled += tally.doubled;
            reordered += tally.reordered;
        }
        Ok::<(), String>(())
    })?;
    let secs = (now() - began) as f64 / 1e9;
    let cpu = setup.processes.cpu().since(before);
    let mut measured = Measured::default();
    measured.add("queries_per_s", f64::from(queries) / secs);
    measured.add_spread("", &took);
    if setup.processes.are_known() {
        let per_query = (cpu.server + cpu.redis) * 1e3 / f64::from(queries.max(1));
        measured.add("cpu_ms_per_query", per_query);
    }
    for (name, number) in [("lost", lost), ("doubled", doubled), ("reordered", reordered)] {
        measured.add(name, number as f64);
    }
    Ok(measured)
}
