use super::*;

const START: i64 = 1_760_000_000_000;
const HOUR: i64 = 3_600_000;

fn fleet(seed: u64) -> Fleet {
    Fleet::new(seed, Settings::default()).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_readings_in_any_order() {
    let (one, other) = (fleet(7), fleet(7));
    let times: Vec<i64> = (0..200).map(|it| START + it * 7919).collect();
    for car in [1, 2, 4711] {
        let forwards: Vec<Reading> = times.iter().map(|&it| one.reading(car, it)).collect();
        let backwards: Vec<Reading> = times.iter().rev().map(|&it| other.reading(car, it)).collect();
        assert!(forwards.iter().eq(backwards.iter().rev()), "car {car}");
    }
    assert_ne!(fleet(8).reading(1, START), one.reading(1, START));
    assert_ne!(one.reading(2, START).values, one.reading(1, START).values);
}

#[test]
fn readings_are_json_with_the_values_of_the_reading() {
    let fleet = fleet(3);
    for car in [0, 1, 99_999, 123_456, 1_234_567] {
        let reading = fleet.reading(car, START);
        let mut text = Vec::new();
        reading.write_json(&mut text);
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&text).unwrap();
        assert_eq!(object.len(), 21);
        for (name, value) in FEATURES.iter().zip(reading.values) {
            assert_eq!(object[*name].as_f64(), Some(value), "{name}");
        }
        assert_eq!(object["car"], car_id(car));
        assert_eq!(object["event_time"], START);
        assert!(object["tire_pressure11"].is_i64() && object["control_unit_firmware"].is_i64());
        assert_eq!(object["failure_occurred"], reading.failure_occurred.to_string());
    }
}

#[test]
fn the_failing_share_is_the_same_at_any_time() {
    for (share, longest) in [(0.02, 120), (0.1, 120), (0.02, 7200)] {
        let longest = Duration::from_secs(longest);
        let fleet = Fleet::new(5, Settings { failure_share: share, longest, ..Settings::default() }).unwrap();
        for hour in [0, 1, 2, 5, 24, 24 * 30] {
            let cars = 40_000;
            let failing = (0..cars).filter(|&it| fleet.truth(it, START + hour * HOUR).is_some()).count();
            let found = failing as f64 / f64::from(cars);
            // Four standard deviations of a binomial share.
            let limit = 4.0 * (share * (1.0 - share) / f64::from(cars)).sqrt();
            assert!((found - share).abs() < limit, "{found} of {share} after {hour} hours");
        }
    }
}

#[test]
fn each_mode_has_its_share_of_the_episodes_and_lasts_as_long_as_set() {
    let fleet = fleet(11);
    let mut counts = [0; 9];
    for car in 0..20_000 {
        for episode in fleet.episodes(car, START, START + HOUR) {
            counts[Mode::ALL.iter().position(|it| *it == episode.mode).unwrap()] += 1;
            let length = episode.end_ms - episode.start_ms;
            assert!((20_000..=120_000).contains(&length), "{length}");
            assert!(episode.start_ms < episode.grown_ms && episode.grown_ms < episode.end_ms);
            let middle = i64::midpoint(episode.start_ms, episode.end_ms);
            assert_eq!(fleet.truth(car, middle), Some(episode));
        }
    }
    let mean = counts.iter().sum::<i32>() / 9;
    assert!(counts.iter().all(|it| (it - mean).abs() < mean / 10), "{counts:?}");
}

#[test]
fn a_failure_begins_at_nothing_grows_and_is_repaired() {
    let healthy = Fleet::new(2, Settings { failure_share: 0.0, ..Settings::default() }).unwrap();
    for mode in Mode::ALL {
        let settings = Settings { modes: vec![mode], ..Settings::default() };
        let fleet = Fleet::new(2, settings).unwrap();
        let (mut grown_differs, mut episodes) = (0, 0);
        for episode in (0..400).flat_map(|car| fleet.episodes(car, START, START + HOUR)) {
            let differs =
                |time| distance(&fleet.reading(episode.car, time), &healthy.reading(episode.car, time));
            assert!(differs(episode.start_ms) < 1e-9, "{mode} begins with a jump");
            assert!(differs(episode.end_ms) < 1e-9, "{mode} is not repaired");
            episodes += 1;
            grown_differs += usize::from(differs(episode.end_ms - 1) > 8.0);
        }
        assert!(episodes > 200, "{mode}: {episodes}");
        assert!(grown_differs * 100 >= episodes * 95, "{mode}: {grown_differs} of {episodes} are visible");
    }
}

/// The largest difference of a sensor, in standard deviations of its noise or steps of its resolution.
fn distance(one: &Reading, other: &Reading) -> f64 {
    let differences = one.values.iter().zip(&other.values).zip(&SENSORS).map(|((one, other), sensor)| {
        let step = 0.1_f64.powi(i32::try_from(sensor.decimals).unwrap());
        (one - other).abs() / sensor.noise.max(step)
    });
    differences.fold(0.0, f64::max)
}

#[test]
fn healthy_readings_stay_within_physical_ranges_and_move_with_inertia() {
    let fleet = Fleet::new(4, Settings { failure_share: 0.0, ..Settings::default() }).unwrap();
    let most_per_second = [1.0, 1.0, 10.0, 1.0, 25.0, 180.0, 18.0, 1.0, 65.0, 3.0, 3.0, 3.0, 3.0];
    for car in 0..30 {
        let mut before = fleet.reading(car, START).values;
        for second in 1..7200 {
            let now = fleet.reading(car, START + second * 1000).values;
            for (index, &most) in most_per_second.iter().enumerate() {
                let step = (now[index] - before[index]).abs() - 7.0 * SENSORS[index].noise;
                assert!(step <= most, "{} of car {car} at {second} s: {step}", FEATURES[index]);
            }
            let [coolant, intake, _, battery, voltage, current, speed, ..] = now;
            assert!((40.0..115.0).contains(&coolant) && (-15.0..60.0).contains(&intake));
            assert!((10.0..=100.0).contains(&battery) && (300.0..410.0).contains(&voltage));
            assert!((-95.0..220.0).contains(&current) && (0.0..=145.0).contains(&speed));
            before = now;
        }
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let with = |change: fn(&mut Settings)| {
        let mut settings = Settings::default();
        change(&mut settings);
        Fleet::new(1, settings).unwrap_err().to_string()
    };
    assert_eq!(with(|it| it.failure_share = 0.5), "the failure share 0.5 is not from 0 to 0.3");
    assert_eq!(with(|it| it.failure_share = f64::NAN), "the failure share NaN is not from 0 to 0.3");
    assert_eq!(with(|it| it.modes.clear()), "the failure share is 0.02 but there are no failure modes");
    assert!(with(|it| it.longest = Duration::ZERO).starts_with("failures cannot last from 20s to 0ns"));
}
