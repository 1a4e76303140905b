//! From text to physical expressions.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use datafusion::catalog::empty::EmptyTable;
use datafusion::common::{DFSchema, DataFusionError, Result as PlanResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::expressions::CastExpr;
use datafusion::physical_plan::PhysicalExpr;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use super::{Checks, Projection, SqlError, Stage, rules};

/// Name of the table that SQL reads.
pub const INPUT: &str = "input";

/// Longest SQL text, in bytes.
const TEXT_LIMIT: usize = 64 * 1024;
/// Most words and signs between two commas: so deep can an expression be, and the planner recurses into it.
const EXPRESSION_LIMIT: usize = 1000;
/// Stack for planning: enough for the deepest expression.
const STACK_BYTES: usize = 256 << 20;

impl Projection {
    /// Plans `sql` over the table `input` with the columns of `input`, so that it gives the columns of
    /// `target`.
    ///
    /// Numbers are widened where the target's type holds every value; any other difference of types is
    /// refused.
    ///
    /// # Errors
    ///
    /// Returns DataFusion's message for SQL that it cannot plan, or says what the target needs or does not
    /// have, or which part would not give exactly one row for each row.
    pub fn plan(sql: &str, input: &SchemaRef, target: &SchemaRef) -> Result<Self, SqlError> {
        check_size(sql)?;
        on_large_stack(|| Self::plan_here(sql, input, target))
    }

    fn plan_here(sql: &str, input: &SchemaRef, target: &SchemaRef) -> Result<Self, SqlError> {
        let context = context();
        context
            .register_table(INPUT, Arc::new(EmptyTable::new(Arc::clone(input))))
            .map_err(|it| explain(&it))?;
        let state = context.state();
        let written = now(state.create_logical_plan(sql)).map_err(|it| explain(&it))?;
        rules::one_row_for_each(&written)?;
        let analyzed = state
            .analyzer()
            .execute_and_check(written, state.config_options(), |_, _| {})
            .map_err(|it| explain(&it))?;
        let mut stages = Vec::new();
        let given = collect(&state, &analyzed, input, &mut stages)?;
        stages.push(fit(&given, target)?);
        Ok(Self { stages })
    }
}

impl Checks {
    /// Plans each of `checks` over the columns of `target` and of `input`.
    ///
    /// A name that both have is qualified: `target.speed`, `input.speed`.
    ///
    /// # Errors
    ///
    /// Returns the number of the check that is wrong, and why.
    pub fn plan(checks: &[&str], target: &SchemaRef, input: &SchemaRef) -> Result<Self, (usize, SqlError)> {
        let state = context().state();
        let columns = check_columns(target, input).map_err(|it| (0, explain(&it)))?;
        let mut planned = Vec::with_capacity(checks.len());
        for (index, sql) in checks.iter().enumerate() {
            let check = check_size(sql).and_then(|()| on_large_stack(|| plan_check(&state, sql, &columns)));
            planned.push(check.map_err(|it| (index, it))?);
        }
        Ok(Self { schema: Arc::clone(columns.inner()), checks: planned })
    }
}

fn plan_check(
    state: &SessionState,
    sql: &str,
    columns: &DFSchema,
) -> Result<Arc<dyn PhysicalExpr>, SqlError> {
    let expression = state.create_logical_expr(sql, columns).map_err(|it| explain(&it))?;
    rules::of_the_row_alone(&expression)?;
    let physical = physical(state, expression, columns)?;
    let found = physical.data_type(columns.as_arrow()).map_err(|it| explain(&it))?;
    if found != DataType::Boolean {
        return Err(problem(format!("a check must be true or false, but {sql:?} is {found}")));
    }
    Ok(physical)
}

/// The physical expression, simplified: some functions, such as COALESCE, exist only until they are
/// simplified.
fn physical(
    state: &SessionState,
    expression: Expr,
    columns: &DFSchema,
) -> Result<Arc<dyn PhysicalExpr>, SqlError> {
    let context = SimplifyContext::builder()
        .with_schema(Arc::new(columns.clone()))
        .with_config_options(Arc::clone(state.config_options()))
        .build();
    let simplifier = ExprSimplifier::new(context);
    let simplified = simplifier.coerce(expression, columns).and_then(|it| simplifier.simplify(it));
    simplified.and_then(|it| state.create_physical_expr(it, columns)).map_err(|it| explain(&it))
}

/// The columns a check may name.
fn check_columns(target: &SchemaRef, input: &SchemaRef) -> PlanResult<DFSchema> {
    DFSchema::try_from_qualified_schema("target", target)?
        .join(&DFSchema::try_from_qualified_schema(INPUT, input)?)
}

/// Reads identifiers as they are written, as schemas do, and says where in the text an error is.
fn context() -> SessionContext {
    let mut config = SessionConfig::new();
    let parser = &mut config.options_mut().sql_parser;
    parser.enable_ident_normalization = false;
    parser.map_string_types_to_utf8view = false;
    parser.collect_spans = true;
    SessionContext::new_with_config(config)
}

/// Turns the `SELECT`s of `plan` into stages and returns the columns that the last one gives.
fn collect(
    state: &SessionState,
    plan: &LogicalPlan,
    input: &SchemaRef,
    stages: &mut Vec<Stage>,
) -> Result<SchemaRef, SqlError> {
    match plan {
        LogicalPlan::TableScan(_) => Ok(Arc::clone(input)),
        LogicalPlan::SubqueryAlias(alias) => collect(state, &alias.input, input, stages),
        LogicalPlan::Projection(projection) => {
            let read = collect(state, &projection.input, input, stages)?;
            let named = projection.input.schema();
            let mut expressions = Vec::with_capacity(projection.expr.len());
            let mut fields = Vec::with_capacity(projection.expr.len());
            for (expression, field) in projection.expr.iter().zip(projection.schema.fields()) {
                let physical = physical(state, expression.clone().unalias(), named)?;
                let found = physical.data_type(&read).map_err(|it| explain(&it))?;
                // Nullable whatever the planner thinks: what it cannot prove must not end the process.
                fields.push(Field::new(field.name(), found, true));
                expressions.push(physical);
            }
            let schema = Arc::new(ArrowSchema::new(fields));
            stages.push(Stage { expressions, schema: Arc::clone(&schema) });
            Ok(schema)
        }
        other => Err(problem(format!("{} is not supported", other.display()))),
    }
}

/// The stage that puts the columns of `given` into the order and types of `target`.
fn fit(given: &SchemaRef, target: &SchemaRef) -> Result<Stage, SqlError> {
    for (index, field) in given.fields().iter().enumerate() {
        if target.index_of(field.name()).is_err() {
            let hint =
                similar(field.name(), target).map(|it| format!("; did you mean {it}?")).unwrap_or_default();
            return Err(problem(format!(
                "the SQL gives column {:?}, which the target schema does not have{hint}",
                field.name()
            )));
        }
        if given.fields()[..index].iter().any(|it| it.name() == field.name()) {
            return Err(problem(format!("the SQL gives column {:?} twice", field.name())));
        }
    }
    let mut expressions: Vec<Arc<dyn PhysicalExpr>> = Vec::with_capacity(target.fields().len());
    let mut fields = Vec::with_capacity(target.fields().len());
    for wanted in target.fields() {
        let Ok(index) = given.index_of(wanted.name()) else {
            return Err(problem(format!(
                "the target schema has column {:?}, which the SQL does not give; add an expression AS {}",
                wanted.name(),
                wanted.name()
            )));
        };
        let found = given.field(index).data_type();
        let column = datafusion::physical_expr::expressions::Column::new(wanted.name(), index);
        let column: Arc<dyn PhysicalExpr> = Arc::new(column);
        expressions.push(if found == wanted.data_type() {
            column
        } else if widens(found, wanted.data_type()) {
            Arc::new(CastExpr::new(column, wanted.data_type().clone(), None))
        } else {
            return Err(problem(format!(
                "column {:?} is {found}, but the target schema wants {}; use CAST",
                wanted.name(),
                wanted.data_type()
            )));
        });
        fields.push(Field::new(wanted.name(), wanted.data_type().clone(), true));
    }
    Ok(Stage { expressions, schema: Arc::new(ArrowSchema::new(fields)) })
}

/// Whether every value of `from` is a value of `to`.
pub(crate) fn widens(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Float32, Float64, Int8, Int16, Int32, Int64, LargeUtf8, Null, UInt8, UInt16, UInt32, Utf8, Utf8View,
    };
    match to {
        _ if from == to || *from == Null => true,
        Int32 => matches!(from, Int8 | Int16 | UInt8 | UInt16),
        Int64 => matches!(from, Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32),
        Float32 => matches!(from, Int8 | Int16 | UInt8 | UInt16),
        Float64 => matches!(from, Float32 | Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32),
        Utf8 => matches!(from, LargeUtf8 | Utf8View),
        _ => false,
    }
}

fn similar<'a>(name: &str, schema: &'a SchemaRef) -> Option<&'a String> {
    schema.fields().iter().map(|it| it.name()).find(|it| it.eq_ignore_ascii_case(name))
}

/// Refuses what would need more stack than there is.
fn check_size(sql: &str) -> Result<(), SqlError> {
    if sql.len() > TEXT_LIMIT {
        return Err(problem(format!("SQL of {} bytes is longer than {TEXT_LIMIT}", sql.len())));
    }
    // What cannot be cut into words is refused by the parser, with its own message.
    let words = Tokenizer::new(&GenericDialect {}, sql).tokenize().unwrap_or_default();
    let longest = words
        .split(|it| *it == Token::Comma)
        .map(|it| it.iter().filter(|word| !matches!(word, Token::Whitespace(_))).count())
        .max();
    if longest > Some(EXPRESSION_LIMIT) {
        return Err(problem(format!("an expression has more than {EXPRESSION_LIMIT} words and signs")));
    }
    Ok(())
}

fn on_large_stack<T: Send>(plan: impl FnOnce() -> Result<T, SqlError> + Send) -> Result<T, SqlError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("sql-planner".to_owned()).stack_size(STACK_BYTES);
        match thread.spawn_scoped(scope, plan) {
            Ok(planner) => {
                planner.join().unwrap_or_else(|_| Err(problem("the planner panicked on this SQL")))
            }
            Err(error) => Err(problem(format!("cannot start a thread to plan SQL: {error}"))),
        }
    })
}

pub(super) fn problem(problem: impl Into<String>) -> SqlError {
    SqlError { problem: problem.into(), line: None }
}

/// DataFusion's message, and the line it speaks of.
fn explain(error: &DataFusionError) -> SqlError {
    let text = error.strip_backtrace();
    let line = error
        .diagnostic()
        .and_then(|it| it.span)
        .map(|it| it.start.line)
        // The parser puts it into its message: `… at Line: 3, Column: 8`.
        .or_else(|| text.split_once("Line: ")?.1.split(|it: char| !it.is_ascii_digit()).next()?.parse().ok())
        .and_then(|it| usize::try_from(it).ok())
        .filter(|&it| it > 0);
    SqlError { problem: text, line }
}

/// The result of a future that has nothing to wait for: all tables are in memory.
fn now<T>(future: impl Future<Output = PlanResult<T>>) -> PlanResult<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => {
            Err(DataFusionError::Internal("planning waits for something outside the process".to_owned()))
        }
    }
}

/// Whether `expression` is written as a column, for messages.
pub(super) fn text(expression: &Expr) -> String {
    expression.human_display().to_string()
}
