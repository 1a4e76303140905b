//! The loop against a broker: whatever happens to a worker, each record has one outcome.

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use common::{Asked, Copy, assert_exactly_once, numbered, produce, read_all, small_loop, wait_until};
use telltale_kafka::exactly_once::{self, Begin, Error, Fault, Health, Metrics, Step};
use telltale_kafka::topics::Topics;
use telltale_kafka::{KafkaConfig, TopicPartition};
use telltale_records::topics::TopicSpec;
use telltale_records::{Batch, Destination, Outgoing};
use tokio_util::sync::CancellationToken;

const RECORDS: usize = 5_000;

/// Runs `config` on a thread until `enough` records lie in `target`.
fn run_until<S: Step>(
    config: &exactly_once::LoopConfig,
    kafka: &KafkaConfig,
    target: &str,
    enough: usize,
    make_step: impl Fn(usize) -> S + Send + Sync,
) -> Metrics {
    let (stop, metrics) = (CancellationToken::new(), Metrics::default());
    thread::scope(|scope| {
        let running = scope.spawn(|| exactly_once::run(config, kafka, stop.clone(), &metrics, make_step));
        wait_until("all outcomes", || {
            if running.is_finished() {
                return true;
            }
            read_all(kafka, target).len() >= enough
        });
        stop.cancel();
        running.join().unwrap().unwrap();
    });
    metrics
}

#[test]
fn two_workers_copy_each_record_once_and_in_order() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let [source, target, dead] = engine.topics(4);
    produce(&kafka, source, numbered(RECORDS));
    let mut config = small_loop(source, dead, "copier");
    config.workers = 2;
    let metrics =
        run_until(&config, &kafka, target, RECORDS, |_| Copy { target, before: |_: &Batch| Ok(()) });
    assert_exactly_once(&kafka, source, target);
    let label = |topic: &str| exactly_once::TopicLabel { topic: topic.to_owned() };
    assert_eq!(metrics.records_in.get_or_create(&label(source)).get(), RECORDS as u64);
    assert_eq!(metrics.records_out.get_or_create(&label(target)).get(), RECORDS as u64);
}

#[test]
fn passing_faults_at_random_leave_each_record_once() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let [source, target, dead] = engine.topics(3);
    produce(&kafka, source, numbered(RECORDS));
    let config = small_loop(source, dead, "copier");
    let batches = AtomicUsize::new(0);
    let faults = AtomicUsize::new(0);
    let step = |_| Copy {
        target,
        before: |_: &Batch| {
            // A fixed pseudo-random pattern, an eighth of the batches.
            let number = batches.fetch_add(1, Ordering::Relaxed);
            if number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61 == 0 {
                faults.fetch_add(1, Ordering::Relaxed);
                return Err(Fault::Passing(Asked));
            }
            Ok(())
        },
    };
    run_until(&config, &kafka, target, RECORDS, step);
    assert!(faults.load(Ordering::Relaxed) > 2);
    assert_exactly_once(&kafka, source, target);
}

#[test]
fn a_worker_that_dies_in_the_middle_is_replaced_without_loss_or_doubling() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let [source, target, dead] = engine.topics(2);
    produce(&kafka, source, numbered(RECORDS));
    let config = small_loop(source, dead, "copier");
    for life in 0..4 {
        let left = AtomicUsize::new(5 + life);
        let step = |_| Copy {
            target,
            before: |_: &Batch| match left.fetch_sub(1, Ordering::Relaxed) {
                1 => Err(Fault::Final(Asked)),
                _ => Ok(()),
            },
        };
        let result = exactly_once::run(&config, &kafka, CancellationToken::new(), &Metrics::default(), step);
        assert!(matches!(result, Err(Error::Step(Asked))), "{result:?}");
    }
    run_until(&config, &kafka, target, RECORDS, |_| Copy { target, before: |_: &Batch| Ok(()) });
    assert_exactly_once(&kafka, source, target);
}

#[test]
fn an_instance_that_comes_and_goes_moves_partitions_without_loss_or_doubling() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let [source, target, dead] = engine.topics(4);
    produce(&kafka, source, numbered(2 * RECORDS));
    let first = small_loop(source, dead, "first");
    let second = small_loop(source, dead, "second");
    let by_second = AtomicUsize::new(0);
    let slow = |_: &Batch| {
        thread::sleep(std::time::Duration::from_millis(5));
        Ok(())
    };
    thread::scope(|scope| {
        let leave = CancellationToken::new();
        let (kafka, by_second) = (&kafka, &by_second);
        let guest = scope.spawn({
            let leave = leave.clone();
            move || {
                let step = |_| Copy {
                    target,
                    before: |batch: &Batch| {
                        by_second.fetch_add(batch.len(), Ordering::Relaxed);
                        Ok(())
                    },
                };
                exactly_once::run(&second, kafka, leave, &Metrics::default(), step)
            }
        });
        let host =
            scope.spawn(|| run_until(&first, kafka, target, 2 * RECORDS, |_| Copy { target, before: slow }));
        wait_until("records of the second instance", || by_second.load(Ordering::Relaxed) > 200);
        leave.cancel();
        guest.join().unwrap().unwrap();
        host.join().unwrap();
    });
    assert_exactly_once(&kafka, source, target);
}

#[test]
fn a_record_the_target_refuses_becomes_a_dead_letter_and_the_others_go_on() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let [source, target, dead] = engine.topics(1);
    let mut records: Vec<_> = numbered(300).collect();
    produce(&kafka, source, records.drain(..));
    // The outcome of these is larger than a topic takes by default (1 MiB); their source is not.
    struct Grow(&'static str);
    impl Step for Grow {
        type Error = Asked;
        fn process(&mut self, batch: &Batch, out: &mut Outgoing) -> Result<(), Fault<Asked>> {
            let topic = out.topic(self.0);
            for record in batch.records() {
                let to = Destination { topic, partition: None, timestamp_ms: None };
                let large = record.offset() == 100 || record.offset() == 200;
                out.push_with(to, record.key(), Some(&record.source()), &[], |value| {
                    value.extend_from_slice(record.value().unwrap());
                    if large {
                        value.resize(2 << 20, b' ');
                    }
                });
            }
            Ok(())
        }
    }
    let config = small_loop(source, dead, "grower");
    run_until(&config, &kafka, target, 298, |_| Grow(target));
    let (out, dead) = (read_all(&kafka, target), read_all(&kafka, dead));
    assert_eq!((out.len(), dead.len()), (298, 2));
    let reasons: Vec<_> =
        dead.iter().map(|it| (&*it.headers["src"], &*it.headers["reason"], &*it.value)).collect();
    assert_eq!(reasons[0], (&*format!("{source}-0-100"), "too-large", &b"reading 100"[..]));
    assert_eq!(reasons[1], (&*format!("{source}-0-200"), "too-large", &b"reading 200"[..]));
    assert!(dead[0].headers["detail"].contains(&format!("topic {target}")), "{:?}", dead[0].headers);
}

#[test]
fn a_step_that_waits_gets_no_record_and_none_is_lost() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let [source, target, dead] = engine.topics(2);
    produce(&kafka, source, numbered(1_000));
    static MAY_GO: AtomicBool = AtomicBool::new(false);
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    struct Patient(&'static str);
    impl Step for Patient {
        type Error = Asked;
        fn begin(&mut self) -> Begin {
            ASKED.fetch_add(1, Ordering::Relaxed);
            if MAY_GO.load(Ordering::Relaxed) { Begin::Go } else { Begin::Wait }
        }
        fn process(&mut self, batch: &Batch, out: &mut Outgoing) -> Result<(), Fault<Asked>> {
            assert!(MAY_GO.load(Ordering::Relaxed));
            Copy { target: self.0, before: |_: &Batch| Ok(()) }.process(batch, out)
        }
    }
    let config = small_loop(source, dead, "waiter");
    thread::scope(|scope| {
        let kafka = &kafka;
        let running = scope.spawn(|| run_until(&config, kafka, target, 1_000, |_| Patient(target)));
        wait_until("the step was asked often", || ASKED.load(Ordering::Relaxed) > 20);
        assert!(read_all(kafka, target).is_empty());
        MAY_GO.store(true, Ordering::Relaxed);
        running.join().unwrap();
    });
    assert_exactly_once(&kafka, source, target);
}

#[test]
fn state_is_rebuilt_after_every_abort() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let [source, target, dead] = engine.topics(2);
    produce(&kafka, source, numbered(1_000));
    /// Fails once; its state is how many partitions it holds.
    struct Counting {
        target: &'static str,
        held: usize,
        failed: bool,
        log: Vec<String>,
    }
    static LOG: Mutex<Vec<String>> = Mutex::new(Vec::new());
    impl Step for Counting {
        type Error = Asked;
        fn assigned(&mut self, partitions: &[TopicPartition]) -> Result<(), Fault<Asked>> {
            self.held += partitions.len();
            self.log.push(format!("assigned {}", partitions.len()));
            Ok(())
        }
        fn revoked(&mut self, partitions: &[TopicPartition]) {
            self.held -= partitions.len();
            self.log.push(format!("revoked {}", partitions.len()));
        }
        fn process(&mut self, batch: &Batch, out: &mut Outgoing) -> Result<(), Fault<Asked>> {
            assert_eq!(self.held, 2);
            if !self.failed {
                self.failed = true;
                return Err(Fault::Passing(Asked));
            }
            Copy { target: self.target, before: |_: &Batch| Ok(()) }.process(batch, out)
        }
        fn health(&mut self, health: Health<'_>) {
            if let Health::NotReady(reason) = health {
                self.log.push(reason.to_owned());
            }
        }
    }
    impl Drop for Counting {
        fn drop(&mut self) {
            LOG.lock().unwrap().append(&mut self.log);
        }
    }
    let config = small_loop(source, dead, "counter");
    run_until(&config, &kafka, target, 1_000, |_| Counting {
        target,
        held: 0,
        failed: false,
        log: Vec::new(),
    });
    assert_exactly_once(&kafka, source, target);
    let log = LOG.lock().unwrap();
    let expected = ["assigned 2", "revoked 2", "processing: asked for by the test", "assigned 2"];
    let found: Vec<_> =
        log.iter().filter(|it| !it.contains("joining") && !it.contains("connection")).take(4).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_missing_topic_is_named_at_start() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let [target, dead] = engine.topics(1);
    let config = small_loop("nowhere", dead, "copier");
    let step = |_| Copy { target, before: |_: &Batch| Ok(()) };
    let error =
        exactly_once::run(&config, &kafka, CancellationToken::new(), &Metrics::default(), step).unwrap_err();
    assert!(error.to_string().contains("topic nowhere does not exist; `telltale topics create`"), "{error}");
}

#[test]
fn a_broker_that_stops_and_starts_again_costs_neither_loss_nor_doubling() {
    let mut engine = common::lasting_engine();
    let kafka = engine.kafka();
    let [source, target, dead] = engine.topics(2);
    produce(&kafka, source, numbered(RECORDS));
    let config = small_loop(source, dead, "copier");
    let (stop, metrics, copied) = (CancellationToken::new(), Metrics::default(), AtomicUsize::new(0));
    let step = |_| Copy {
        target,
        before: |batch: &Batch| {
            copied.fetch_add(batch.len(), Ordering::Relaxed);
            thread::sleep(std::time::Duration::from_millis(10));
            Ok(())
        },
    };
    thread::scope(|scope| {
        let running = scope.spawn(|| exactly_once::run(&config, &kafka, stop.clone(), &metrics, step));
        for enough in [500, 1500] {
            wait_until("records under way", || copied.load(Ordering::Relaxed) > enough);
            engine.stop();
            thread::sleep(std::time::Duration::from_millis(300));
            engine.start_again();
        }
        wait_until("all outcomes", || running.is_finished() || read_all(&kafka, target).len() >= RECORDS);
        stop.cancel();
        running.join().unwrap().unwrap();
    });
    assert_exactly_once(&kafka, source, target);
}

#[test]
fn a_loop_ends_when_it_is_asked_to_although_kafka_is_away() {
    let mut engine = common::lasting_engine();
    let kafka = engine.kafka();
    let [source, target, dead] = engine.topics(2);
    produce(&kafka, source, numbered(1_000));
    let config = small_loop(source, dead, "copier");
    let (stop, copied) = (CancellationToken::new(), AtomicUsize::new(0));
    let step = |_| Copy {
        target,
        before: |batch: &Batch| {
            copied.fetch_add(batch.len(), Ordering::Relaxed);
            Ok(())
        },
    };
    thread::scope(|scope| {
        let running =
            scope.spawn(|| exactly_once::run(&config, &kafka, stop.clone(), &Metrics::default(), step));
        wait_until("records under way", || copied.load(Ordering::Relaxed) > 200);
        engine.stop();
        stop.cancel();
        wait_until("the loop has ended", || running.is_finished());
        running.join().unwrap().unwrap();
    });
}

#[test]
fn a_target_that_is_deleted_is_named_and_waited_for() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let [source, target, dead] = engine.topics(2);
    produce(&kafka, source, numbered(100));
    /// Copies, and notes what is told of its health.
    struct Told<'a>(&'static str, &'a Mutex<Vec<String>>);
    impl Step for Told<'_> {
        type Error = Asked;
        fn process(&mut self, batch: &Batch, out: &mut Outgoing) -> Result<(), Fault<Asked>> {
            Copy { target: self.0, before: |_: &Batch| Ok(()) }.process(batch, out)
        }
        fn health(&mut self, health: Health<'_>) {
            if let Health::NotReady(reason) = health {
                self.1.lock().unwrap().push(reason.to_owned());
            }
        }
    }
    let config = small_loop(source, dead, "copier");
    let (stop, told) = (CancellationToken::new(), Mutex::default());
    let topics = Topics::open(&kafka).unwrap();
    let (step, kafka) = (|_| Told(target, &told), &kafka);
    thread::scope(|scope| {
        let running =
            scope.spawn(|| exactly_once::run(&config, kafka, stop.clone(), &Metrics::default(), step));
        wait_until("the first hundred", || read_all(kafka, target).len() == 100);
        topics.delete(target).unwrap();
        produce(kafka, source, numbered(200).skip(100));
        let missing = format!("topic {target} does not exist; `telltale topics create`");
        wait_until("the topic is named", || told.lock().unwrap().iter().any(|it| it.contains(&missing)));
        let spec = TopicSpec { name: target, partitioned: true, config: &[] };
        topics.create(&spec, 2, 1).unwrap();
        wait_until("the second hundred", || read_all(kafka, target).len() == 100);
        stop.cancel();
        running.join().unwrap().unwrap();
    });
    let mut again: Vec<_> = read_all(kafka, target).into_iter().map(|it| it.value).collect();
    let mut expected: Vec<_> = numbered(200).skip(100).map(|(_, value)| value).collect();
    again.sort();
    expected.sort();
    assert_eq!(again, expected);
}

#[test]
fn records_deleted_before_they_were_read_end_the_loop_and_are_named() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let [source, target, dead] = engine.topics(1);
    produce(&kafka, source, numbered(100));
    let config = small_loop(source, dead, "copier");
    let step = |_| Copy { target, before: |_: &Batch| Ok(()) };
    run_until(&config, &kafka, target, 100, step);
    produce(&kafka, source, numbered(100));
    common::delete_records(&kafka, source, 150);
    let error =
        exactly_once::run(&config, &kafka, CancellationToken::new(), &Metrics::default(), step).unwrap_err();
    let expected = format!("can no longer read {source}-0 at offset 100: Kafka holds 150..200");
    assert!(error.to_string().contains(&expected), "{error}");
    assert_eq!(read_all(&kafka, target).len(), 100, "nothing was skipped");
}

#[test]
fn two_instances_of_one_identity_do_not_both_go_on() {
    let engine = common::engine();
    let kafka = engine.kafka();
    let [source, target, dead] = engine.topics(2);
    produce(&kafka, source, numbered(100));
    let config = small_loop(source, dead, "copier");
    let step = |_| Copy { target, before: |_: &Batch| Ok(()) };
    let other = exactly_once::LoopConfig { group: "another".to_owned(), ..config.clone() };
    let (stop, metrics) = (CancellationToken::new(), Metrics::default());
    thread::scope(|scope| {
        let first = scope.spawn(|| exactly_once::run(&config, &kafka, stop.clone(), &metrics, step));
        wait_until("outcomes of the first", || read_all(&kafka, target).len() == 100);
        let second =
            scope.spawn(|| exactly_once::run(&other, &kafka, stop.clone(), &Metrics::default(), step));
        wait_until("outcomes of the second", || read_all(&kafka, target).len() == 200);
        produce(&kafka, source, numbered(100));
        wait_until("the first is fenced", || first.is_finished());
        stop.cancel();
        let error = first.join().unwrap().unwrap_err().to_string();
        assert!(error.contains("was taken over by another process"), "{error}");
        second.join().unwrap().unwrap();
    });
}
