//! Measures what poison does to the healthy: the time from a device to `SENSOR_DATA_S_AVRO`, without poison and with 1 % of it.
//!
//! `cargo run --release -p telltale --example poison_latency -- [--rate 500] [--for 20] [--rounds 5]`
//!
//! Rounds with and without poison take turns on the same engines and services, so that what else the machine does hits both.
//! With `TELLTALE_TEST_ENGINES=target/engines` it runs on the engines of `make up`, and deletes what they hold.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use clap::Parser;
use telltale_kafka::reader::{Followed, Start};
use telltale_kafka::{Isolation, Reader};
use telltale_mqtt::Qos;
use telltale_mqtt::device::{self, Event, Options};
use telltale_records::topics;
use telltale_testkit::poison::{Corpus, HEALTHY, Poison, Way};
use telltale_testkit::{ByHand, Engines, beside, metrics, wait_until};
use tokio_util::sync::CancellationToken;

const CARS: usize = 50;

#[derive(Debug, Parser)]
struct Flags {
    /// Healthy readings a second
    #[arg(long, default_value = "500")]
    rate: u32,
    /// Seconds of a round
    #[arg(long = "for", default_value = "20")]
    seconds: u32,
    /// Rounds of each kind
    #[arg(long, default_value = "5")]
    rounds: u32,
}

fn now_ms() -> i64 {
    UNIX_EPOCH.elapsed().map_or(0, |it| i64::try_from(it.as_millis()).unwrap_or(i64::MAX))
}

fn config<C: Parser>(name: &str, flags: &[Vec<String>]) -> C {
    C::try_parse_from([name.to_owned()].into_iter().chain(flags.concat())).expect("flags of ours")
}

fn main() {
    let flags = Flags::parse();
    let engines = Engines::fresh(4);
    let corpus = Corpus::register(&engines);
    let id = vec!["--mqtt-client-id".to_owned(), engines.name("bridge")];
    let bridge: telltale_bridge::Config =
        config("bridge", &[id, engines.mqtt_flags(), engines.kafka_flags()]);
    let preprocessor: telltale_preprocessor::Config =
        config("preprocessor", &[engines.kafka_flags(), engines.registry_flags()]);
    beside("bridge", bridge, telltale_bridge::run, |running| {
        wait_until("the bridge is ready", || {
            metrics(running.service()).contains("messages") && running.service().unready().is_empty()
        });
        beside("preprocessor", preprocessor, telltale_preprocessor::run, |_| {
            measure(&flags, &engines, &corpus)
        });
    });
}

/// Publishes, and takes the time of what comes out.
fn measure(flags: &Flags, engines: &Engines, corpus: &Corpus) {
    let (stop, latencies) = (CancellationToken::new(), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut reader = Reader::open(&engines.kafka(), Isolation::Committed).expect("settings of Kafka");
            let followed = reader.follow(topics::CLEAN, Start::End, &stop, |it| {
                if let Followed::Record(record) = it {
                    let sent = record.timestamp_ms().unwrap_or_default();
                    latencies.lock().unwrap_or_else(PoisonError::into_inner).push(now_ms() - sent);
                }
                ControlFlow::Continue(())
            });
            followed.expect("the topic can be read");
        });
        let mut rounds = [Vec::new(), Vec::new()];
        println!("{:8} {:>8} {:>6} {:>6} {:>6} {:>6} ms", "round", "readings", "p50", "p90", "p99", "max");
        // The first one only warms up.
        for round in 0..=2 * flags.rounds as usize {
            let with_poison = round % 2 == 1;
            publish(flags, engines, corpus, with_poison);
            let wanted = (flags.rate * flags.seconds) as usize;
            wait_until("all came out", || {
                latencies.lock().unwrap_or_else(PoisonError::into_inner).len() >= wanted
            });
            let mut found = std::mem::take(&mut *latencies.lock().unwrap_or_else(PoisonError::into_inner));
            found.sort_unstable();
            let quantile = |share: f64| found[((found.len() - 1) as f64 * share) as usize];
            let name = if round == 0 {
                "warming"
            } else if with_poison {
                "1 %"
            } else {
                "none"
            };
            let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(quantile);
            println!("{name:8} {:>8} {p50:>6} {p90:>6} {p99:>6} {max:>6}", found.len());
            if round > 0 {
                rounds[usize::from(with_poison)].push((p50, p99));
            }
        }
        let median = |rounds: &[(i64, i64)], of: fn(&(i64, i64)) -> i64| {
            let mut all: Vec<i64> = rounds.iter().map(of).collect();
            all.sort_unstable();
            all[all.len() / 2]
        };
        let [without, with] = [&rounds[0], &rounds[1]].map(|it| median(it, |it| it.1));
        let change = 100.0 * (with as f64 / without as f64 - 1.0);
        println!("median p99: {without} ms without poison, {with} ms with 1 %: {change:+.1} %");
        stop.cancel();
    });
}

/// Publishes one round of readings at their rate, and poison among them.
fn publish(flags: &Flags, engines: &Engines, corpus: &Corpus, with_poison: bool) {
    let (sent, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        if with_poison {
            scope.spawn(|| {
                // Coprime steps, so that a round has some of every class.
                let poisons: Vec<&Poison> = corpus.by(Way::Mqtt).collect();
                let mut hand = ByHand::connect(engines.mqtt());
                let mut number = 0;
                while !done.load(Ordering::Relaxed) {
                    if number * 99 > sent.load(Ordering::Relaxed) {
                        std::thread::sleep(Duration::from_millis(1));
                        continue;
                    }
                    let poison = poisons[number * 97 % poisons.len()];
                    let value = poison.value.as_deref().unwrap_or_default();
                    hand.publish(&poison.mqtt_topic(number), value, &poison.headers());
                    number += 1;
                }
            });
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(fleet(flags, engines, &sent));
        done.store(true, Ordering::Relaxed);
    });
}

async fn fleet(flags: &Flags, engines: &Engines, sent: &AtomicUsize) {
    let options = Options { window: 200, ..Options::new(engines.name("fleet")) };
    let (publisher, mut session) = device::open(&engines.endpoint(), options);
    let publishing = publisher.clone();
    let count = (flags.rate * flags.seconds) as usize;
    let pace = async {
        let began = Instant::now();
        for number in 0..count {
            let due = Duration::from_secs_f64(number as f64 / f64::from(flags.rate));
            tokio::time::sleep_until((began + due).into()).await;
            let topic: Arc<str> = format!("vehicles/sensor/data/car-{:06}", number % CARS).into();
            let reading = HEALTHY.replacen('}', &format!(",\"event_time\":{}}}", now_ms()), 1);
            let payload: bytes::Bytes = reading.into();
            while publishing.publish(&topic, Qos::AtLeastOnce, false, payload.clone()).is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await; // the window is full
            }
            sent.store(number + 1, Ordering::Relaxed);
        }
        while publishing.unacknowledged() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        publishing.close();
    };
    let drive = async {
        while let Some(event) = session.next().await {
            if let Event::Refused { reason, .. } = event {
                panic!("{reason}");
            }
        }
    };
    tokio::join!(pace, drive);
}
