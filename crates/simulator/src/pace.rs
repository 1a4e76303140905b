//! Publishes each reading at its instant.
//!
//! A car's readings are at `(n + phase) / rate`, where the phase is a function of the car's number that
//! spreads any range of cars evenly, so the fleet publishes steadily and not in bursts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use telltale_mqtt::device::PublishError;
use telltale_service::Service;
use tracing::{debug, info};

use crate::Error;
use crate::cars::{Connection, Sessions};
use crate::counters::Counters;
use crate::fleet::{Truth, car_id};
use crate::ledger::TruthFile;
use crate::report::Reporter;
use crate::scenario::{Plan, Stage, topic_of};

/// Readings that fall due within this time are published together.
const TICK: Duration = Duration::from_millis(5);

/// Publishes a plan.
pub(crate) struct Pacer<'a> {
    plan: &'a Plan,
    sessions: &'a Sessions,
    counters: &'a Counters,
    truth_file: Option<TruthFile>,
    service: &'a Service,
    reporter: Reporter,
    began: Instant,
    /// The fleet's time at which the stage begins by the plan, in milliseconds since 1970.
    stage_ms: f64,
    cars: Vec<Car>,
}

struct Car {
    number: u32,
    /// Where in its period the car publishes, 0 to 1.
    phase: f64,
    topic: Arc<str>,
    truth_topic: Option<Arc<str>>,
    connection: Option<Connection>,
    /// With a count: which reading is the next of this stage, and how many there are still to come.
    next: i64,
    left: u64,
    /// Beginning of the failure that was told last.
    told_ms: Option<i64>,
}

/// A stage at work.
struct Round<'a> {
    stage: &'a Stage,
    period_ms: f64,
    /// Indices of the stage's cars by phase.
    order: Vec<usize>,
    /// The reading that falls due next: its number and its place in the order.
    lap: i64,
    place: usize,
    /// Indices of the cars that are to connect, and how many have begun to.
    joining: Vec<usize>,
    joined: usize,
}

impl<'a> Pacer<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        sessions: &'a Sessions,
        counters: &'a Counters,
        truth_file: Option<TruthFile>,
        service: &'a Service,
    ) -> Self {
        let cars = (0..plan.most_cars()).map(|index| Car::new(plan, plan.first_car + index)).collect();
        let reporter = Reporter::new(counters);
        let (began, stage_ms) = (Instant::now(), plan.start_ms as f64);
        Self { plan, sessions, counters, truth_file, service, reporter, began, stage_ms, cars }
    }

    /// Publishes all stages, or until the service is shut down.
    pub(crate) fn run(&mut self) -> Result<(), Error> {
        for stage in &self.plan.stages {
            info!(stage = stage.name, cars = stage.cars, rate = stage.rate.get(), "stage");
            if self.stage(stage)? {
                break;
            }
            self.stage_ms = match stage.count {
                Some(count) => self.stage_ms + (count.get() as f64 + 1.0) * 1000.0 / stage.rate.get(),
                None => self.now_ms(),
            };
        }
        Ok(())
    }

    /// Time since the beginning.
    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// The fleet's time, in milliseconds since 1970.
    fn now_ms(&self) -> f64 {
        self.plan.start_ms as f64 + self.seconds() * 1000.0
    }

    /// Publishes one stage; returns whether the service is to stop.
    fn stage(&mut self, stage: &Stage) -> Result<bool, Error> {
        let began = Instant::now();
        let mut round = self.round(stage);
        loop {
            self.join(&mut round, began.elapsed());
            let now_ms = self.now_ms();
            while let Some(index) = round.due(&self.cars, now_ms) {
                self.visit(&round, index)?;
                round.advance();
            }
            self.reporter.tick(self.counters, self.service, round.order.len());
            let over = stage.duration.is_some_and(|it| began.elapsed() >= it);
            let counted = stage.count.is_some() && round.order.iter().all(|&it| self.cars[it].left == 0);
            if over || counted {
                return Ok(false);
            }
            if self.service.shutdown().sleep(TICK) {
                return Ok(true);
            }
        }
    }

    fn round<'s>(&mut self, stage: &'s Stage) -> Round<'s> {
        let period_ms = 1000.0 / stage.rate.get();
        let now_ms = self.now_ms();
        let active = stage.cars.get() as usize;
        for car in &mut self.cars[active..] {
            if let Some(connection) = car.connection.take() {
                connection.leave();
            }
        }
        let mut order: Vec<usize> = (0..active).collect();
        order.sort_by(|&one, &other| self.cars[one].phase.total_cmp(&self.cars[other].phase));
        let joining = (0..active).filter(|&it| self.cars[it].connection.is_none()).collect();
        // With a count each run of the plan has the same readings, however late its connections come.
        let from_ms = if stage.count.is_some() { self.stage_ms } else { now_ms };
        let lap = (from_ms / period_ms).ceil() as i64;
        for &index in &order {
            self.cars[index].next = lap;
            self.cars[index].left = stage.count.map_or(u64::MAX, |it| it.get());
        }
        Round { stage, period_ms, order, lap, place: 0, joining, joined: 0 }
    }

    /// Connects the cars whose turn has come.
    fn join(&mut self, round: &mut Round<'_>, elapsed: Duration) {
        let share = if round.stage.ramp_up.is_zero() {
            1.0
        } else {
            (elapsed.as_secs_f64() / round.stage.ramp_up.as_secs_f64()).min(1.0)
        };
        let wanted = (share * round.joining.len() as f64).ceil() as usize;
        while round.joined < wanted && !self.sessions.is_ended() {
            let car = &mut self.cars[round.joining[round.joined]];
            car.connection = Some(self.sessions.connect(car.number));
            round.joined += 1;
        }
    }

    /// Publishes what is due of one car.
    fn visit(&mut self, round: &Round<'_>, index: usize) -> Result<(), Error> {
        let counted = round.stage.count.is_some();
        let car = &mut self.cars[index];
        let Some(connection) = car.connection.as_ref().filter(|it| it.has_arrived()) else { return Ok(()) };
        let mut next = if counted { car.next } else { round.lap };
        while next <= round.lap && car.left > 0 {
            let event_time = round.time_ms(next, car.phase) as i64;
            let (reading, episode) = round.stage.fleet.observe(car.number, event_time);
            let mut text = Vec::new();
            reading.write_json(&mut text);
            match connection.reading(&car.topic, round.stage.qos, event_time, Bytes::from(text)) {
                Ok(()) => {
                    car.left -= u64::from(counted);
                    if let Some(episode) = episode.filter(|it| car.told_ms != Some(it.start_ms)) {
                        let truth = episode.truth();
                        if tell(connection, car.truth_topic.as_ref(), &truth) {
                            car.told_ms = Some(episode.start_ms);
                            self.truth_file.as_mut().map_or(Ok(()), |file| file.write(&truth))?;
                        }
                    }
                }
                Err(PublishError::Closed) => {
                    car.connection = Some(self.sessions.connect(car.number));
                    break;
                }
                Err(PublishError::WindowFull { .. } | PublishError::NotConnected) if counted => break,
                Err(PublishError::WindowFull { .. } | PublishError::NotConnected) => {
                    self.counters.skipped.inc();
                }
                Err(error) => {
                    self.counters.refused.inc();
                    self.counters.note_fault(error.to_string());
                    car.left -= u64::from(counted);
                }
            }
            next += 1;
        }
        car.next = next;
        Ok(())
    }

    /// Ends the connections and waits at most `limit` for all acknowledgements.
    pub(crate) fn drain(mut self, limit: Duration) -> Result<(), Error> {
        let connections: Vec<Connection> =
            self.cars.iter_mut().filter_map(|it| it.connection.take()).collect();
        self.service.not_ready("fleet", "waiting for the last acknowledgements");
        connections.iter().for_each(Connection::leave);
        let deadline = Instant::now() + limit;
        while !connections.iter().all(Connection::is_ended) && !self.sessions.is_ended() {
            if Instant::now() >= deadline {
                break;
            }
            // Not the shutdown's own sleep, which would not wait any more.
            std::thread::sleep(TICK);
        }
        let unacknowledged = connections.iter().map(Connection::abandon).sum();
        if unacknowledged > 0 {
            return Err(Error::Unacknowledged { unacknowledged, limit });
        }
        Ok(())
    }
}

impl Car {
    fn new(plan: &Plan, number: u32) -> Self {
        let name = car_id(number);
        let topic = topic_of(&plan.topic, &name).into();
        let truth_topic = plan.truth_topic.as_ref().map(|it| topic_of(it, &name).into());
        let phase = phase(number);
        Self { number, phase, topic, truth_topic, connection: None, next: 0, left: 0, told_ms: None }
    }
}

/// Where in its period a car publishes, 0 to 1: multiples of the golden ratio spread any run of numbers evenly.
fn phase(number: u32) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    (f64::from(number) * GOLDEN).fract()
}

impl Round<'_> {
    fn time_ms(&self, lap: i64, phase: f64) -> f64 {
        (lap as f64 + phase) * self.period_ms
    }

    /// The car whose reading is due at `now_ms`, if one is.
    fn due(&self, cars: &[Car], now_ms: f64) -> Option<usize> {
        let index = self.order[self.place];
        (self.time_ms(self.lap, cars[index].phase) <= now_ms).then_some(index)
    }

    fn advance(&mut self) {
        self.place += 1;
        if self.place == self.order.len() {
            self.place = 0;
            self.lap += 1;
        }
    }
}

/// Publishes the truth about a failure; returns false when there is no room for it now.
fn tell(connection: &Connection, topic: Option<&Arc<str>>, truth: &Truth) -> bool {
    let Some(topic) = topic else { return true };
    let text = serde_json::to_vec(truth).expect("a truth has no map keys and no floats");
    match connection.truth(topic, Bytes::from(text)) {
        Ok(()) => true,
        Err(error) => {
            debug!(car = truth.car, %error, "the truth waits for the next reading");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_run_of_cars_publishes_steadily() {
        for first in [0, 1, 1000, 987_654_321, u32::MAX - 2000] {
            let mut ticks = [0; 40]; // of 5 ms, at 5 readings a second
            for number in first..first + 2000 {
                ticks[(phase(number) * 40.0) as usize] += 1;
            }
            let (least, most) = (ticks.iter().min(), ticks.iter().max());
            assert!(least >= Some(&47) && most <= Some(&53), "from car {first}: {ticks:?}");
        }
    }
}
