//! Fitting and applying: the same for one row as for many, whatever the values.

use proptest::prelude::*;
use telltale_features::{Fitting, Normaliser, Specification};

fn specification(features: &str) -> Specification {
    Specification::parse("test.toml", features).unwrap()
}

const THREE: &str = r#"
[[feature]]
column = "A"
[[feature]]
column = "B"
scale = "robust"
[[feature]]
column = "C"
scale = { from = 10, to = 20 }
clip = 3
"#;

fn fitted(rows: &[[f32; 3]]) -> Normaliser {
    let mut fitting = Fitting::new(specification(THREE));
    rows.iter().for_each(|row| fitting.add(row));
    fitting.finish()
}

fn applied(normaliser: &Normaliser, rows: &[[f32; 3]]) -> Vec<f32> {
    let mut inputs = Vec::new();
    normaliser.apply(rows.as_flattened(), 3, &mut inputs);
    inputs
}

#[test]
fn scales_by_what_was_fitted() {
    let rows: Vec<_> = (0..1001).map(|it| [it as f32, it as f32, 0.0]).collect();
    let normaliser = fitted(&rows);
    assert_eq!(normaliser.centres(), [500.0, 500.0, 15.0]);
    assert!((normaliser.scales()[0] - 289.11).abs() < 0.01);
    assert!((normaliser.scales()[1] - 370.65).abs() < 0.01);
    let inputs = applied(&normaliser, &[[500.0, 500.0, 10.0], [789.11, 500.0, 20.0], [500.0, 500.0, 99.0]]);
    let expected = [0.0, 0.0, -1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 3.0];
    for (found, expected) in inputs.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-4, "{inputs:?}");
    }
}

#[test]
fn a_few_wild_values_do_not_move_a_robust_scale() {
    let mut rows: Vec<_> = (0..1000).map(|it| [0.0, (it % 100) as f32, 0.0]).collect();
    let before = fitted(&rows);
    rows.extend([[0.0, 1e9, 0.0]; 10]);
    let after = fitted(&rows);
    assert!((before.scales()[1] - after.scales()[1]).abs() < 1.0);
}

#[test]
fn a_constant_column_is_no_evidence() {
    let normaliser = fitted(&[[7.1, 1.0, 0.0], [7.1, 2.0, 0.0], [7.1, 3.0, 0.0]]);
    assert_eq!(normaliser.constant_columns(), ["A"]);
    assert_eq!(applied(&normaliser, &[[f32::MAX, 2.0, 15.0]]), [0.0, 0.0, 0.0]);
}

#[test]
fn missing_values_stay_missing_and_do_not_count_when_fitting() {
    let normaliser = fitted(&[[1.0, 1.0, 0.0], [f32::NAN, f32::INFINITY, 0.0], [3.0, 3.0, 0.0]]);
    assert_eq!(normaliser.centres()[0], 2.0);
    let inputs = applied(&normaliser, &[[f32::NAN, f32::NEG_INFINITY, 15.0]]);
    assert!(inputs[0].is_nan() && inputs[1].is_nan());
    assert_eq!(inputs[2], 0.0);
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let parts = |centres: &[f32], scales: &[f32]| {
        Normaliser::from_parts(specification(THREE), centres.to_vec(), scales.to_vec())
            .map_err(|it| it.to_string())
    };
    assert!(parts(&[0.0; 3], &[1.0; 3]).is_ok());
    assert_eq!(parts(&[0.0; 2], &[1.0; 3]).unwrap_err(), "3 features have 2 centres and 3 scales");
    let error = parts(&[0.0, f32::NAN, 0.0], &[1.0; 3]).unwrap_err();
    assert_eq!(error, "feature B has centre NaN and scale 1; both must be finite");
    assert!(parts(&[0.0; 3], &[1.0, 1.0, 1e-45]).is_err(), "its factor would be infinite");
}

proptest! {
    /// Whatever bits a reading has, its inputs are within the clip or marked as missing, and a batch becomes what
    /// its rows become one by one.
    #[test]
    fn inputs_are_bounded_and_rows_do_not_mix(bits in prop::collection::vec(any::<[u32; 3]>(), 1..50)) {
        let rows: Vec<[f32; 3]> = bits.iter().map(|it| it.map(f32::from_bits)).collect();
        let normaliser = fitted(&rows);
        let inputs = applied(&normaliser, &rows);
        let one_by_one: Vec<f32> = rows.iter().flat_map(|it| applied(&normaliser, &[*it])).collect();
        for ((input, single), raw) in inputs.iter().zip(&one_by_one).zip(rows.as_flattened()) {
            prop_assert_eq!(input.to_bits(), single.to_bits());
            prop_assert_eq!(input.is_nan(), !raw.is_finite());
            prop_assert!(input.is_nan() || input.abs() <= 30.0);
        }
    }
}
