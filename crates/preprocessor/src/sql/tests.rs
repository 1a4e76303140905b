//! Planned SQL gives what DataFusion's own engine gives, and one bad row does not harm its neighbours.

use arrow::array::{Array, AsArray, Float64Array, Int32Array, Int64Array, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema as ArrowSchema};

use super::*;

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(ArrowSchema::new(
        fields.iter().map(|(name, of)| Field::new(*name, of.clone(), true)).collect::<Vec<_>>(),
    ))
}

fn input() -> RecordBatch {
    let schema = schema(&[("speed", DataType::Float64), ("car", DataType::Utf8), ("n", DataType::Int32)]);
    let speed = Float64Array::from(vec![Some(1.0), None, Some(3.0), Some(4.0)]);
    let car = StringArray::from(vec![Some("7"), Some("x"), None, Some("9")]);
    let n = Int32Array::from(vec![Some(2), Some(0), Some(5), None]);
    RecordBatch::try_new(schema, vec![Arc::new(speed), Arc::new(car), Arc::new(n)]).unwrap()
}

#[test]
fn nested_selects_are_evaluated_inside_out() {
    let input = input();
    let target = schema(&[("B", DataType::Float64), ("A", DataType::Float64)]);
    let sql = "WITH doubled AS (SELECT speed * 2 AS twice, n FROM input) \
               SELECT twice + n AS A, n AS B FROM (SELECT n, twice FROM doubled) AS d";
    let projection = Projection::plan(sql, &input.schema(), &target).unwrap();
    let found = projection.evaluate(&input);
    assert!(found.failed.is_empty());
    let a: Vec<_> = found.columns.column(1).as_primitive::<Float64Type>().iter().collect();
    assert_eq!(a, [Some(4.0), None, Some(11.0), None]);
    let b: Vec<_> = found.columns.column(0).as_primitive::<Float64Type>().iter().collect();
    assert_eq!(b, [Some(2.0), Some(0.0), Some(5.0), None]);
}

#[test]
fn a_row_that_cannot_be_computed_stands_alone() {
    let input = input();
    let target = schema(&[("N", DataType::Int64), ("D", DataType::Int64)]);
    let sql = "SELECT CAST(car AS BIGINT) AS N, CAST(10 / n AS BIGINT) AS D FROM input";
    let found = Projection::plan(sql, &input.schema(), &target).unwrap().evaluate(&input);
    assert_eq!(found.rows, [0, 2, 3]);
    let n: Vec<_> = found.columns.column(0).as_primitive::<Int64Type>().iter().collect();
    assert_eq!(n, [Some(7), None, Some(9)]);
    assert_eq!(found.failed.len(), 1);
    assert_eq!(found.failed[0].0, 1);
    assert!(found.failed[0].1.contains("Cannot cast string 'x'"), "{}", found.failed[0].1);
}

#[test]
fn constants_have_as_many_rows_as_the_input() {
    let input = input();
    let target = schema(&[("ONE", DataType::Float64), ("NONE", DataType::Utf8)]);
    let projection = Projection::plan("SELECT 1 AS ONE, NULL AS NONE FROM input", &input.schema(), &target);
    let projection = projection.unwrap_err();
    // 1 is a BIGINT, which a double does not always hold.
    assert!(projection.problem.contains("use CAST"), "{projection}");
    let sql = "SELECT 1.0 AS ONE, NULL AS NONE FROM input";
    let found = Projection::plan(sql, &input.schema(), &target).unwrap().evaluate(&input);
    assert_eq!((found.columns.num_rows(), found.columns.column(1).null_count()), (4, 4));
}

#[test]
fn the_first_check_that_fails_is_named_and_null_fails() {
    let input = input();
    let target = schema(&[("SPEED", DataType::Float64), ("car", DataType::Utf8)]);
    let sql = "SELECT speed AS SPEED, car FROM input";
    let columns = Projection::plan(sql, &input.schema(), &target).unwrap().evaluate(&input).columns;
    let checks =
        ["SPEED BETWEEN 0 AND 3.5", "n <> 5", "10 / n >= 1", "target.car IS NULL OR input.car <> '7'"];
    let checks = Checks::plan(&checks, &target, &input.schema()).unwrap();
    assert_eq!(checks.first_failed(&columns, &input), [Some(3), Some(0), Some(1), Some(0)]);
    let none = Checks::plan(&[], &target, &input.schema()).unwrap();
    assert_eq!(none.first_failed(&columns, &input), [None; 4]);
}

#[test]
fn an_ambiguous_name_in_a_check_must_be_qualified() {
    let both = schema(&[("car", DataType::Utf8)]);
    let (index, error) = Checks::plan(&["true", "car = 'a'"], &both, &both).unwrap_err();
    assert_eq!(index, 1);
    assert!(error.problem.contains("mbiguous"), "{error}");
}

/// DataFusion 55 subtracts with overflow in the first, and allocates a negative length in the second.
#[test]
fn a_function_that_panics_fails_its_row_alone() {
    let schema = schema(&[("n", DataType::Int64)]);
    let n = Int64Array::from(vec![1, i64::MIN, -7, 2]);
    let input = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(n)]).unwrap();
    let target = self::schema(&[("OUT", DataType::Utf8)]);
    let cases = [
        ("CAST(date_trunc('hour', to_timestamp_millis(n)) AS VARCHAR)", vec![0, 2, 3]),
        ("lpad('x', n % 10, '-')", vec![0, 3]),
    ];
    for (expression, good) in cases {
        let sql = format!("SELECT {expression} AS OUT FROM input");
        let found = Projection::plan(&sql, &schema, &target).unwrap().evaluate(&input);
        assert_eq!(found.rows, good, "{expression}: {:?}", found.failed);
        assert!(found.failed.iter().all(|it| it.1.contains("a function of the SQL panicked")));
        let checks = Checks::plan(&[&format!("({expression}) <> ''")], &schema, &self::schema(&[])).unwrap();
        let nothing = RecordBatch::try_new_with_options(
            self::schema(&[]),
            vec![],
            &RecordBatchOptions::new().with_row_count(Some(4)),
        );
        let failed = checks.first_failed(&input, &nothing.unwrap());
        let passed: Vec<u32> = (0..4).filter(|it| failed[*it as usize].is_none()).collect();
        assert_eq!(passed, good, "{expression}");
    }
}
