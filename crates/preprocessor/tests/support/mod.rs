//! Engines, readings, and a look at what the preprocessor made of them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use clap::Parser as _;
use telltale_embedded::log::{Log, LogConfig};
use telltale_embedded::registry;
use telltale_kafka::producer::{NewRecord, ProducerConfig, SendError};
use telltale_kafka::topics::Topics;
use telltale_kafka::{Isolation, KafkaConfig, Producer, Reader, Registry, RegistryConfig};
use telltale_preprocessor::Config;
use telltale_records::avro::Decoder;
use telltale_records::topics::TopicSpec;
use telltale_records::{Schema, Source, framing, schema, topics};
use telltale_service::{Address, Host, Running};
use tokio_util::sync::CancellationToken;

pub(crate) const PARTITIONS: i32 = 3;
/// Long, since the machine that runs the tests may be busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// Event time of the first reading.
pub(crate) const START: i64 = 1_700_000_100_000;
const FIVE_MINUTES: i64 = 300_000;
const GRACE: i64 = 3_600_000;

/// A log, a registry, and settings for them.
pub(crate) struct World {
    pub(crate) kafka: KafkaConfig,
    pub(crate) registry_url: String,
    pub(crate) engine: Option<registry::Registry>,
    pub(crate) folder: tempfile::TempDir,
    producer: Producer,
    _log: Log,
}

/// A record of some topic.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) source: Source,
    pub(crate) src: String,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) reason: String,
    pub(crate) detail: String,
}

impl World {
    pub(crate) fn start() -> Self {
        let log = Log::start(LogConfig::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let engine = registry::start(0, Some(folder.path())).unwrap();
        let kafka = KafkaConfig::at(log.addr().to_string());
        Topics::open(&kafka).unwrap().create_all(PARTITIONS, 1).unwrap();
        let producer =
            Producer::new(&kafka, &ProducerConfig::default(), |_, outcome| _ = outcome.unwrap()).unwrap();
        Self { kafka, registry_url: engine.url(), engine: Some(engine), folder, producer, _log: log }
    }

    pub(crate) fn registry(&self) -> Registry {
        Registry::new(&RegistryConfig::at(&self.registry_url)).unwrap()
    }

    /// Lets the registry die, and come again at the same address.
    pub(crate) fn restart_registry(&mut self) {
        let port = self.registry_url.rsplit(':').next().unwrap().parse().unwrap();
        self.engine = Some(registry::start(port, Some(self.folder.path())).unwrap());
    }

    pub(crate) fn create(&self, name: &'static str, partitions: i32) {
        let spec = TopicSpec { name, partitioned: true, config: &[] };
        Topics::open(&self.kafka).unwrap().create(&spec, partitions, 1).unwrap();
    }

    pub(crate) fn flags(&self, more: &[&str]) -> Vec<String> {
        let own = ["--kafka", &self.kafka.bootstrap, "--registry", &self.registry_url];
        own.iter().chain(more).map(|&it| it.to_owned()).collect()
    }

    pub(crate) fn config(&self, more: &[&str]) -> Config {
        Config::try_parse_from(["preprocessor".to_owned()].into_iter().chain(self.flags(more))).unwrap()
    }

    /// Runs the service until it ends by itself, which is an error; returns the error with its causes.
    pub(crate) fn failure(&self, more: &[&str]) -> String {
        let host = Host::start(Address::Off, "--http", LIMIT).unwrap();
        let service = host.service("preprocessor");
        let error = telltale_preprocessor::run(self.config(more), &service).unwrap_err();
        telltale_service::chain(&error)
    }

    /// Runs `work` beside a preprocessor, which is stopped afterwards and must have ended well.
    pub(crate) fn beside<T>(
        &self,
        more: &[&str],
        work: impl FnOnce(&Running<telltale_preprocessor::Error>) -> T,
    ) -> T {
        let host = Host::start(Address::Off, "--http", Duration::from_secs(20)).unwrap();
        let running = host.launch("preprocessor", self.config(more), telltale_preprocessor::run);
        let result = work(&running);
        running.stop(LIMIT).unwrap();
        result
    }

    pub(crate) fn send(&self, record: NewRecord<'_>) {
        loop {
            match self.producer.send(record, 0) {
                Ok(()) => return,
                Err(SendError::Full) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Sends `value` as a reading of `car`, with the time stamp [`START`].
    pub(crate) fn send_value(&self, car: &str, value: Option<&[u8]>) {
        let topic = topics::SENSOR_DATA;
        let (key, timestamp_ms) = (Some(car.as_bytes()), Some(START));
        self.send(NewRecord { topic, key, value, timestamp_ms, ..NewRecord::default() });
    }

    /// Sends readings number `from..to` of a fleet of 40 cars; some are bad, some late, their times out of
    /// order.
    pub(crate) fn send_fleet(&self, range: std::ops::Range<i64>) {
        for number in range {
            let car = format!("car-{:06}", number * 7 % 40);
            let jump = if number % 97 == 0 { -2 * GRACE } else { number * 13 % 400_000 - 200_000 };
            let time = START + GRACE + number * 500 + jump;
            let speed = if number % 50 == 3 { "9999" } else { "50.5" };
            let value = json(&car, time).replace("\"speed\":24.9", &format!("\"speed\":{speed}"));
            let (topic, timestamp_ms) = (topics::SENSOR_DATA, Some(time.max(START)));
            let (key, value) = (Some(car.as_bytes()), Some(value.as_bytes()));
            self.send(NewRecord { topic, key, value, timestamp_ms, ..NewRecord::default() });
        }
        self.flush();
    }

    pub(crate) fn flush(&self) {
        self.producer.flush(LIMIT).unwrap();
    }

    /// About how many records are committed to `topic`: the offsets they take up.
    pub(crate) fn extent(&self, topic: &str) -> i64 {
        let reader = Reader::open(&self.kafka, Isolation::Committed).unwrap();
        let partitions = reader.partitions(topic).unwrap();
        partitions.into_iter().map(|it| reader.watermarks(topic, it).unwrap().end).sum()
    }

    /// Everything committed to `topic`, partition by partition, in order.
    pub(crate) fn written(&self, topic: &str) -> Vec<Written> {
        let mut reader = Reader::open(&self.kafka, Isolation::Committed).unwrap();
        let mut found = Vec::new();
        for partition in reader.partitions(topic).unwrap() {
            let range = reader.watermarks(topic, partition).unwrap();
            let stop = CancellationToken::new();
            let read = reader.read(topic, partition, range, &stop, |batch| {
                let text = |it: Option<&[u8]>| String::from_utf8(it.unwrap_or_default().to_vec()).unwrap();
                found.extend(batch.records().map(|it| Written {
                    source: it.source(),
                    src: text(it.header("src")),
                    key: it.key().map(<[u8]>::to_vec),
                    value: it.value().map(<[u8]>::to_vec),
                    timestamp_ms: it.timestamp_ms(),
                    reason: text(it.header("reason")),
                    detail: text(it.header("detail")),
                }));
                ControlFlow::Continue(())
            });
            read.unwrap();
        }
        found
    }

    /// Outcomes of readings by their source, once there is one for each reading: topic, then what was
    /// written.
    pub(crate) fn outcomes(&self) -> BTreeMap<String, (&'static str, Written)> {
        let readings = self.written(topics::SENSOR_DATA);
        let all = || {
            let of = |topic| self.written(topic).into_iter().map(move |it| (topic, it));
            of(topics::CLEAN).chain(of(topics::DEAD_LETTERS)).collect::<Vec<_>>()
        };
        wait_until("each reading has an outcome", || all().len() >= readings.len());
        let mut by_source = BTreeMap::new();
        for (topic, written) in all() {
            let before = by_source.insert(written.src.clone(), (topic, written));
            assert!(before.is_none(), "two outcomes of one reading: {before:?}");
        }
        for reading in &readings {
            assert!(by_source.contains_key(&reading.source.to_string()), "{} was lost", reading.source);
        }
        assert_eq!(by_source.len(), readings.len());
        by_source
    }

    /// The table of windows: the last count of each car and window, and that rows lie where their readings
    /// did.
    pub(crate) fn table(&self) -> BTreeMap<(String, i64), i64> {
        let decoder = Decoder::compile(&Schema::parse(schema::EVENTS_PER_5MIN).unwrap()).unwrap();
        let mut table = BTreeMap::new();
        for row in self.written(topics::EVENTS_PER_5MIN) {
            let src: Source = row.src.parse().unwrap();
            assert_eq!(src.partition, row.source.partition, "a row lies in the partition of its readings");
            let value = row.value.unwrap();
            let columns = decoder.decode([framing::split(&value).unwrap().1]).columns;
            let number = |index: usize| columns.column(index).as_primitive::<Int64Type>().value(0);
            let car = columns.column(0).as_string::<i32>().value(0).to_owned();
            assert_eq!(number(2) - number(1), FIVE_MINUTES);
            assert_eq!(row.key.unwrap(), format!("{car}@{}", number(1)).into_bytes());
            let before = table.insert((car, number(1)), number(3)).unwrap_or_default();
            assert!(before < number(3), "a count went from {before} to {}", number(3));
        }
        table
    }

    /// What the table must hold: the clean readings counted one by one, partition by partition.
    pub(crate) fn recount(&self) -> BTreeMap<(String, i64), i64> {
        let outcomes = self.outcomes();
        let (mut table, mut newest) = (BTreeMap::new(), BTreeMap::new());
        for reading in self.written(topics::SENSOR_DATA) {
            let (topic, outcome) = &outcomes[&reading.source.to_string()];
            if *topic == topics::DEAD_LETTERS {
                continue;
            }
            let start = outcome.timestamp_ms.unwrap().div_euclid(FIVE_MINUTES) * FIVE_MINUTES;
            let newest = newest.entry(reading.source.partition).or_insert(start);
            if start + FIVE_MINUTES + GRACE > *newest {
                *newest = start.max(*newest);
                let car = String::from_utf8(outcome.key.clone().unwrap()).unwrap();
                *table.entry((car, start)).or_default() += 1;
            }
        }
        table
    }
}

/// Waits until `holds`, and says what for if it never does.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {LIMIT:?} until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A healthy reading.
pub(crate) fn json(car: &str, time_ms: i64) -> String {
    format!(
        "{{\"coolant_temp\":39.3,\"intake_air_temp\":34.5,\"intake_air_flow_speed\":12.3,\
         \"battery_percentage\":82.6,\"battery_voltage\":346.1,\"current_draw\":65.8,\"speed\":24.9,\
         \"engine_vibration_amplitude\":2.4,\"throttle_pos\":34.8,\"tire_pressure11\":232,\
         \"tire_pressure12\":231,\"tire_pressure21\":234,\"tire_pressure22\":234,\
         \"accelerometer11_value\":0.5,\"accelerometer12_value\":0.9,\"accelerometer21_value\":0.8,\
         \"accelerometer22_value\":0.04,\"control_unit_firmware\":2000,\"failure_occurred\":\"false\",\
         \"car\":\"{car}\",\"event_time\":{time_ms}}}"
    )
}

/// A reading of a device of the first generation, under schema `id`.
pub(crate) fn avro(id: u32, speed: f32) -> Vec<u8> {
    let mut value = Vec::new();
    framing::write_header(id, &mut value);
    for index in 0..9 {
        value.extend_from_slice(&if index == 6 { speed } else { 2.0_f32 }.to_le_bytes());
    }
    value.extend_from_slice(&[60; 4]);
    for _ in 0..4 {
        value.extend_from_slice(&3.0_f32.to_le_bytes());
    }
    value.extend_from_slice(b"\xe8\x0f\x0afalse");
    value
}
