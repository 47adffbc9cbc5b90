//! The differences in `docs/engine-api.md`: tables with a line for each row of the script that states one.

use std::fmt::Write as _;
use std::fs;

use super::table::Row;
use crate::world::ours;

const DOCUMENT: &str = "docs/engine-api.md";

/// A table of the document: the name in the marks above and below it, and the rows that it is made of.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) rows: Vec<&'static Row>,
}

/// Compares the tables with the rows; `UPDATE_GOLDEN=1` writes them.
pub(super) fn is_up_to_date(tables: &[Table]) -> Result<(), String> {
    let path = ours(DOCUMENT);
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let mut updated = text.clone();
    let mut wrong = Vec::new();
    for Table { name, rows } in tables {
        let [above, below] = [format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->\n")];
        let (before, rest) = updated.split_once(&above).ok_or(format!("the mark {above} is missing"))?;
        let (table, after) = rest.split_once(&below).ok_or(format!("the mark {below} is missing"))?;
        let expected = expected(rows);
        wrong.extend(expected.lines().filter(|line| !table.lines().any(|known| known == *line)).map(missing));
        wrong.extend(table.lines().filter(|line| !expected.lines().any(|known| known == *line)).map(surplus));
        updated = [before, &above, &expected, &below, after].concat();
    }
    if std::env::var("UPDATE_GOLDEN").is_ok_and(|set| set == "1") {
        return fs::write(&path, updated).map_err(|error| format!("{path}: {error}"));
    }
    if text == updated {
        return Ok(());
    }
    Err(format!("{DOCUMENT} is not up to date (UPDATE_GOLDEN=1 writes it)\n{}", wrong.join("\n")))
}

fn missing(line: &str) -> String {
    format!("missing: {line}")
}

fn surplus(line: &str) -> String {
    format!("surplus: {line}")
}

fn expected(rows: &[&Row]) -> String {
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
