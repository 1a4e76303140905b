//! SQL, planned once at start and evaluated straight on the columns of each batch.
//!
//! ```text
//! at start      SELECT … FROM input ─▶ DataFusion's planner ─▶ refuse what changes the number of rows ─▶ Projection
//! for a batch   columns of input ─▶ physical expressions ─▶ columns of the target
//! ```
//!
//! A projection gives one row for each row, so it needs no query engine at run time: planning a query for
//! each batch costs more than a millisecond, evaluating its expressions some microseconds. This file and the
//! ones below it are the only ones that name DataFusion.

mod evaluate;
mod planner;
mod rules;

pub use planner::INPUT;
pub(crate) use planner::widens;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::physical_plan::PhysicalExpr;

/// Why SQL was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct SqlError {
    /// What is wrong, in DataFusion's words where they are DataFusion's.
    pub problem: String,
    /// Line within the SQL where it is wrong, from 1, if DataFusion says so.
    pub line: Option<usize>,
}

/// A planned `SELECT` that gives one row of the target for each row of the input.
#[derive(Debug)]
pub struct Projection {
    /// Expressions of each `SELECT`, innermost first; each reads what the one before it gives.
    stages: Vec<Stage>,
}

/// Boolean expressions that a row of the target must fulfil.
#[derive(Debug)]
pub struct Checks {
    /// Columns of the target, then those of the input.
    schema: SchemaRef,
    checks: Vec<Arc<dyn PhysicalExpr>>,
}

/// The expressions of one `SELECT` and the columns they give.
#[derive(Debug)]
struct Stage {
    expressions: Vec<Arc<dyn PhysicalExpr>>,
    schema: SchemaRef,
}

/// What became of the rows of a batch.
#[derive(Debug)]
pub struct Evaluated {
    /// The rows that could be computed, in order.
    pub columns: RecordBatch,
    /// Which input row each row of `columns` came from.
    pub rows: Vec<u32>,
    /// Input rows that could not be computed, in order, with DataFusion's message.
    pub failed: Vec<(u32, String)>,
}

#[cfg(test)]
mod tests;
