//! Which cars stand out: the last readings of each car, averaged, so that one odd reading does not flicker.

use std::collections::HashMap;

use super::screen::{Verdict, WorstCar};
use crate::evaluate::{Health, Truth};

/// Weight of a new reading in the average of its car.
const WEIGHT: f64 = 0.25;
/// A car not heard from for so long is not shown, in ms.
const SILENT_MS: i64 = 30_000;
/// A failure that ended so recently may still echo in the average, in ms.
const ECHO_MS: i64 = 15_000;
/// Cars followed at most; a larger fleet shows the worst of those it follows.
const CARS: usize = 200_000;

#[derive(Debug)]
struct Standing {
    times_threshold: f64,
    last_ms: i64,
    sensors: Vec<(String, f64)>,
}

/// The last readings of each car.
#[derive(Debug, Default)]
pub struct Standings {
    cars: HashMap<String, Standing>,
    newest_ms: i64,
    /// Alarms that were right, near a failure, and wrong.
    alarms: (u64, u64, u64),
}

impl Standings {
    /// Takes in one prediction; `sensors` is called only for readings that stand out.
    pub fn add(
        &mut self,
        car: &str,
        time_ms: i64,
        times_threshold: f64,
        truth: &Truth,
        sensors: impl FnOnce() -> Vec<(String, f64)>,
    ) {
        self.newest_ms = self.newest_ms.max(time_ms);
        let alarm = times_threshold > 1.0;
        if alarm {
            match judge(car, time_ms, truth) {
                Verdict::Right(_) => self.alarms.0 += 1,
                Verdict::Early(_) | Verdict::Repaired(_) => self.alarms.1 += 1,
                Verdict::Wrong => self.alarms.2 += 1,
            }
        }
        // A score can be anything; one absurd reading must not hold its car at the top for long.
        let bounded = if times_threshold.is_finite() { times_threshold.clamp(0.0, 1e4) } else { 1e4 };
        if let Some(standing) = self.cars.get_mut(car) {
            standing.times_threshold += WEIGHT * (bounded - standing.times_threshold);
            standing.last_ms = time_ms;
            if alarm {
                standing.sensors = sensors();
            }
        } else if self.cars.len() < CARS {
            let sensors = if alarm { sensors() } else { Vec::new() };
            self.cars
                .insert(car.to_owned(), Standing { times_threshold: bounded, last_ms: time_ms, sensors });
        }
    }

    /// Alarms so far that were right, near the begin or end of a failure, and wrong.
    #[must_use]
    pub fn alarms(&self) -> (u64, u64, u64) {
        self.alarms
    }

    /// The `count` cars that stand out most, worst first; only those on average over the threshold.
    pub fn worst(&mut self, count: usize, truth: &Truth) -> Vec<WorstCar> {
        let oldest = self.newest_ms - SILENT_MS;
        self.cars.retain(|_, it| it.last_ms >= oldest);
        let mut worst: Vec<(&String, &Standing)> =
            self.cars.iter().filter(|(_, it)| it.times_threshold > 1.0).collect();
        let by_standing = |a: &(&String, &Standing), b: &(&String, &Standing)| {
            b.1.times_threshold.total_cmp(&a.1.times_threshold).then_with(|| a.0.cmp(b.0))
        };
        if worst.len() > count {
            worst.select_nth_unstable_by(count, by_standing);
            worst.truncate(count);
        }
        worst.sort_by(by_standing);
        let line = |(car, standing): (&String, &Standing)| WorstCar {
            car: car.clone(),
            times_threshold: standing.times_threshold,
            sensors: standing.sensors.clone(),
            verdict: judge(car, standing.last_ms, truth),
        };
        worst.into_iter().map(line).collect()
    }
}

fn judge(car: &str, time_ms: i64, truth: &Truth) -> Verdict {
    match truth.health(car, time_ms) {
        Health::Ill(mode) => Verdict::Right(mode.to_owned()),
        Health::Beginning(mode) => Verdict::Early(mode.to_owned()),
        Health::Healthy => match truth.ended_since(car, time_ms - ECHO_MS, time_ms) {
            Some(mode) => Verdict::Repaired(mode.to_owned()),
            None => Verdict::Wrong,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::Episode;

    fn truth() -> Truth {
        let mut truth = Truth::default();
        truth.add(Episode {
            car: "a".into(),
            mode: "leak".into(),
            start_ms: 0,
            visible_ms: 1_000,
            end_ms: 5_000,
        });
        truth
    }

    #[test]
    fn the_worst_cars_come_first_with_the_truth() {
        let (truth, mut standings) = (truth(), Standings::default());
        for (car, time, times) in [("c", 2_000, 0.5), ("b", 2_000, 3.0), ("a", 2_000, 9.0), ("d", 2_000, 2.0)]
        {
            standings.add(car, time, times, &truth, || vec![("SPEED".into(), 0.5)]);
        }
        let worst = standings.worst(2, &truth);
        let cars: Vec<&str> = worst.iter().map(|it| it.car.as_str()).collect();
        assert_eq!(cars, ["a", "b"]);
        assert_eq!(worst[0].verdict, Verdict::Right("leak".into()));
        assert_eq!(worst[0].sensors, [("SPEED".to_owned(), 0.5)]);
        assert_eq!(worst[1].verdict, Verdict::Wrong);
        assert_eq!(standings.alarms(), (1, 0, 2));
    }

    #[test]
    fn an_alarm_near_the_begin_or_the_end_is_neither_right_nor_wrong() {
        let (truth, mut standings) = (truth(), Standings::default());
        standings.add("a", 500, 2.0, &truth, Vec::new);
        standings.add("a", 6_000, 2.0, &truth, Vec::new);
        assert_eq!(standings.alarms(), (0, 2, 0));
        assert_eq!(standings.worst(1, &truth)[0].verdict, Verdict::Repaired("leak".into()));
        standings.add("a", 30_000, 2.0, &truth, Vec::new);
        assert_eq!(standings.alarms(), (0, 2, 1));
    }

    #[test]
    fn one_absurd_reading_passes_and_a_silent_car_goes() {
        let (truth, mut standings) = (truth(), Standings::default());
        standings.add("b", 0, f64::NAN, &truth, Vec::new);
        (1..60).for_each(|it| standings.add("b", it * 100, 0.0, &truth, Vec::new));
        assert!(standings.worst(5, &truth).is_empty());
        standings.add("b", 6_000, 1e3, &truth, Vec::new);
        assert_eq!(standings.worst(5, &truth).len(), 1);
        standings.add("c", 60_000, 0.0, &truth, Vec::new);
        assert!(standings.worst(5, &truth).is_empty());
    }
}
