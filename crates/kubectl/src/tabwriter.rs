//! Columns of text that fit their cells, as Go's text/tabwriter lays them out: a column is a block
//! of consecutive lines that have a cell ended by a tab there.

/// A writer of columns; keeps the widths it has seen where `remember` is set.
#[derive(Debug)]
pub struct TabWriter {
    width_min: usize,
    padding: usize,
    remember: Option<Vec<usize>>,
}

// === TabWriter ===

impl TabWriter {
    /// The layout of tables; columns never shrink between two calls.
    pub fn table() -> Self {
        Self {
            width_min: 6,
            padding: 3,
            remember: Some(Vec::new()),
        }
    }

    /// The layout of descriptions.
    pub fn describe() -> Self {
        Self {
            width_min: 0,
            padding: 2,
            remember: None,
        }
    }

    /// Lays out lines whose cells are separated by tabs.
    pub fn layout(&mut self, text: &str) -> String {
        let lines: Vec<Vec<&str>> = text.split('\n').map(|l| l.split('\t').collect()).collect();
        let mut out = String::with_capacity(text.len() * 2);
        let mut widths = Vec::new();
        self.format(&lines, 0, lines.len(), &mut widths, &mut out);
        // The last line has no end of its own.
        out.pop();
        out
    }

    fn format(
        &mut self,
        lines: &[Vec<&str>],
        mut start: usize,
        end: usize,
        widths: &mut Vec<usize>,
        out: &mut String,
    ) {
        let column = widths.len();
        let mut at = start;
        while at < end {
            if column + 1 >= lines[at].len() {
                at += 1;
                continue;
            }
            write_lines(&lines[start..at], widths, out);
            start = at;
            let mut width = self.width_min;
            while at < end && column + 1 < lines[at].len() {
                width = width.max(lines[at][column].chars().count() + self.padding);
                at += 1;
            }
            if let Some(seen) = &mut self.remember {
                if seen.len() <= column {
                    seen.resize(column + 1, 0);
                }
                seen[column] = seen[column].max(width);
                width = seen[column];
            }
            widths.push(width);
            self.format(lines, start, at, widths, out);
            widths.pop();
            start = at;
        }
        write_lines(&lines[start..end], widths, out);
    }
}

fn write_lines(lines: &[Vec<&str>], widths: &[usize], out: &mut String) {
    for line in lines {
        for (i, cell) in line.iter().enumerate() {
            out.push_str(cell);
            // A cell that a tab ends is as wide as its column.
            if let (true, Some(width)) = (i + 1 < line.len(), widths.get(i)) {
                let missing = width.saturating_sub(cell.chars().count());
                out.extend(std::iter::repeat_n(' ', missing));
            }
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_three_spaces_and_six_at_least() {
        let text = TabWriter::table().layout("NAME\tA\tLAST\nlonger-name\tb\tx\n");
        assert_eq!(text, "NAME          A     LAST\nlonger-name   b     x\n");
    }

    #[test]
    fn a_line_without_the_cell_ends_the_column() {
        let text = TabWriter::describe().layout("Name:\tx\nNode:\ty\nhead\nLong name:\tz\n");
        assert_eq!(text, "Name:  x\nNode:  y\nhead\nLong name:  z\n");
    }

    #[test]
    fn tables_never_shrink() {
        let mut w = TabWriter::table();
        assert_eq!(w.layout("long-name\tx\n"), "long-name   x\n");
        assert_eq!(w.layout("a\ty\n"), "a           y\n");
    }
}
