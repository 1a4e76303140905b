//! Readings of the simulator, at full speed or at a pace, and publishing them by MQTT.

use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Result, bail};
use clap::Args;
use telltale_mqtt::config::Address;
use telltale_mqtt::device::{self, Event, Options, PublishError};
use telltale_mqtt::{Endpoint, Qos, Version};
use telltale_simulator::fleet;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// Wait for room in a window.
const MOMENT: Duration = Duration::from_millis(1);
/// Publishes of one connection that may be unacknowledged.
const WINDOW: u16 = 200;

/// Cars, and what they send.
#[derive(Debug, Clone, Args)]
pub(crate) struct Fleet {
    #[arg(long)]
    pub(crate) cars: NonZeroU32,
    #[arg(long)]
    pub(crate) seed: u64,
    /// Readings of all cars together
    #[arg(long)]
    pub(crate) messages: u64,
    /// Readings a second of all cars together [default: as fast as it goes]
    #[arg(long)]
    pub(crate) rate: Option<f64>,
}

impl Fleet {
    /// The flags that say the same.
    pub(crate) fn flags(&self) -> Vec<String> {
        let mut flags = vec![format!("--cars={}", self.cars), format!("--seed={}", self.seed)];
        flags.push(format!("--messages={}", self.messages));
        flags.extend(self.rate.map(|it| format!("--rate={it}")));
        flags
    }

    /// The car that sends a reading: all take turns.
    pub(crate) fn car(&self, number: u64) -> u32 {
        (number % u64::from(self.cars.get())) as u32 + 1
    }
}

/// Makes readings.
pub(crate) struct Readings {
    fleet: fleet::Fleet,
    of: Fleet,
}

impl Readings {
    /// Of the simulator's fleet with its defaults.
    pub(crate) fn new(of: &Fleet) -> Result<Self> {
        Ok(Self { fleet: fleet::Fleet::new(of.seed, fleet::Settings::default())?, of: of.clone() })
    }

    /// The car and the JSON text of a reading at a time.
    pub(crate) fn make(&mut self, number: u64, time_ms: i64) -> (String, Vec<u8>) {
        let car = self.of.car(number);
        let mut text = Vec::new();
        self.fleet.reading(car, time_ms).write_json(&mut text);
        (fleet::car_id(car), text)
    }
}

/// When readings are due.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    began: Instant,
    began_ms: i64,
    rate: Option<f64>,
}

impl Pace {
    /// From now on.
    pub(crate) fn new(fleet: &Fleet) -> Self {
        Self { began: Instant::now(), began_ms: now_ms(), rate: fleet.rate }
    }

    /// When a reading is due; without a rate at once.
    pub(crate) fn due(&self, number: u64) -> Instant {
        self.rate.map_or(self.began, |rate| self.began + Duration::from_secs_f64(number as f64 / rate))
    }

    /// The time of a reading: when it is due, so that waiting for room counts as waiting; without a rate, now.
    pub(crate) fn time_ms(&self, number: u64) -> i64 {
        self.rate.map_or_else(now_ms, |rate| self.began_ms + (number as f64 / rate * 1000.0) as i64)
    }
}

/// The wall clock, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    UNIX_EPOCH.elapsed().map_or(0, |it| i64::try_from(it.as_millis()).unwrap_or(i64::MAX))
}

/// Publishes readings.
#[derive(Debug, Clone, Args)]
pub(crate) struct Load {
    #[arg(long)]
    mqtt: Address,
    #[arg(long)]
    client_id: String,
    /// What the topics begin with; the car follows
    #[arg(long)]
    topic: String,
    /// Connections, which divide the cars
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: u32,
    #[command(flatten)]
    fleet: Fleet,
}

/// When the first reading is due: once all connections stand, as those of the bare ways do.
struct Start {
    connected: Barrier,
    pace: OnceLock<Pace>,
}

impl Load {
    /// Publishes all readings with QoS 1 and returns once the broker has acknowledged them.
    pub(crate) fn run(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let start =
                Arc::new(Start { connected: Barrier::new(self.connections as usize), pace: OnceLock::new() });
            let mut connections = JoinSet::new();
            for number in 0..self.connections {
                let (load, start) = (self.clone(), Arc::clone(&start));
                connections.spawn(async move { load.connection(number, &start).await });
            }
            while let Some(ended) = connections.join_next().await {
                ended??;
            }
            Ok(())
        })
    }

    async fn connection(&self, connection: u32, start: &Start) -> Result<()> {
        let id = format!("{}-{connection}", self.client_id);
        let options = Options { window: WINDOW, ..Options::new(id) };
        let (publisher, mut session) =
            device::open(&Endpoint::plain(self.mqtt.clone(), Version::V5), options);
        let publish = async {
            let mut readings = Readings::new(&self.fleet)?;
            while !publisher.is_connected() {
                tokio::time::sleep(MOMENT).await;
            }
            start.connected.wait().await;
            let pace = *start.pace.get_or_init(|| Pace::new(&self.fleet));
            let mine =
                (0..self.fleet.messages).filter(|it| self.fleet.car(*it) % self.connections == connection);
            for number in mine {
                tokio::time::sleep_until(pace.due(number).into()).await;
                let (car, payload) = readings.make(number, pace.time_ms(number));
                let topic: Arc<str> = format!("{}/{car}", self.topic).into();
                let payload = bytes::Bytes::from(payload);
                loop {
                    match publisher.publish(&topic, Qos::AtLeastOnce, false, payload.clone()) {
                        Ok(_) => break,
                        Err(PublishError::WindowFull { .. }) => tokio::time::sleep(MOMENT).await,
                        Err(error) => bail!(error),
                    }
                }
            }
            while publisher.unacknowledged() > 0 {
                tokio::time::sleep(MOMENT).await;
            }
            publisher.close();
            anyhow::Ok(())
        };
        let drive = async {
            while let Some(event) = session.next().await {
                match event {
                    Event::Refused { reason, .. } => bail!("the broker refused a publish: {reason}"),
                    // Sent again on the next connection: the figures would be of another load.
                    Event::Disconnected(fault) => bail!("disconnected: {fault}"),
                    _ => {}
                }
            }
            Ok(())
        };
        tokio::try_join!(publish, drive).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        fleet: Fleet,
    }

    #[test]
    fn a_fleet_comes_back_from_its_flags() {
        let flags = ["--cars=20", "--seed=3", "--messages=7", "--rate=12.5"];
        let fleet = Command::try_parse_from(["it"].iter().chain(&flags)).unwrap().fleet;
        assert_eq!(fleet.flags(), flags);
        assert_eq!((fleet.car(0), fleet.car(19), fleet.car(20)), (1, 20, 1));
    }

    #[test]
    fn a_reading_has_the_time_at_which_it_is_due() {
        let fleet = Fleet { cars: NonZeroU32::MIN, seed: 1, messages: 1000, rate: Some(100.0) };
        let pace = Pace::new(&fleet);
        assert_eq!(pace.time_ms(250) - pace.time_ms(0), 2500);
        assert_eq!(pace.due(250) - pace.due(0), Duration::from_millis(2500));
        let (car, text) = Readings::new(&fleet).unwrap().make(0, 1_700_000_000_123);
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((car.as_str(), &value["event_time"]), ("car-000001", &1_700_000_000_123_i64.into()));
    }
}
