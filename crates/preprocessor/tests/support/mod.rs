//! Engines, readings, and a look at what the preprocessor made of them.

use std::collections::BTreeMap;

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use clap::Parser as _;
use telltale_kafka::KafkaConfig;
use telltale_kafka::producer::NewRecord;
use telltale_kafka::topics::Topics;
use telltale_preprocessor::Config;
use telltale_records::avro::Decoder;
use telltale_records::topics::TopicSpec;
use telltale_records::{Schema, Source, framing, schema, topics};
use telltale_service::Running;
use telltale_testkit::{Engines, Writer, Written};

pub(crate) const PARTITIONS: i32 = 3;
/// Event time of the first reading.
pub(crate) const START: i64 = 1_700_000_100_000;
const FIVE_MINUTES: i64 = 300_000;
const GRACE: i64 = 3_600_000;

/// Engines, a folder, and settings for them.
pub(crate) struct World {
    pub(crate) engines: Engines,
    pub(crate) kafka: KafkaConfig,
    pub(crate) folder: tempfile::TempDir,
    writer: Writer,
}

impl World {
    pub(crate) fn start() -> Self {
        let engines = Engines::fresh(PARTITIONS);
        let kafka = engines.kafka();
        let writer = Writer::new(&kafka);
        Self { engines, kafka, folder: tempfile::tempdir().unwrap(), writer }
    }

    pub(crate) fn create(&self, name: &'static str, partitions: i32) {
        // Made-up readings are years old: Kafka looks every five minutes for what retention deletes.
        let spec = TopicSpec { name, partitioned: true, config: &[("retention.ms", "-1")] };
        Topics::open(&self.kafka).unwrap().create(&spec, partitions, self.engines.replication()).unwrap();
    }

    pub(crate) fn flags(&self, more: &[&str]) -> Vec<String> {
        self.flags_at(&self.kafka, more)
    }

    /// Flags that lead to this Kafka.
    pub(crate) fn flags_at(&self, kafka: &KafkaConfig, more: &[&str]) -> Vec<String> {
        let own = [kafka.flags(), self.engines.registry_flags()].concat();
        own.into_iter().chain(more.iter().map(|&it| it.to_owned())).collect()
    }

    pub(crate) fn config(&self, more: &[&str]) -> Config {
        Config::try_parse_from(["preprocessor".to_owned()].into_iter().chain(self.flags(more))).unwrap()
    }

    /// Runs the service until it ends by itself, which is an error; returns the error with its causes.
    pub(crate) fn failure(&self, more: &[&str]) -> String {
        let host = telltale_testkit::host();
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
        telltale_testkit::beside("preprocessor", self.config(more), telltale_preprocessor::run, work)
    }

    pub(crate) fn send(&self, record: NewRecord<'_>) {
        self.writer.send(record);
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
        self.writer.flush();
    }

    /// Everything committed to `topic`, partition by partition, in order.
    pub(crate) fn written(&self, topic: &str) -> Vec<Written> {
        telltale_testkit::written(&self.kafka, topic)
    }

    /// Outcomes of readings by their source, once there is one for each reading.
    pub(crate) fn outcomes(&self) -> BTreeMap<String, (&'static str, Written)> {
        telltale_testkit::outcomes(&self.kafka, topics::SENSOR_DATA, &[topics::CLEAN, topics::DEAD_LETTERS])
    }

    /// The table of windows: the last count of each car and window, and that rows lie where their readings
    /// did.
    pub(crate) fn table(&self) -> BTreeMap<(String, i64), i64> {
        let decoder = Decoder::compile(&Schema::parse(schema::EVENTS_PER_5MIN).unwrap()).unwrap();
        let mut table = BTreeMap::new();
        for row in self.written(topics::EVENTS_PER_5MIN) {
            let src: Source = row.src().parse().unwrap();
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
