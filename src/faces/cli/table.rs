//! Tables with aligned columns that fit the terminal. Cells that are too wide are wrapped, never truncated. If the
//! output is not a terminal, every row is one line.

use super::Session;
use super::output::Failure;

/// The space between two columns.
const GAP: &str = "   ";
/// The minimum width of a column, whatever the terminal.
const NARROWEST: usize = 4;

/// Prints a header and rows in aligned columns. An empty cell is shown as `-`.
pub(super) fn table<const N: usize>(
    session: &mut Session<'_>,
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Result<(), Failure> {
    let header = header.map(str::to_owned);
    let rows = rows.into_iter().map(|row| row.map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }));
    let rows: Vec<[String; N]> = std::iter::once(header).chain(rows).collect();
    let widths = widths(&rows, session.width);
    for row in &rows {
        let mut cells: [Vec<String>; N] = std::array::from_fn(|column| wrap(&row[column], widths[column]));
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        for line in 0..height {
            let mut text = String::new();
            for (cell, width) in cells.iter_mut().zip(widths) {
                let part = cell.get_mut(line).map(std::mem::take).unwrap_or_default();
                text.push_str(&format!("{part:width$}{GAP}"));
            }
            writeln!(session.out, "{}", text.trim_end())?;
        }
    }
    Ok(())
}

/// The width of each column: that of its widest cell, or less if the terminal is too narrow. First the widest columns
/// shrink to their longest words, then words are broken.
fn widths<const N: usize>(rows: &[[String; N]], terminal: Option<usize>) -> [usize; N] {
    let widest = |of: fn(&str) -> usize| -> [usize; N] {
        std::array::from_fn(|column| rows.iter().map(|row| of(&row[column])).max().unwrap_or(0))
    };
    let mut widths = widest(|cell| cell.chars().count());
    let words = widest(|cell| cell.split(' ').map(|word| word.chars().count()).max().unwrap_or(0));
    let Some(terminal) = terminal else { return widths };
    let room = terminal.saturating_sub(GAP.len() * N.saturating_sub(1));
    for floor in [words, [NARROWEST; N]] {
        while widths.iter().sum::<usize>() > room {
            let shrinkable = (0..N).filter(|column| widths[*column] > floor[*column]);
            let Some(column) = shrinkable.max_by_key(|column| widths[*column]) else { break };
            widths[column] -= 1;
        }
    }
    widths
}

/// The lines of a cell, broken at spaces, and within words that are too wide.
fn wrap(cell: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in cell.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        let used = lines.last().map_or(0, |line| line.chars().count());
        match lines.last_mut() {
            Some(line) if used > 0 && used + 1 + word.len() <= width => {
                line.push(' ');
                line.extend(word);
                continue;
            }
            Some(line) if used == 0 && word.len() <= width => {
                line.extend(word);
                continue;
            }
            _ if used > 0 => lines.push(String::new()),
            _ => {}
        }
        while word.len() > width.max(1) {
            let rest = word.split_off(width.max(1));
            lines.last_mut().into_iter().for_each(|line| line.extend(&word));
            lines.push(String::new());
            word = rest;
        }
        lines.last_mut().into_iter().for_each(|line| line.extend(&word));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faces::shared::client::Client;

    fn shown<const N: usize>(width: Option<usize>, header: [&str; N], rows: &[[&str; N]]) -> String {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut session = Session { client: Client::new("/nowhere"), width, out: &mut out, err: &mut err };
        table(&mut session, header, rows.iter().map(|row| row.map(str::to_owned))).unwrap();
        String::from_utf8(out).unwrap()
    }

    const HEADER: [&str; 5] = ["NAME", "ID", "NETWORKS", "ADDRESSES", "PORTS"];
    const ROWS: [[&str; 5]; 2] = [
        [
            "web",
            "0123456789ab",
            "net1, net2, net3",
            "10.77.0.2/24, fd0d:73f6:c5bb::2/64, 10.77.1.2/24",
            "*:4000->80/tcp, 127.0.0.1:5000-5010->5000-5010/udp",
        ],
        ["database", "abcdefabcdef", "net1", "10.77.0.3/24", ""],
    ];

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_space() {
        let rows = [["web", "10.0.0.2"], ["database", ""]];
        let text = "NAME       IP\nweb        10.0.0.2\ndatabase   -\n";
        assert_eq!(shown(None, ["NAME", "IP"], &rows), text);
        assert_eq!(shown(Some(80), ["NAME", "IP"], &rows), text);
    }

    #[test]
    fn a_table_fits_its_terminal_and_nothing_is_left_out() {
        let words = |text: &str| {
            let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            words.sort();
            words
        };
        let full = shown(None, HEADER, &ROWS);
        assert_eq!(full.lines().count(), 3, "elsewhere a row is a line");
        for width in [120, 100] {
            let text = shown(Some(width), HEADER, &ROWS);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            assert_eq!(words(&text), words(&full), "{width}: words are whole");
        }
        let letters = |text: &str| {
            let mut letters: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
            letters.sort_unstable();
            letters
        };
        for width in [90, 80, 60, 40] {
            let text = shown(Some(width), HEADER, &ROWS);
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
            assert_eq!(letters(&text), letters(&full), "{width}");
        }
        let text = shown(Some(1), HEADER, &ROWS);
        assert_eq!(letters(&text), letters(&full), "there is an end to it");
    }

    #[test]
    fn words_stay_whole_where_they_can() {
        let text = shown(Some(30), ["NAME", "PORTS"], &[["web", "*:4000->80/tcp, *:4001->81/tcp"]]);
        assert_eq!(text, "NAME   PORTS\nweb    *:4000->80/tcp,\n       *:4001->81/tcp\n");
    }
}
