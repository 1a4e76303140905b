//! Expressions on columns, and what to do when one row is at fault.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::common::{DataFusionError, Result as PlanResult};

use super::{Checks, Evaluated, Projection, Stage};

impl Projection {
    /// The target's columns, as [`Projection::evaluate`] gives them: any of them may be null.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.stages.last().expect("a projection ends with the target's columns").schema
    }

    /// Computes the target's columns for each row of `input`.
    ///
    /// DataFusion fails a whole batch for one row that cannot be computed, such as a text that is no number:
    /// the batch is then halved until the rows at fault are alone, so that they do not harm their neighbours.
    ///
    /// # Panics
    ///
    /// Panics when `input` has more than `u32::MAX` rows.
    #[must_use]
    pub fn evaluate(&self, input: &RecordBatch) -> Evaluated {
        let count = u32::try_from(input.num_rows()).expect("a batch has fewer rows than u32 can count");
        match self.compute(input) {
            Ok(columns) => Evaluated { columns, rows: (0..count).collect(), failed: Vec::new() },
            Err(_) => self.isolate(input),
        }
    }

    /// Computes what can be computed of a batch with rows at fault.
    fn isolate(&self, input: &RecordBatch) -> Evaluated {
        let mut good = Vec::new();
        let mut rows = Vec::new();
        let mut failed = Vec::new();
        let mut parts = vec![(0, input.num_rows())];
        while let Some((start, length)) = parts.pop() {
            match self.compute(&input.slice(start, length)) {
                Ok(columns) => {
                    good.push(columns);
                    rows.extend((start..start + length).map(number));
                }
                Err(_) if length == 0 => {}
                Err(error) if length == 1 => failed.push((number(start), error.strip_backtrace())),
                Err(_) => {
                    let half = length / 2;
                    parts.push((start + half, length - half));
                    parts.push((start, half));
                }
            }
        }
        let columns = concat_batches(self.schema(), &good).expect("all parts have the target's columns");
        Evaluated { columns, rows, failed }
    }

    fn compute(&self, input: &RecordBatch) -> PlanResult<RecordBatch> {
        guarded(|| {
            let (first, rest) =
                self.stages.split_first().expect("a projection ends with the target's columns");
            let mut columns = first.compute(input)?;
            for stage in rest {
                columns = stage.compute(&columns)?;
            }
            Ok(columns)
        })
    }
}

impl Stage {
    fn compute(&self, input: &RecordBatch) -> PlanResult<RecordBatch> {
        let rows = input.num_rows();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.expressions.len());
        for expression in &self.expressions {
            columns.push(expression.evaluate(input)?.into_array(rows)?);
        }
        with_rows(&self.schema, columns, rows)
    }
}

impl Checks {
    /// Number of the first check that each row does not fulfil, `None` where it fulfils all.
    ///
    /// A check that is null, or cannot be computed, is not fulfilled. `target` and `input` hold the same
    /// rows.
    ///
    /// # Panics
    ///
    /// Panics when the columns are not those the checks were planned for.
    #[must_use]
    pub fn first_failed(&self, target: &RecordBatch, input: &RecordBatch) -> Vec<Option<usize>> {
        let mut first = vec![None; target.num_rows()];
        if self.checks.is_empty() {
            return first;
        }
        let columns = target.columns().iter().chain(input.columns()).cloned().collect();
        let both = with_rows(&self.schema, columns, target.num_rows())
            .expect("the checks were planned for these columns");
        for check in 0..self.checks.len() {
            self.mark(check, &both, 0, &mut first);
        }
        first
    }

    /// Notes which of `rows`, which begin at row `start`, fail `check` and no earlier one.
    fn mark(&self, check: usize, rows: &RecordBatch, start: usize, first: &mut [Option<usize>]) {
        let evaluate = || self.checks[check].evaluate(rows)?.into_array(rows.num_rows());
        let computed = guarded(evaluate);
        match computed {
            Ok(array) => {
                let truths: &BooleanArray =
                    array.as_any().downcast_ref().expect("a check was planned to be boolean");
                if truths.null_count() == 0 && truths.true_count() == truths.len() {
                    return;
                }
                for row in (0..truths.len()).filter(|&it| truths.is_null(it) || !truths.value(it)) {
                    first[start + row].get_or_insert(check);
                }
            }
            Err(_) if rows.num_rows() <= 1 => {
                if let Some(row) = first.get_mut(start) {
                    row.get_or_insert(check);
                }
            }
            Err(_) => {
                let half = rows.num_rows() / 2;
                self.mark(check, &rows.slice(0, half), start, first);
                self.mark(check, &rows.slice(half, rows.num_rows() - half), start + half, first);
            }
        }
    }
}

/// A function that panics on some value must not take the service down again and again: it fails that value's
/// row.
fn guarded<T>(compute: impl FnOnce() -> PlanResult<T>) -> PlanResult<T> {
    // Expressions have no state that a panic could leave half changed.
    catch_unwind(AssertUnwindSafe(compute))
        .unwrap_or_else(|_| Err(DataFusionError::Execution("a function of the SQL panicked".to_owned())))
}

fn with_rows(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> PlanResult<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|it: ArrowError| DataFusionError::ArrowError(Box::new(it), None))
}

fn number(row: usize) -> u32 {
    u32::try_from(row).expect("a batch has fewer rows than u32 can count")
}
