//! Columns of a text whose cells end with tabs, as Docker's tables have them: at least ten wide, three spaces between.

/// The minimum width of a column with its gap.
const NARROWEST: usize = 10;
/// The space between two columns.
const GAP: usize = 3;

/// The text with its columns aligned. A column is one as long as line after line has it; what stands after the last tab
/// of a line is in no column.
pub(super) fn columns(text: &str) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    let count = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..count {
        let mut first = 0;
        while first < lines.len() {
            let block = widths.iter().skip(first).take_while(|widths| widths.len() > column).count();
            let cells = lines.iter().skip(first).take(block).filter_map(|cells| cells.get(column));
            let width = cells.map(|cell| cell.chars().count() + GAP).max().unwrap_or(0).max(NARROWEST);
            for widths in widths.iter_mut().skip(first).take(block) {
                widths[column] = width;
            }
            first += block.max(1);
        }
    }
    let mut out = String::new();
    for (cells, widths) in lines.iter().zip(&widths) {
        let padded = cells.iter().zip(widths.iter().chain([&0]));
        let line: String = padded.map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_as_long_as_lines_have_them() {
        assert_eq!(columns("NAME\tID\nweb\t1\n"), "NAME      ID\nweb       1\n");
        assert_eq!(
            columns("a-long-name-of-it\tx\tend\ni\té\t\n"),
            "a-long-name-of-it   x         end\ni                   é\n"
        );
        assert_eq!(columns("a\tb\nno column\nanother-one\tb\n"), "a         b\nno column\nanother-one   b\n");
        assert_eq!(columns(""), "");
    }
}
