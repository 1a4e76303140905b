//! What a matrix decoder makes: numbers in rows, and captured columns beside them.

use super::cursor::Fault;
use crate::columns::Rejected;

/// Numbers of many records, one row for each, and captured columns.
#[derive(Debug, Clone, Default)]
pub struct Matrix {
    /// Numbers in a row.
    pub width: usize,
    /// The rows, one after the other; NaN where a record has null.
    pub values: Vec<f32>,
    /// The captured columns, in the order they were asked for.
    pub captures: Vec<Capture>,
    /// For each row, which payload it was.
    pub rows: Vec<u32>,
    /// The payloads that could not be read.
    pub rejected: Vec<Rejected>,
}

/// A column that is captured beside the numbers.
#[derive(Debug, Clone)]
pub enum Capture {
    /// Whole numbers, times and truth values.
    Long(Vec<Option<i64>>),
    /// Text.
    Text {
        /// Where each value ends in `text`; `None` where it is null.
        ends: Vec<(u32, bool)>,
        /// The values, one after the other.
        text: String,
    },
}

impl Matrix {
    /// The numbers of row `row`.
    ///
    /// # Panics
    ///
    /// Panics when there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width..(row + 1) * self.width]
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn truncate(&mut self) {
        let rows = self.rows.len();
        self.values.truncate(rows * self.width);
        self.captures.iter_mut().for_each(|it| it.truncate(rows));
    }
}

impl Capture {
    /// The number in row `row`, `None` where it is null or text.
    #[must_use]
    pub fn long(&self, row: usize) -> Option<i64> {
        match self {
            Self::Long(values) => values.get(row).copied().flatten(),
            Self::Text { .. } => None,
        }
    }

    /// The text in row `row`, `None` where it is null or a number.
    #[must_use]
    pub fn text(&self, row: usize) -> Option<&str> {
        let Self::Text { ends, text } = self else { return None };
        let (end, true) = *ends.get(row)? else { return None };
        let start = if row == 0 { 0 } else { ends[row - 1].0 };
        Some(&text[start as usize..end as usize])
    }

    pub(super) fn clear(&mut self) {
        self.truncate(0);
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        match self {
            Self::Long(values) => values.truncate(rows),
            Self::Text { ends, text } => {
                ends.truncate(rows);
                text.truncate(ends.last().map_or(0, |it| it.0 as usize));
            }
        }
    }

    #[inline]
    pub(super) fn push_long(&mut self, value: i64) {
        if let Self::Long(values) = self {
            values.push(Some(value));
        }
    }

    #[inline]
    pub(super) fn push_text(&mut self, value: &str) -> Result<(), Fault> {
        if let Self::Text { ends, text } = self {
            let end = u32::try_from(text.len() + value.len()).map_err(|_| Fault::TooLarge)?;
            text.push_str(value);
            ends.push((end, true));
        }
        Ok(())
    }

    pub(super) fn push_null(&mut self) {
        match self {
            Self::Long(values) => values.push(None),
            Self::Text { ends, .. } => ends.push((ends.last().map_or(0, |it| it.0), false)),
        }
    }
}
