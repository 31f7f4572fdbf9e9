//! Writes the table of known types in `docs/events.md`.

use super::{FieldRow, KNOWN, KnownType, Shape};
use std::fmt::Write;

/// The table, in Markdown.
pub fn table() -> String {
    let mut out = String::from(
        "| type | what it says | flat name | data | ends the run |\n| --- | --- | --- | --- | --- |\n",
    );
    for known in KNOWN {
        let says: Vec<&str> = known.doc.iter().map(|line| line.trim()).collect();
        let flat = known.flat.map_or_else(String::new, |flat| format!("`{flat}`"));
        let ends = if known.terminal { "yes" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| `{}` | {} | {flat} | {} | {ends} |",
            known.name,
            says.join(" "),
            data(known)
        );
    }
    out
}

fn data(known: &KnownType) -> String {
    let Shape::Fields { fields, either } = known.shape else { return "anything".to_owned() };
    let mut cells = Vec::new();
    for row in fields {
        match either {
            Some((first, second)) if row.name == first => {
                cells.push(format!("`{first}` or `{second}`"));
            }
            Some((_, second)) if row.name == second => {}
            _ => cells.push(field(row)),
        }
    }
    cells.join(", ")
}

fn field(row: &FieldRow) -> String {
    let mut out = format!("`{}{}`", row.name, if row.required { "" } else { "?" });
    let mut notes = Vec::from_iter(Some(row.kind.note()).filter(|note| !note.is_empty()));
    notes.extend(row.also.iter().map(|key| format!("also `{key}`")));
    notes.extend(row.default.map(|json| format!("`{json}` where absent")));
    if !notes.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(out, " ({})", notes.join("; "));
    }
    out
}

#[cfg(test)]
mod tests {
    const BEGIN: &str = "<!-- rendered: the known types -->\n";
    const END: &str = "<!-- end -->\n";

    /// Write the table anew with `RUNHUB_RENDER=1 cargo test the_page_of_events`.
    #[test]
    fn the_page_of_events_has_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/events.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        let rendered = format!("{before}{BEGIN}\n{}\n{END}{after}", super::table());
        if std::env::var_os("RUNHUB_RENDER").is_some() {
            std::fs::write(path, &rendered).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), rendered);
    }
}
