//! The table that a reader sees in the end.

use crate::measured::Measured;
use crate::scenario::Scenario;
use std::fmt::Write;

/// What most scenarios have; the rest of the numbers stands behind it by name.
const COLUMNS: [(&str, &str); 11] = [
    ("deliveries_per_s", "deliveries/s"),
    ("p50_ms", "p50 ms"),
    ("p95_ms", "p95 ms"),
    ("p99_ms", "p99 ms"),
    ("max_ms", "max ms"),
    ("server_cpu_s_per_m", "server s/M"),
    ("redis_cpu_s_per_m", "Redis s/M"),
    ("server_mb", "server MB"),
    ("lost", "lost"),
    ("doubled", "doubled"),
    ("reordered", "reordered"),
];

pub fn render(rows: &[(Scenario, Measured)]) -> String {
    let mut lines = vec![vec![String::new()]];
    lines[0].extend(COLUMNS.map(|(_, title)| title.to_owned()));
    let mut behind = vec![String::new()];
    for (scenario, measured) in rows {
        let mut line = vec![scenario.name().to_owned()];
        if measured.failed.is_none() && measured.skipped.is_none() {
            line.extend(COLUMNS.map(|(name, _)| measured.get(name).map_or("-".to_owned(), number)));
        }
        lines.push(line);
        behind.push(rest(measured));
    }
    let width =
        |column: usize| lines.iter().filter_map(|line| line.get(column)?.len().into()).max();
    let widths: Vec<usize> = (0..=COLUMNS.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut table = String::new();
    for (line, behind) in lines.iter().zip(&behind) {
        for (cell, width) in line.iter().zip(&widths) {
            write!(table, "{cell:>width$}  ").expect("a String takes all");
        }
        table.push_str(behind);
        table.truncate(table.trim_end().len());
        table.push('\n');
    }
    table
}

fn rest(measured: &Measured) -> String {
    if let Some(why) = &measured.failed {
        return format!("failed: {why}");
    }
    if let Some(why) = &measured.skipped {
        return format!("skipped: {why}");
    }
    let others =
        measured.numbers().filter(|(name, _)| COLUMNS.iter().all(|(known, _)| known != name));
    let texts: Vec<String> =
        others.map(|(name, value)| format!("{name}={}", number(value))).collect();
    texts.join(" ")
}

fn number(value: f64) -> String {
    match value.abs() {
        _ if value.fract() == 0.0 => format!("{value}"),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
