//! What the simulator did to which car, and how well the predictions named it.
//!
//! ```text
//! fleet-truth ───────▶ episodes by car ─┐
//!                                       ├─▶ AUC, false alarms, failures found and how soon
//! model-predictions ─▶ reading by reading┘
//! ```
//!
//! Readings in the first quarter of a failure's growth count neither as ill nor as healthy: nobody can see
//! what has hardly begun.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::ranks::Ranks;

/// Two alarms within so many readings of a car make its failure found: a single one could be a false alarm
/// that happens to fall into the episode.
const READINGS_TO_FIND: u64 = 10;
/// Readings past the first quarter of its growth that an episode needs to count: of fewer, nobody can tell.
const READINGS_TO_COUNT: u64 = 10;

/// One failure of one car.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Episode {
    /// The car, as in the key of its readings.
    pub car: String,
    /// Kind of failure.
    pub mode: String,
    /// First moment of the failure, ms since 1970.
    pub start_ms: i64,
    /// End of the first quarter of its growth, ms since 1970.
    pub visible_ms: i64,
    /// Moment after the failure, when the car was repaired, ms since 1970.
    pub end_ms: i64,
}

/// How a mode of failure was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModeFound {
    /// Kind of failure.
    pub mode: String,
    /// Episodes with ten readings or more that were scored after the first quarter of their growth.
    pub episodes: u64,
    /// Those of them in which alarm was given.
    pub found: u64,
    /// Median time to the alarm that made it found, from the start of the failure, or from the first scored
    /// reading of a failure that was there before.
    pub median_delay_seconds: Option<f64>,
}

/// The result.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Area under the ROC curve.
    pub auc: Option<f64>,
    /// Share of healthy readings that gave alarm.
    pub false_alarm_rate: Option<f64>,
    /// Healthy readings scored.
    pub healthy: u64,
    /// Readings of ill cars scored, those in the first quarter left out.
    pub ill: u64,
    /// Each mode that occurred, by name.
    pub modes: Vec<ModeFound>,
}

/// State of a car at a time, as far as the truth goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health<'a> {
    /// No failure.
    Healthy,
    /// A failure that has hardly begun.
    Beginning(&'a str),
    /// A failure past the first quarter of its growth.
    Ill(&'a str),
}

#[derive(Debug, Clone, Default)]
struct Seen {
    first_ms: Option<i64>,
    visible: u64,
    readings: u64,
    /// Number of the reading that gave the latest alarm.
    alarm: Option<u64>,
    found_ms: Option<i64>,
}

/// Episodes by car, and what the predictions made of them.
#[derive(Debug, Default)]
pub struct Truth {
    episodes: Vec<(Episode, Seen)>,
    by_car: HashMap<String, Vec<usize>>,
    ranks: Ranks,
    healthy: u64,
    ill: u64,
    false_alarms: u64,
    /// Event time of the earliest reading scored.
    earliest_ms: Option<i64>,
}

impl Truth {
    /// Takes in an episode; one that is known already, with the same car, mode and start, is replaced.
    pub fn add(&mut self, episode: Episode) {
        let of_car = self.by_car.entry(episode.car.clone()).or_default();
        let known = of_car.iter().copied().find(|&it| {
            let known = &self.episodes[it].0;
            known.start_ms == episode.start_ms && known.mode == episode.mode
        });
        if let Some(known) = known {
            self.episodes[known].0 = episode;
            return;
        }
        of_car.push(self.episodes.len());
        self.episodes.push((episode, Seen::default()));
    }

    /// Number of episodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.episodes.len()
    }

    /// Whether no episode is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.episodes.is_empty()
    }

    /// How `car` is at `time_ms`.
    #[must_use]
    pub fn health(&self, car: &str, time_ms: i64) -> Health<'_> {
        let mut health = Health::Healthy;
        for index in self.running(car, time_ms) {
            let episode = &self.episodes[index].0;
            if time_ms >= episode.visible_ms {
                return Health::Ill(&episode.mode);
            }
            health = Health::Beginning(&episode.mode);
        }
        health
    }

    /// The mode of a failure of `car` that ended after `from_ms` and up to `to_ms`.
    #[must_use]
    pub fn ended_since(&self, car: &str, from_ms: i64, to_ms: i64) -> Option<&str> {
        let of_car = self.by_car.get(car)?;
        let ended = of_car
            .iter()
            .map(|&it| &self.episodes[it].0)
            .find(|it| from_ms < it.end_ms && it.end_ms <= to_ms)?;
        Some(&ended.mode)
    }

    /// Takes in the prediction for one reading.
    pub fn prediction(&mut self, car: &str, time_ms: i64, score: f32, alarm: bool) {
        self.earliest_ms = Some(self.earliest_ms.map_or(time_ms, |it| it.min(time_ms)));
        let (mut running, mut visible) = (false, false);
        let of_car: Vec<usize> = self.running(car, time_ms).collect();
        for index in of_car {
            let (episode, seen) = &mut self.episodes[index];
            running = true;
            visible |= time_ms >= episode.visible_ms;
            seen.visible += u64::from(time_ms >= episode.visible_ms);
            seen.first_ms.get_or_insert(time_ms);
            seen.readings += 1;
            if alarm {
                let before = seen.alarm.replace(seen.readings);
                if before.is_some_and(|it| seen.readings - it < READINGS_TO_FIND) {
                    seen.found_ms.get_or_insert(time_ms);
                }
            }
        }
        if visible {
            self.ill += 1;
            self.ranks.add(score, true);
        } else if !running {
            self.healthy += 1;
            self.false_alarms += u64::from(alarm);
            self.ranks.add(score, false);
        }
    }

    /// The result of all predictions taken in.
    #[must_use]
    pub fn evaluate(&self) -> Evaluation {
        let mut modes: BTreeMap<&str, (u64, Vec<i64>)> = BTreeMap::new();
        for (episode, seen) in self.episodes.iter().filter(|(_, seen)| seen.visible >= READINGS_TO_COUNT) {
            let (episodes, delays) = modes.entry(&episode.mode).or_default();
            *episodes += 1;
            // The first reading of an episode comes up to one interval after its start.
            let began = if self.scored_before(episode) {
                episode.start_ms
            } else {
                seen.first_ms.unwrap_or_default()
            };
            delays.extend(seen.found_ms.map(|it| it - began));
        }
        let modes = modes.into_iter().map(|(mode, (episodes, mut delays))| {
            delays.sort_unstable();
            let median = delays.get(delays.len() / 2).map(|&it| it as f64 / 1000.0);
            ModeFound {
                mode: mode.to_owned(),
                episodes,
                found: delays.len() as u64,
                median_delay_seconds: median,
            }
        });
        Evaluation {
            auc: self.ranks.auc(),
            false_alarm_rate: (self.healthy > 0).then(|| self.false_alarms as f64 / self.healthy as f64),
            healthy: self.healthy,
            ill: self.ill,
            modes: modes.collect(),
        }
    }

    /// Whether any reading from before `episode` was scored.
    fn scored_before(&self, episode: &Episode) -> bool {
        self.earliest_ms.is_some_and(|it| it < episode.start_ms)
    }

    fn running(&self, car: &str, time_ms: i64) -> impl Iterator<Item = usize> + use<'_> {
        let of_car = self.by_car.get(car).map(Vec::as_slice).unwrap_or_default();
        of_car.iter().copied().filter(move |&it| {
            let episode = &self.episodes[it].0;
            (episode.start_ms..episode.end_ms).contains(&time_ms)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth() -> Truth {
        let mut truth = Truth::default();
        let episode = |car: &str, mode: &str, start_ms| Episode {
            car: car.into(),
            mode: mode.into(),
            start_ms,
            visible_ms: start_ms + 1_000,
            end_ms: start_ms + 5_000,
        };
        truth.add(episode("a", "leak", 10_000));
        truth.add(episode("b", "leak", 20_000));
        truth.add(episode("c", "heat", 90_000));
        truth
    }

    #[test]
    fn health_follows_the_episodes() {
        let truth = truth();
        let cases = [
            ("a", 9_999, Health::Healthy),
            ("a", 10_000, Health::Beginning("leak")),
            ("a", 11_000, Health::Ill("leak")),
            ("a", 14_999, Health::Ill("leak")),
            ("a", 15_000, Health::Healthy),
            ("z", 11_000, Health::Healthy),
        ];
        for (car, time, expected) in cases {
            assert_eq!(truth.health(car, time), expected, "{car} at {time}");
        }
    }

    /// Scores `count` readings of `car`, a tenth of a second apart, with alarm at the times in `alarms`.
    fn score(truth: &mut Truth, car: &str, from_ms: i64, count: i64, score: f32, alarms: &[i64]) {
        for time in (0..count).map(|it| from_ms + it * 100) {
            truth.prediction(car, time, score, alarms.contains(&time));
        }
    }

    #[test]
    fn the_figures_are_those_of_a_fleet_counted_by_hand() {
        let mut truth = truth();
        // Healthy: four readings, one false alarm.
        for (time, score, alarm) in [(1, 1.0, false), (2, 2.0, false), (3, 3.0, false), (4, 9.0, true)] {
            truth.prediction("z", time, score, alarm);
        }
        // Found at the second alarm, 1.2 s after the start; the first one is in the first quarter.
        score(&mut truth, "a", 10_500, 20, 5.0, &[10_900, 11_200]);
        // Not found: one alarm only.
        score(&mut truth, "b", 21_000, 15, 8.0, &[22_000]);
        // Not counted: hardly any reading past the first quarter.
        score(&mut truth, "c", 90_000, 12, 0.5, &[90_500, 90_600]);
        let found = truth.evaluate();
        assert_eq!((found.healthy, found.ill), (4, 15 + 15 + 2));
        assert_eq!(found.false_alarm_rate, Some(0.25));
        // Of the pairs with the four healthy readings, 5.0 and 8.0 win three each, 0.5 none.
        assert_eq!(found.auc, Some(90.0 / 128.0));
        let leak = ModeFound { mode: "leak".into(), episodes: 2, found: 1, median_delay_seconds: Some(1.2) };
        assert_eq!(found.modes, [leak]);
    }

    #[test]
    fn a_failure_from_before_the_first_reading_is_timed_from_there() {
        let mut truth = truth();
        score(&mut truth, "a", 12_000, 20, 5.0, &[12_500, 12_800]);
        assert_eq!(truth.evaluate().modes[0].median_delay_seconds, Some(0.8));
    }

    #[test]
    fn alarms_far_apart_do_not_find_a_failure() {
        let mut truth = truth();
        score(&mut truth, "a", 12_000, 15, 1.0, &[12_000, 13_000]);
        assert_eq!(truth.evaluate().modes[0].found, 0);
        truth.prediction("a", 13_500, 1.0, true);
        assert_eq!(truth.evaluate().modes[0].found, 1);
    }

    #[test]
    fn an_episode_told_twice_counts_once() {
        let mut truth = truth();
        let mut longer = truth.episodes[0].0.clone();
        longer.end_ms = 20_000;
        truth.add(longer);
        assert_eq!(truth.len(), 3);
        assert_eq!(truth.health("a", 16_000), Health::Ill("leak"));
    }

    #[test]
    fn without_readings_there_are_no_figures() {
        let found = Truth::default().evaluate();
        assert_eq!((found.auc, found.false_alarm_rate, found.modes.len()), (None, None, 0));
    }
}
