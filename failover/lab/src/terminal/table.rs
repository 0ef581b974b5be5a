//! Tables of text.

use std::fmt;

/// On which side of its column a cell stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table with a line of headings. Columns are as wide as their widest cell.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with its headings.
    #[must_use]
    pub fn new<const N: usize>(columns: [(&str, Align); N]) -> Self {
        Self {
            columns: columns.iter().map(|(_, align)| *align).collect(),
            rows: vec![columns.iter().map(|(name, _)| (*name).to_owned()).collect()],
        }
    }

    /// Adds a row. Cells that are missing are empty; those beyond the last heading are not shown.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<(Align, usize)> = (0..)
            .zip(&self.columns)
            .map(|(index, align)| (*align, self.width(index)))
            .collect();
        for row in &self.rows {
            let mut line = String::new();
            for ((align, width), cell) in columns.iter().zip(row) {
                let cell = match align {
                    Align::Left => format!("{cell:<width$}  "),
                    Align::Right => format!("{cell:>width$}  "),
                };
                line.push_str(&cell);
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_left_and_numbers_right() {
        let mut table = Table::new([("UPLINK", Align::Left), ("FLOWS", Align::Right)]);
        table.row(["fiber".to_owned(), "12".to_owned()]);
        table.row(["total – all".to_owned(), "123456".to_owned()]);
        assert_eq!(
            table.to_string(),
            "UPLINK        FLOWS\nfiber            12\ntotal – all  123456\n"
        );
    }
}
