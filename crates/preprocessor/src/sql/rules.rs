//! What SQL may not do: every record has exactly one outcome, and the same one whenever it is read.

use std::ops::ControlFlow;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};

use super::SqlError;
use super::planner::{INPUT, problem, text};

/// Refuses a plan that is anything but `SELECT`s over the rows of `input`.
pub(super) fn one_row_for_each(plan: &LogicalPlan) -> Result<(), SqlError> {
    match plan {
        LogicalPlan::Projection(projection) => {
            projection.expr.iter().try_for_each(of_the_row_alone)?;
            one_row_for_each(&projection.input)
        }
        LogicalPlan::SubqueryAlias(alias) => one_row_for_each(&alias.input),
        LogicalPlan::TableScan(scan) if scan.table_name.table() == INPUT => Ok(()),
        LogicalPlan::TableScan(scan) => {
            Err(problem(format!("the only table is {INPUT}, not {}", scan.table_name)))
        }
        LogicalPlan::EmptyRelation(_) | LogicalPlan::Values(_) => {
            Err(problem(format!("the SQL does not read the table {INPUT}: write SELECT … FROM {INPUT}")))
        }
        LogicalPlan::Filter(_) => Err(refused("WHERE drops rows")),
        LogicalPlan::Limit(_) => Err(refused("LIMIT drops rows")),
        LogicalPlan::Distinct(_) => Err(refused("DISTINCT drops rows")),
        LogicalPlan::Aggregate(_) => Err(refused("an aggregate makes one row of many")),
        LogicalPlan::Join(_) => Err(refused("a join changes the number of rows")),
        LogicalPlan::Union(_) => Err(refused("UNION changes the number of rows")),
        LogicalPlan::Unnest(_) => Err(refused("UNNEST changes the number of rows")),
        LogicalPlan::RecursiveQuery(_) => Err(refused("a recursive query changes the number of rows")),
        LogicalPlan::Sort(_) => {
            Err(problem("ORDER BY is not supported: records keep the order of their partition"))
        }
        LogicalPlan::Window(_) => Err(problem(
            "a window function looks at other rows, but each record is computed alone; \
             for counts over time use [[stream.window]]",
        )),
        _ => Err(problem(format!("the SQL must be one SELECT … FROM {INPUT}"))),
    }
}

/// Refuses an expression that reads anything but its own row, or gives another result when it is computed
/// again.
pub(super) fn of_the_row_alone(expression: &Expr) -> Result<(), SqlError> {
    let mut found = ControlFlow::Continue(());
    let walked = expression.apply(|it| {
        let wrong = match it {
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => {
                Some("a subquery reads other rows, but each record is computed alone".to_owned())
            }
            Expr::AggregateFunction(_) => Some(refused("an aggregate makes one row of many").problem),
            Expr::WindowFunction(_) => Some("a window function looks at other rows".to_owned()),
            Expr::ScalarFunction(call) if call.func.signature().volatility != Volatility::Immutable => Some(format!(
                "{} gives another result when a record is read again; use _timestamp for the time of a record",
                text(it)
            )),
            Expr::Placeholder(_) => Some(format!("{} has no value here", text(it))),
            _ => None,
        };
        Ok(match wrong {
            Some(wrong) => {
                found = ControlFlow::Break(wrong);
                TreeNodeRecursion::Stop
            }
            None => TreeNodeRecursion::Continue,
        })
    });
    match (found, walked) {
        (ControlFlow::Break(wrong), _) => Err(problem(wrong)),
        (_, Err(error)) => Err(problem(error.strip_backtrace())),
        _ => Ok(()),
    }
}

fn refused(why: &str) -> SqlError {
    problem(format!(
        "{why}, but every record must have exactly one outcome; \
         to set records aside use [[stream.check]], which makes them dead letters"
    ))
}
