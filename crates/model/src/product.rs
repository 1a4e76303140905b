//! Products of matrices, for training: tiles of the result stay in registers while the depth passes by.
//!
//! ```text
//!                 b: depth × columns, in steps of PAD
//! a: rows × depth ─▶ c: 4 rows × 16 or 32 columns at a time, summed over at most DEPTH before they are put down
//! ```
//!
//! Each sum is taken in the order of the depth, whichever the instructions, so AVX2 and AVX-512 give the same bits.

use crate::instructions::{Instructions, Task, multiply_add};

/// Columns come in multiples of this; the rest is padding, 0 in the operands and so in the result.
pub(crate) const PAD: usize = 16;
/// Rows of a tile.
const ROWS: usize = 4;
/// Depth after which sums are put down, so that what is read again stays in the first cache.
const DEPTH: usize = 128;

/// `width` with its padding.
pub(crate) fn padded(width: usize) -> usize {
    width.next_multiple_of(PAD)
}

/// A matrix within a slice: row-major, `stride` from row to row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
}

/// The left operand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Left<'a> {
    /// `(rows, depth)`
    Plain(Matrix<'a>),
    /// `(depth, rows)`
    Transposed(Matrix<'a>),
}

/// `result += left · right`.
///
/// # Shapes
///
/// `right` is `(depth, columns)`, `result` `(rows, columns)` of stride `stride`; `columns` is a multiple of [`PAD`].
#[derive(Debug)]
pub(crate) struct Product<'a> {
    pub(crate) left: Left<'a>,
    pub(crate) right: Matrix<'a>,
    pub(crate) result: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) rows: usize,
    pub(crate) depth: usize,
    pub(crate) columns: usize,
}

impl Product<'_> {
    pub(crate) fn add(self, instructions: Instructions) {
        assert!(self.columns.is_multiple_of(PAD), "columns are padded");
        instructions.run(self);
    }
}

impl Task for Product<'_> {
    #[inline(always)]
    fn run<const FMA: bool, const WIDE: bool>(mut self) {
        let mut first = 0;
        while first < self.depth {
            let depth = (self.depth - first).min(DEPTH);
            let mut column = 0;
            while column < self.columns {
                if WIDE && column + 2 * PAD <= self.columns {
                    strip::<FMA, { 2 * PAD }>(&mut self, first, depth, column);
                    column += 2 * PAD;
                } else {
                    strip::<FMA, PAD>(&mut self, first, depth, column);
                    column += PAD;
                }
            }
            first += depth;
        }
    }
}

/// All rows of `COLUMNS` columns, summed over a part of the depth.
#[inline(always)]
fn strip<const FMA: bool, const COLUMNS: usize>(
    it: &mut Product<'_>,
    first: usize,
    depth: usize,
    column: usize,
) {
    let mut row = 0;
    while row + ROWS <= it.rows {
        tile::<FMA, ROWS, COLUMNS>(it, row, first, depth, column);
        row += ROWS;
    }
    while row < it.rows {
        tile::<FMA, 1, COLUMNS>(it, row, first, depth, column);
        row += 1;
    }
}

#[inline(always)]
fn tile<const FMA: bool, const ROWS: usize, const COLUMNS: usize>(
    it: &mut Product<'_>,
    row: usize,
    first: usize,
    depth: usize,
    column: usize,
) {
    let mut sums = [[0.0_f32; COLUMNS]; ROWS];
    for (index, sums) in sums.iter_mut().enumerate() {
        sums.copy_from_slice(&it.result[(row + index) * it.stride + column..][..COLUMNS]);
    }
    let right = it.right.values[first * it.right.stride..].chunks(it.right.stride).take(depth);
    match it.left {
        Left::Plain(left) => {
            let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
            for (index, rows) in rows.iter_mut().enumerate() {
                *rows = &left.values[(row + index) * left.stride + first..][..depth];
            }
            for (index, right) in right.enumerate() {
                let mut left = [0.0; ROWS];
                for row in 0..ROWS {
                    left[row] = rows[row][index];
                }
                outer::<FMA, ROWS, COLUMNS>(&mut sums, left, &right[column..]);
            }
        }
        Left::Transposed(left) => {
            let left = left.values[first * left.stride..].chunks(left.stride);
            for (left, right) in left.zip(right) {
                let left: &[f32; ROWS] = left[row..].first_chunk().expect("rows are within the stride");
                outer::<FMA, ROWS, COLUMNS>(&mut sums, *left, &right[column..]);
            }
        }
    }
    for (index, sums) in sums.iter().enumerate() {
        it.result[(row + index) * it.stride + column..][..COLUMNS].copy_from_slice(sums);
    }
}

#[inline(always)]
fn outer<const FMA: bool, const ROWS: usize, const COLUMNS: usize>(
    sums: &mut [[f32; COLUMNS]; ROWS],
    left: [f32; ROWS],
    right: &[f32],
) {
    let right: &[f32; COLUMNS] = right.first_chunk().expect("columns are padded");
    for row in 0..ROWS {
        for column in 0..COLUMNS {
            sums[row][column] = multiply_add::<FMA>(left[row], right[column], sums[row][column]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        /// The product is what three loops make, whichever the instructions; FMA gives the same bits in any width.
        #[test]
        fn the_product_is_that_of_three_loops(
            rows in 0..40_usize,
            depth in 0..300_usize,
            columns in 1..6_usize,
            transposed in any::<bool>(),
            gaps in prop::collection::vec(0..5_usize, 3),
            seed in any::<u64>(),
        ) {
            let columns = columns * PAD;
            let mut random = Random::new(seed);
            let mut draw = |count: usize| (0..count).map(|_| random.normal()).collect::<Vec<_>>();
            let (height, width) = if transposed { (depth, rows) } else { (rows, depth) };
            let (left_stride, right_stride, stride) = (width + gaps[0] + 1, columns + gaps[1], columns + gaps[2]);
            let left = draw(height * left_stride);
            let right = draw(depth * right_stride);
            let begin = draw(rows * stride);
            let mut expected = begin.clone();
            for row in 0..rows {
                for column in 0..columns {
                    let terms = (0..depth).map(|it| {
                        let at = if transposed { it * left_stride + row } else { row * left_stride + it };
                        f64::from(left[at]) * f64::from(right[it * right_stride + column])
                    });
                    expected[row * stride + column] += terms.sum::<f64>() as f32;
                }
            }
            let mut wide: Option<Vec<f32>> = None;
            for instructions in Instructions::available() {
                let mut result = begin.clone();
                let matrix = Matrix { values: &left, stride: left_stride };
                Product {
                    left: if transposed { Left::Transposed(matrix) } else { Left::Plain(matrix) },
                    right: Matrix { values: &right, stride: right_stride },
                    result: &mut result,
                    stride,
                    rows,
                    depth,
                    columns,
                }
                .add(instructions);
                for (found, expected) in result.iter().zip(&expected) {
                    prop_assert!((found - expected).abs() < 1e-4, "{instructions:?}: {found} {expected}");
                }
                if instructions > Instructions::Portable {
                    prop_assert_eq!(wide.get_or_insert_with(|| result.clone()), &result, "{:?}", instructions);
                }
            }
        }
    }
}
