//! Failures break the way in which a healthy car's sensors go together, clearly enough for a linear model
//! that sees one reading at a time and no labels.

use telltale_simulator::fleet::{Fleet, Mode, Reading, Settings};

const SENSORS: usize = 18;
/// Speed, power, warmth, weather, charge, road, firmware.
const LATENT: usize = 7;
const START: i64 = 1_760_000_000_000;

type Row = [f64; SENSORS];

/// Principal components of standardised rows, and the usual size of what they leave over.
struct Linear {
    mean: Row,
    deviation: Row,
    components: Vec<Row>,
    scale: Row,
}

impl Linear {
    fn fit(rows: &[Row]) -> Self {
        let count = rows.len() as f64;
        let mean: Row = std::array::from_fn(|it| rows.iter().map(|row| row[it]).sum::<f64>() / count);
        let variance = |it: usize| rows.iter().map(|row| (row[it] - mean[it]).powi(2)).sum::<f64>() / count;
        let deviation: Row = std::array::from_fn(|it| variance(it).sqrt());
        let mut model = Self { mean, deviation, components: Vec::new(), scale: [1.0; SENSORS] };
        let standard: Vec<Row> = rows.iter().map(|row| model.standardise(row)).collect();
        let mut covariance = [[0.0; SENSORS]; SENSORS];
        for row in &standard {
            for (line, &one) in covariance.iter_mut().zip(row) {
                for (sum, &other) in line.iter_mut().zip(row) {
                    *sum += one * other / count;
                }
            }
        }
        for _ in 0..LATENT {
            let (size, vector) = largest(&covariance);
            for (line, &one) in covariance.iter_mut().zip(&vector) {
                for (sum, &other) in line.iter_mut().zip(&vector) {
                    *sum -= size * one * other;
                }
            }
            model.components.push(vector);
        }
        for sensor in 0..SENSORS {
            let mut left: Vec<f64> = standard.iter().map(|row| model.left_over(row)[sensor].abs()).collect();
            left.sort_by(f64::total_cmp);
            model.scale[sensor] = (left[left.len() / 2] * 1.4826).max(1e-3);
        }
        model
    }

    fn standardise(&self, row: &Row) -> Row {
        std::array::from_fn(|it| (row[it] - self.mean[it]) / self.deviation[it])
    }

    fn left_over(&self, standard: &Row) -> Row {
        let mut left = *standard;
        for component in &self.components {
            let along: f64 = component.iter().zip(standard).map(|(one, other)| one * other).sum();
            left.iter_mut().zip(component).for_each(|(left, part)| *left -= along * part);
        }
        left
    }

    fn score(&self, row: &Row) -> f64 {
        let left = self.left_over(&self.standardise(row));
        left.iter().zip(&self.scale).map(|(left, scale)| (left / scale).powi(2)).sum::<f64>() / SENSORS as f64
    }
}

/// The largest eigenvalue of `matrix` and its vector, by power iteration.
fn largest(matrix: &[Row; SENSORS]) -> (f64, Row) {
    let mut vector: Row = std::array::from_fn(|it| 1.0 + it as f64 / 7.0);
    let mut size = 0.0;
    for _ in 0..3000 {
        let next: Row = std::array::from_fn(|it| matrix[it].iter().zip(&vector).map(|(a, b)| a * b).sum());
        size = next.iter().map(|it| it * it).sum::<f64>().sqrt();
        vector = next.map(|it| it / size);
    }
    (size, vector)
}

/// Chance that a number of `higher` is above one of `lower`; both are sorted.
fn area(lower: &[f64], higher: &[f64]) -> f64 {
    let below = higher.iter().map(|it| lower.partition_point(|low| low < it) as f64).sum::<f64>();
    below / (lower.len() as f64 * higher.len() as f64)
}

#[test]
fn a_linear_model_finds_each_mode() {
    for seed in [101, 102, 103] {
        let fleet = Fleet::new(seed, Settings::default()).unwrap();
        // What the demo has after eight seconds, failing cars and all.
        let seen = (1..=1000).flat_map(|car| (0..8).map(move |second| (car, START + second * 1000)));
        let rows: Vec<Row> = seen.map(|(car, time)| fleet.reading(car, time).values).collect();
        let model = Linear::fit(&rows);
        let score = |reading: &Reading| model.score(&reading.values);

        let later = START + 600_000;
        let mut healthy = Vec::new();
        for car in 1..=1000 {
            let readings = (0..300).step_by(7).map(|it| fleet.reading(car, later + it * 1000));
            healthy.extend(readings.filter(|it| !it.failure_occurred).map(|it| score(&it)));
        }
        healthy.sort_by(f64::total_cmp);
        let threshold = healthy[healthy.len() * 999 / 1000];

        let mut failing = Vec::new();
        for mode in Mode::ALL {
            let (mut episodes, mut found, mut scores) = (0, 0, Vec::new());
            let all = (1..=1000).flat_map(|car| fleet.episodes(car, later, later + 3_600_000));
            for episode in all.filter(|it| it.mode == mode) {
                let times = (episode.start_ms..episode.end_ms).step_by(1000);
                let grown = times.filter(|&it| episode.growth(it) >= 0.25);
                let of_it: Vec<f64> = grown.map(|it| score(&fleet.reading(episode.car, it))).collect();
                episodes += 1;
                found += usize::from(of_it.iter().any(|&it| it > threshold));
                scores.extend(of_it);
            }
            scores.sort_by(f64::total_cmp);
            let area = area(&healthy, &scores);
            println!("seed {seed} {mode:20} area {area:.4} found {found} of {episodes}");
            assert!(found * 100 >= episodes * 95, "seed {seed}, {mode}: {found} of {episodes} found");
            assert!(area >= 0.96, "seed {seed}, {mode}: area {area}");
            failing.extend(scores);
        }
        let area = area(&healthy, &failing);
        println!("seed {seed} area {area:.4}, threshold {threshold:.2}");
        assert!(area >= 0.993, "seed {seed}: area {area}");
    }
}
