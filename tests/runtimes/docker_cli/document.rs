//! The differences in `docs/engine-api.md`: a table with a line for each row of the script that states one.

use std::fmt::Write as _;
use std::fs;

use super::table::Row;
use crate::world::ours;

const DOCUMENT: &str = "docs/engine-api.md";
/// The lines above and below which the table stands.
const MARKS: [&str; 2] = ["<!-- differences -->\n", "<!-- end of differences -->\n"];

/// Compares the table with the rows; `UPDATE_GOLDEN=1` writes it.
pub(super) fn is_up_to_date(rows: impl Iterator<Item = &'static Row>) -> Result<(), String> {
    let path = ours(DOCUMENT);
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let (before, rest) = text.split_once(MARKS[0]).ok_or("the first mark is missing")?;
    let (table, after) = rest.split_once(MARKS[1]).ok_or("the second mark is missing")?;
    let expected = expected(rows);
    if std::env::var("UPDATE_GOLDEN").is_ok_and(|set| set == "1") {
        let text = [before, MARKS[0], &expected, MARKS[1], after].concat();
        return fs::write(&path, text).map_err(|error| format!("{path}: {error}"));
    }
    if table == expected {
        return Ok(());
    }
    let missing = expected.lines().filter(|line| !table.lines().any(|known| known == *line));
    let surplus = table.lines().filter(|line| !expected.lines().any(|known| known == *line));
    Err(format!(
        "{DOCUMENT} is not up to date (UPDATE_GOLDEN=1 writes it)\nmissing:\n{}\nsurplus:\n{}",
        missing.collect::<Vec<_>>().join("\n"),
        surplus.collect::<Vec<_>>().join("\n"),
    ))
}

fn expected(rows: impl Iterator<Item = &'static Row>) -> String {
    let mut table = "\n| command | Docker | netd | why |\n|---|---|---|---|\n".to_owned();
    for row in rows {
        let Some(differs) = &row.differs else { continue };
        let cells = [row.command, differs.docker, differs.netd].map(code);
        let _ = writeln!(table, "| {} | {} |", cells.join(" | "), differs.why);
    }
    table.push('\n');
    table
}

/// A text in a cell. A pipe would end the cell even in code, and a grave accent the code.
fn code(text: &str) -> String {
    let text = text.replace('|', "\\|").replace('\n', " … ");
    if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") }
}
