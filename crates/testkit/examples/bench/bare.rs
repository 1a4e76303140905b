//! The bare ways: librdkafka alone, doing as little as its part of a service can do.
//!
//! They run as processes of their own. A copy is measured from outside, as services are; who only reads or only writes leaves
//! no trace to look at and measures itself, behind a first part that warms it up.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use crate::figures::Sample;
use crate::load::{Fleet, Pace, Readings};
use crate::machine::load;
use crate::process::used;

/// Longest silence of Kafka.
const SILENCE: Duration = Duration::from_secs(60);
/// Wait for librdkafka to let go of what it has delivered.
const MOMENT: Duration = Duration::from_micros(100);

/// Measures its own process, from the end of the warm-up on.
pub(crate) struct Meter {
    warm: u64,
    seen: u64,
    began: Option<(u64, Instant, Duration)>,
}

impl Meter {
    /// Of so many records, the first twentieth is for warming up.
    pub(crate) fn new(records: u64) -> Self {
        Self { warm: records / 20, seen: 0, began: None }
    }

    /// Counts a record; returns how many there were.
    pub(crate) fn add(&mut self) -> Result<u64> {
        self.seen += 1;
        if self.began.is_none() && self.seen >= self.warm {
            self.began = Some((self.seen, Instant::now(), used(std::process::id())?.cpu));
        }
        Ok(self.seen)
    }

    /// Prints what was measured as the last line that the process says.
    pub(crate) fn print(&self) -> Result<()> {
        let (before, at, cpu) = self.began.context("nothing was measured")?;
        let now = used(std::process::id())?;
        let sample = Sample {
            records: self.seen - before,
            seconds: at.elapsed().as_secs_f64(),
            cpu_seconds: (now.cpu - cpu).as_secs_f64(),
            peak_rss_kb: now.peak_rss_kb,
            load: load(),
        };
        println!("{}", serde_json::to_string(&sample)?);
        Ok(())
    }
}

/// What a part printed.
pub(crate) fn printed(log: &str) -> Result<Sample> {
    let line = log.lines().rev().find(|it| it.starts_with('{'));
    serde_json::from_str(line.with_context(|| format!("no figures in {log:?}"))?).context("reading figures")
}

/// Reads a topic.
#[derive(Debug, Args)]
pub(crate) struct Consume {
    #[arg(long)]
    kafka: String,
    #[arg(long)]
    topic: String,
    #[arg(long)]
    group: String,
    /// Records to read
    #[arg(long)]
    records: u64,
}

impl Consume {
    /// Reads so many records and prints the figures.
    pub(crate) fn run(&self) -> Result<()> {
        let consumer = consumer(&self.kafka, &self.group, &self.topic)?;
        let mut meter = Meter::new(self.records);
        let (mut bytes, mut heard) = (0, Instant::now());
        loop {
            // None comes early after a rebalance, so it is no sign of an end.
            let Some(message) = consumer.poll(Duration::from_millis(100)) else {
                ensure!(heard.elapsed() < SILENCE, "no record for {SILENCE:?}");
                continue;
            };
            heard = Instant::now();
            bytes += message?.payload().map_or(0, <[u8]>::len);
            if meter.add()? >= self.records {
                break;
            }
        }
        ensure!(bytes > 0, "the records were empty");
        meter.print()
    }
}

fn consumer(kafka: &str, group: &str, topic: &str) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()?;
    consumer.subscribe(&[topic])?;
    Ok(consumer)
}

/// A producer whose reports a thread of its own takes.
type Bare = ThreadedProducer<DefaultProducerContext>;

/// Copies a topic until it is ended.
#[derive(Debug, Args)]
pub(crate) struct Copy {
    #[arg(long)]
    kafka: String,
    #[arg(long)]
    from: String,
    #[arg(long)]
    to: String,
    #[arg(long)]
    group: String,
    /// Most records of a transaction
    #[arg(long, default_value = "10000")]
    most: u64,
    /// Longest time to gather records for one transaction after the first
    #[arg(long, default_value = "20ms")]
    linger: humantime::Duration,
}

impl Copy {
    /// Copies: one consumer, one transactional producer, no decoding, keys and time stamps kept.
    pub(crate) fn run(&self) -> Result<()> {
        let consumer = consumer(&self.kafka, &self.group, &self.from)?;
        let producer: Bare = ClientConfig::new()
            .set("bootstrap.servers", &self.kafka)
            .set("transactional.id", &self.group)
            .set("linger.ms", "2")
            .create()?;
        producer.init_transactions(SILENCE)?;
        let mut next: HashMap<i32, i64> = HashMap::new();
        let (mut held, mut due) = (0, Instant::now());
        loop {
            let wait = if held == 0 { Duration::from_millis(100) } else { whole_ms(due) };
            let message = consumer.poll(wait).transpose()?;
            if let Some(message) = &message {
                if held == 0 {
                    producer.begin_transaction()?;
                    due = Instant::now() + *self.linger;
                }
                let record = BaseRecord::to(&self.to)
                    .key(message.key().unwrap_or_default())
                    .payload(message.payload().unwrap_or_default());
                send(&producer, record.timestamp(message.timestamp().to_millis().unwrap_or_default()))?;
                next.insert(message.partition(), message.offset() + 1);
                held += 1;
            }
            // As the services do: what is there already is taken in also after the time to gather.
            if held >= self.most || (held > 0 && message.is_none()) {
                self.commit(&consumer, &producer, &mut next)?;
                held = 0;
            }
        }
    }

    fn commit(&self, consumer: &BaseConsumer, producer: &Bare, next: &mut HashMap<i32, i64>) -> Result<()> {
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in next.drain() {
            offsets.add_partition_offset(&self.from, partition, Offset::Offset(offset))?;
        }
        let group = consumer.group_metadata().context("the group has no generation")?;
        producer.send_offsets_to_transaction(&offsets, &group, SILENCE)?;
        settle(producer)?;
        Ok(producer.commit_transaction(SILENCE)?)
    }
}

/// Time until `due` in whole milliseconds: rdkafka spins through the rest of one.
fn whole_ms(due: Instant) -> Duration {
    let left = due.saturating_duration_since(Instant::now());
    Duration::from_millis(left.as_micros().div_ceil(1000).try_into().unwrap_or(u64::MAX))
}

/// Hands a record over, as soon as there is room.
fn send(producer: &Bare, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<()> {
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                std::thread::sleep(MOMENT);
                record = back;
            }
            Err((error, _)) => bail!(error),
        }
    }
}

/// Waits until all is delivered: a commit or flush with records in flight polls in slices of 100 ms.
fn settle(producer: &Bare) -> Result<()> {
    let deadline = Instant::now() + SILENCE;
    while producer.in_flight_count() > 0 {
        ensure!(Instant::now() < deadline, "records were not delivered within {SILENCE:?}");
        std::thread::sleep(MOMENT);
    }
    Ok(())
}

/// Writes readings.
#[derive(Debug, Args)]
pub(crate) struct Produce {
    #[arg(long)]
    kafka: String,
    #[arg(long)]
    topic: String,
    /// Topic of one record that is written before the clock runs: a new producer's first record waits half a second for its id
    #[arg(long)]
    first: Option<String>,
    #[command(flatten)]
    fleet: Fleet,
}

impl Produce {
    /// Writes the readings; at full speed it makes them before and prints the figures of writing them.
    pub(crate) fn run(&self) -> Result<()> {
        let paced = self.fleet.rate.is_some();
        let producer: Bare = ClientConfig::new()
            .set("bootstrap.servers", &self.kafka)
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", if paced { "0" } else { "5" })
            .create()?;
        let mut readings = Readings::new(&self.fleet)?;
        if let Some(first) = &self.first {
            send(&producer, BaseRecord::to(first).key(&b"it"[..]).payload(&b"it"[..]))?;
            settle(&producer)?;
            producer.client().fetch_metadata(Some(&self.topic), SILENCE)?;
        }
        let pace = Pace::new(&self.fleet);
        if paced {
            for number in 0..self.fleet.messages {
                let due = pace.due(number);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let time_ms = pace.time_ms(number);
                let (car, value) = readings.make(number, time_ms);
                send(
                    &producer,
                    BaseRecord::to(&self.topic).key(car.as_bytes()).payload(&value[..]).timestamp(time_ms),
                )?;
            }
            return settle(&producer);
        }
        let made: Vec<_> = (0..self.fleet.messages).map(|it| readings.make(it, pace.time_ms(it))).collect();
        let mut meter = Meter::new(self.fleet.messages);
        for (car, value) in &made {
            send(&producer, BaseRecord::to(&self.topic).key(car.as_bytes()).payload(&value[..]))?;
            meter.add()?;
        }
        settle(&producer)?;
        meter.print()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_prints_what_the_bench_reads() {
        let sample = Sample { records: 9, seconds: 1.5, cpu_seconds: 0.25, peak_rss_kb: 7, load: 0.5 };
        let log = format!("a warning\n{}\n", serde_json::to_string(&sample).unwrap());
        assert_eq!(printed(&log).unwrap(), sample);
        assert!(printed("a warning\n").unwrap_err().to_string().contains("a warning"));
    }

    #[test]
    fn a_meter_leaves_the_warm_up_out() {
        let mut meter = Meter::new(100);
        for seen in 1..=100 {
            assert_eq!(meter.add().unwrap(), seen);
        }
        assert_eq!(meter.began.unwrap().0, 5);
    }
}
