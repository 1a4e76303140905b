//! A model is a function of (configuration, seed, rows), whatever the order and however many threads.

mod common;

use std::process::Command;

use common::{COLUMNS, Readings, config, lineage, readings, specification, trained, trainer};
use telltale_features::Specification;
use telltale_model::{Rows, Scores, TrainError, Trainer, TrainingConfig};

#[test]
fn the_same_rows_and_seed_give_the_same_bytes_in_any_order() {
    let expected = trained(7).artifact;
    let all = readings(40, 30);
    let orders: [(&str, Vec<usize>); 3] = [
        ("backwards", (0..1200).rev().collect()),
        ("second by second", (0..1200).map(|it| it % 40 * 30 + it / 40).collect()),
        ("two partitions in turns", (0..1200).map(|it| it / 2 + it % 2 * 600).collect()),
    ];
    for (name, order) in orders {
        let mut trainer = trainer(7);
        for part in order.chunks(77) {
            trainer.feed(&all.chosen(part).rows()).unwrap();
        }
        let found = trainer.finish(lineage()).unwrap().artifact;
        assert_eq!(found.sha256, expected.sha256, "{name}");
        assert_eq!(found.bytes, expected.bytes, "{name}");
    }
}

#[test]
fn another_seed_configuration_row_or_lineage_gives_another_hash() {
    let expected = trained(7).artifact.sha256;
    assert_ne!(trained(8).artifact.sha256, expected, "seed");
    let finish = |config: TrainingConfig, change: fn(&mut Readings), code_version: &str| {
        let mut trainer = Trainer::new(specification(), config, 7).unwrap();
        let mut rows = readings(40, 30);
        change(&mut rows);
        trainer.feed(&rows.rows()).unwrap();
        let mut lineage = lineage();
        lineage.code_version = code_version.to_owned();
        trainer.finish(lineage).unwrap().artifact.sha256
    };
    assert_eq!(finish(config(), |_| {}, "test"), expected);
    assert_ne!(finish(config(), |_| {}, "other"), expected, "lineage");
    assert_ne!(finish(config(), |it| it.values[0] += 0.5, "test"), expected, "row");
    assert_ne!(finish(TrainingConfig { batch: 64, ..config() }, |_| {}, "test"), expected, "configuration");
}

/// Not a fact by itself: the test below runs it in processes with other numbers of threads.
#[test]
fn prints_the_hash_of_a_model() {
    println!("sha256={}", trained(7).artifact.sha256);
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let hash = |threads: &str| {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "prints_the_hash_of_a_model", "--nocapture"])
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find_map(|it| it.split("sha256=").nth(1)).map(str::to_owned);
        line.unwrap_or_else(|| panic!("no hash in {text}"))
    };
    let one = hash("1");
    assert_eq!(one.len(), 64);
    assert_eq!(hash("2"), one);
    assert_eq!(hash("4"), one);
}

#[test]
fn of_more_rows_than_the_capacity_the_same_are_kept_in_any_order() {
    let all = readings(40, 240);
    let train = |order: &mut dyn Iterator<Item = usize>| {
        let mut trainer = trainer(7);
        let order: Vec<usize> = order.collect();
        for part in order.chunks(500) {
            trainer.feed(&all.chosen(part).rows()).unwrap();
        }
        assert_eq!(trainer.seen(), 9600);
        trainer.finish(lineage()).unwrap()
    };
    let one = train(&mut (0..9600));
    let other = train(&mut (0..9600).rev());
    assert_eq!(one.model.about().rows, 5000);
    assert_eq!(one.artifact.sha256, other.artifact.sha256);
}

#[test]
fn too_little_to_learn_from_is_said() {
    let finish = |rows: &Readings| {
        let mut trainer = trainer(7);
        trainer.feed(&rows.rows()).unwrap();
        trainer.finish(lineage()).unwrap_err().to_string()
    };
    assert_eq!(finish(&Readings::default()), "0 of 0 readings can be learned from; at least 200 are needed");
    let mut missing = readings(40, 30);
    missing.values.fill(f32::NAN);
    assert_eq!(finish(&missing), "0 of 1200 readings can be learned from; at least 200 are needed");
    let mut constant = readings(40, 30);
    constant.values.fill(5.0);
    assert_eq!(finish(&constant), "no column varies in 1200 readings: there is nothing to learn");
}

#[test]
fn rows_that_do_not_belong_together_are_refused() {
    let mut rows = readings(2, 3);
    rows.times_ms.pop();
    let error = trainer(7).feed(&rows.rows()).unwrap_err();
    assert_eq!(error.to_string(), "24 values, 6 devices and 5 times are no rows of 4 columns");
    let short = Rows { values: &[1.0; 3], devices: &[1], times_ms: &[1], failing: &[] };
    assert!(matches!(trainer(7).feed(&short), Err(TrainError::Shape { .. })));
    let bad = TrainingConfig { epochs: 0, ..config() };
    assert!(matches!(Trainer::new(specification(), bad, 7), Err(TrainError::Config(_))));
}

#[test]
fn missing_and_wild_values_neither_stop_training_nor_spoil_the_model() {
    let mut rows = readings(40, 30);
    for (index, value) in rows.values.iter_mut().enumerate() {
        match index % 97 {
            0 => *value = f32::NAN,
            1 => *value = f32::INFINITY,
            2 if index % 5 == 0 => *value = f32::MAX,
            _ => {}
        }
    }
    let mut trainer = trainer(7);
    trainer.feed(&rows.rows()).unwrap();
    let trained = trainer.finish(lineage()).unwrap();
    assert!(trained.curve.iter().all(|it| it.loss.is_finite() && it.held_back_loss.is_finite()));
    let mut scores = Scores::default();
    trained.model.score(&readings(5, 10).values, &mut scores);
    assert!(scores.unscorable.is_empty() && scores.scores.iter().all(|it| it.is_finite()));
}

#[test]
fn a_reading_that_lacks_too_much_is_not_scored_and_the_others_are() {
    let model = trained(7).model;
    let mut values = readings(1, 3).values;
    values[COLUMNS..COLUMNS + 2].fill(f32::NAN);
    values[2 * COLUMNS] = f32::NEG_INFINITY;
    let mut scores = Scores::default();
    model.score(&values, &mut scores);
    assert_eq!(scores.unscorable.len(), 1);
    assert_eq!((scores.unscorable[0].row, scores.unscorable[0].missing), (1, 2));
    assert!(scores.scores[0].is_finite() && scores.scores[1].is_nan() && scores.scores[2].is_finite());
}

#[test]
fn labelled_rows_are_left_out_where_the_specification_says_so() {
    let text = format!("[training]\nlabel = \"exclude\"\n{}", common::FEATURES);
    let rows = readings(40, 30);
    let failing: Vec<bool> = (0..1200).map(|it| it % 3 == 0).collect();
    for (text, expected) in [(text.as_str(), 800), (common::FEATURES, 1200)] {
        let specification = Specification::parse("test.toml", text).unwrap();
        let mut trainer = Trainer::new(specification, config(), 7).unwrap();
        trainer.feed(&Rows { failing: &failing, ..rows.rows() }).unwrap();
        assert_eq!(trainer.finish(lineage()).unwrap().model.about().rows, expected);
    }
}

#[test]
fn few_devices_or_one_are_enough() {
    for (devices, seconds) in [(1, 300), (3, 600)] {
        let mut trainer = trainer(7);
        trainer.feed(&readings(devices, seconds).rows()).unwrap();
        let model = trainer.finish(lineage()).unwrap().model;
        assert!(model.threshold() > 0.0, "{devices} devices");
    }
}

/// One of the fleet's sensors follows the square of what the others follow linearly.
#[test]
fn what_bends_is_learned_beyond_the_linear_beginning() {
    let config = TrainingConfig {
        hidden: vec![24, 12, 24],
        visits: 200_000,
        epochs: 100,
        batch: 64,
        noise: 0.1,
        ..config()
    };
    let mut trainer = Trainer::new(specification(), config, 7).unwrap();
    trainer.feed(&readings(60, 60).rows()).unwrap();
    let trained = trainer.finish(lineage()).unwrap();
    let best = trained.curve.iter().map(|it| it.held_back_loss).fold(f32::INFINITY, f32::min);
    let linear = trained.curve[0].held_back_loss;
    assert!(best < linear * 0.85, "loss {linear} when linear, {best} in the end");
    // A reading that fits the linear relations and has the wrong bend.
    let (mut scores, mut bent) = (Scores::default(), 0);
    for device in 0..50 {
        let mut reading = common::reading(device, 7);
        trained.model.score(&reading, &mut scores);
        let healthy = scores.scores[0];
        reading[2] = if reading[2] > 0.5 { reading[2] - 0.5 } else { reading[2] + 0.5 };
        trained.model.score(&reading, &mut scores);
        bent +=
            usize::from(scores.scores[0] > trained.model.threshold() && healthy < trained.model.threshold());
    }
    assert!(bent >= 35, "{bent} of 50");
}
