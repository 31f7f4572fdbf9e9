//! Short campaigns of random faults; `cargo run --release --example faults` runs long ones.

use crate::campaign::{Plan, StoreKind, run};
use crate::history::Verdict;
use std::time::Duration;

#[test]
fn random_faults_on_redis() {
    short(StoreKind::Redis);
}

#[test]
fn random_faults_on_a_cluster() {
    short(StoreKind::Cluster);
}

#[test]
fn random_faults_on_the_embedded_store() {
    short(StoreKind::Embedded);
}

fn short(store: StoreKind) {
    let plan = Plan {
        seed: rand::random(),
        store,
        clean: Duration::from_secs(1),
        faults: Duration::from_secs(15),
        longest_fault: Duration::from_secs(3),
        quiet: Duration::from_secs(60),
        // Other tests load the disk meanwhile.
        publish: Duration::from_secs(10),
        keep: None,
    };
    let campaign = run(&plan);
    assert_eq!(campaign.verdict, Verdict::Clean, "\n{}", campaign.summary);
}
