//! `features.toml` is checked completely, and its errors say file, line and key.

use telltale_features::{Scale, Specification, Transform};

#[test]
fn the_car_default_is_valid() {
    let cars = Specification::cars();
    assert_eq!(cars.features.len(), 18);
    assert_eq!(cars.columns()[0], "COOLANT_TEMP");
    assert_eq!(cars.label.as_ref().unwrap().column, "FAILURE_OCCURRED");
    assert!(!cars.exclude_failing);
    assert_eq!(cars.check(), Ok(()));
}

#[test]
fn every_setting_is_read() {
    let text = r#"
max_missing = 0.5
[label]
column = "L"
failing = "yes"
[training]
label = "exclude"
filter = [{ column = "A", at_least = 1.0, at_most = 2.0 }, { column = "Z", at_least = 0 }]
[[feature]]
column = "A"
transform = "log1p"
scale = "robust"
clip = 5
[[feature]]
column = "B"
scale = { from = 10, to = 20 }
"#;
    let specification = Specification::parse("f.toml", text).unwrap();
    assert_eq!(specification.features[0].transform, Transform::Log1p);
    assert_eq!(specification.features[0].scale, Scale::Robust);
    assert_eq!(specification.features[1].scale, Scale::Range { from: 10.0, to: 20.0 });
    assert_eq!(specification.columns(), ["A", "B"]);
    assert_eq!(specification.training_columns(), ["A", "B", "Z"]);
    let cases = [
        ("meets all", [1.5, 0.0, 0.0], false, true),
        ("labelled", [1.5, 0.0, 0.0], true, false),
        ("below", [0.5, 0.0, 0.0], false, false),
        ("above", [2.5, 0.0, 0.0], false, false),
        ("other column", [1.5, 0.0, -1.0], false, false),
        ("one missing of two", [1.5, f32::NAN, 0.0], false, true),
        ("filter missing", [1.5, 0.0, f32::NAN], false, false),
    ];
    for (name, row, failing, expected) in cases {
        assert_eq!(specification.learns_from(&row, failing), expected, "{name}");
    }
}

#[test]
fn errors_name_file_line_and_key() {
    let two = "[[feature]]\ncolumn = \"A\"\n[[feature]]\ncolumn = \"B\"\n";
    let cases: &[(&str, String, usize, &str, &str)] = &[
        ("not TOML", format!("{two}x = ="), 5, "feature[1].x", ""),
        ("unknown key", format!("colour = 1\n{two}"), 1, "colour", "unknown field"),
        ("unknown feature key", format!("{two}clap = 1\n"), 5, "feature[1].clap", "unknown field"),
        ("no column", format!("{two}[[feature]]\nclip = 3\n"), 5, "feature[2]", "missing field `column`"),
        (
            "column of wrong type",
            format!("{two}[[feature]]\ncolumn = 3\n"),
            6,
            "feature[2].column",
            "expected a string",
        ),
        ("empty column", format!("{two}[[feature]]\ncolumn = \"\"\n"), 6, "feature[2].column", "1 to 256"),
        (
            "twice",
            format!("{two}[[feature]]\ncolumn = \"A\"\n"),
            6,
            "feature[2].column",
            "feature[0] already",
        ),
        ("transform", format!("{two}transform = \"log\"\n"), 5, "feature[1].transform", "\"log1p\""),
        ("scale", format!("{two}scale = \"z\"\n"), 5, "feature[1].scale", "\"z-score\""),
        ("range", format!("{two}scale = {{ from = 1, to = 1 }}\n"), 5, "feature[1].scale", "two different"),
        ("clip", format!("{two}clip = 0\n"), 5, "feature[1].clip", "clip 0"),
        ("clip NaN", format!("{two}clip = nan\n"), 5, "feature[1].clip", "clip NaN"),
        ("max_missing", format!("max_missing = 1.5\n{two}"), 1, "max_missing", "1.5 is not 0 to 1"),
        (
            "label is a feature",
            format!("[label]\ncolumn = \"B\"\nfailing = \"1\"\n{two}"),
            7,
            "feature[1].column",
            "must not",
        ),
        ("label word", format!("[training]\nlabel = \"use\"\n{two}"), 2, "training.label", "neither"),
        (
            "exclude without label",
            format!("[training]\nlabel = \"exclude\"\n{two}"),
            2,
            "training.label",
            "[label]",
        ),
        (
            "filter",
            format!("[training]\nfilter = [{{ column = \"A\" }}]\n{two}"),
            2,
            "training.filter",
            "at_least",
        ),
        (
            "impossible filter",
            format!("[training]\nfilter = [{{ column = \"A\", at_least = 2, at_most = 1 }}]\n{two}"),
            2,
            "training.filter",
            "no reading could meet it",
        ),
        ("one feature", "[[feature]]\ncolumn = \"A\"\n".to_owned(), 3, "feature[0]", "1 [[feature]] tables"),
        ("nothing", String::new(), 1, "", "0 [[feature]] tables"),
    ];
    for (name, text, line, key, problem) in cases {
        let error = Specification::parse("my.toml", text).unwrap_err().to_string();
        let start = format!("my.toml, line {line}, key {key:?}: ");
        assert!(error.starts_with(&start), "{name}: {error}");
        assert!(error.contains(problem), "{name}: {error}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Specification::read("/nowhere/features.toml".as_ref()).unwrap_err();
    assert_eq!(error.to_string(), "reading feature specification /nowhere/features.toml");
}
