//! Compaction against a model: what a reader sees afterwards.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::log::batch::tests::keyed;
use crate::log::partition::Wanted;
use crate::log::recovery;

fn config(settings: &[(&str, &str)]) -> TopicConfig {
    let small = [
        ("cleanup.policy", "compact"),
        ("internal.segment.bytes", "400"),
        ("min.cleanable.dirty.ratio", "0"),
    ];
    let all = small.iter().chain(settings).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    TopicConfig::parse(all.collect()).unwrap()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Everything a consumer sees: offset, key and whether there is a value.
fn read(log: &PartitionLog, committed: bool) -> Vec<(i64, String, bool)> {
    let mut seen = Vec::new();
    let mut offset = log.start();
    loop {
        let wanted = Wanted { offset, max_bytes: 1 << 20, committed, at_least_one: true };
        let fetched = log.fetch(wanted).unwrap();
        let mut rest = &fetched.records[..];
        if rest.is_empty() {
            return seen;
        }
        while let Some(header) = Header::read(rest) {
            let (batch, tail) = rest.split_at(header.size());
            rest = tail;
            assert_eq!(batch::crc(batch), header.crc);
            let aborted = header.is_transactional()
                && fetched.aborted.iter().any(|it| {
                    it.producer_id == header.producer_id
                        && it.first_offset <= header.base_offset
                        && header.base_offset < it.marker_offset
                });
            if !header.is_control() && !aborted {
                for record in raw::records(&codec::decompressed(&header, batch).unwrap()) {
                    let record = record.unwrap();
                    let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                    seen.push((header.base_offset + i64::from(record.offset_delta), key, record.has_value));
                }
            }
            offset = header.last_offset() + 1;
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Records of a producer: key number, value or not; transactional or not.
    Write(i64, bool, Vec<(u8, bool)>),
    End(i64, bool),
    Compact,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let records = prop::collection::vec((0..6_u8, prop::bool::weighted(0.8)), 1..6);
    let step = prop_oneof![
        6 => (1..4_i64, any::<bool>(), records).prop_map(|(producer, transactional, records)| Step::Write(producer, transactional, records)),
        3 => (1..4_i64, any::<bool>()).prop_map(|(producer, committed)| Step::End(producer, committed)),
        1 => Just(Step::Compact),
    ];
    prop::collection::vec(step, 1..60)
}

/// The state that the records make, key by key, without deleted keys.
fn state(records: &[(i64, String, bool)]) -> BTreeMap<String, i64> {
    let mut state = BTreeMap::new();
    for (offset, key, has_value) in records {
        if *has_value {
            state.insert(key.clone(), *offset)
        } else {
            state.remove(key)
        };
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Compaction at any moments changes neither the state that committed records make, nor any offset, nor
    /// what is known of open transactions and sequence numbers; and a restart finds all of it again.
    #[test]
    fn the_state_of_a_compacted_log_is_that_of_the_whole(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let whole_config = config(&[]);
        let log = PartitionLog::create("t-0".to_owned(), Some(folder.path().to_owned()), 0).unwrap();
        let log = Arc::new(Mutex::new(log));
        let mut whole = PartitionLog::create("t-0".to_owned(), None, 0).unwrap();
        let mut sequences = [0; 4];
        for step in steps {
            match step {
                Step::Write(producer, transactional, records) => {
                    // A producer is either transactional or not, as in Kafka: odd ones are.
                    let transactional = transactional && producer % 2 == 1;
                    let id = if transactional { producer } else { 100 + producer };
                    let sequence = &mut sequences[producer as usize];
                    let sequence_now = if transactional { *sequence } else { -1 };
                    let id = if transactional { id } else { -1 };
                    let records: Vec<_> = records.iter().enumerate()
                        .map(|(index, (key, value))| (Some(format!("k{key}")), value.then(|| "v".repeat(20)), index as i64))
                        .collect();
                    let bytes = keyed((id, if transactional { 0 } else { -1 }), sequence_now, transactional, 0, &records);
                    let header = batch::check(&bytes).unwrap();
                    lock(&log).append(&bytes, &header, &whole_config, at(1)).unwrap();
                    whole.append(&bytes, &header, &whole_config, at(1)).unwrap();
                    if transactional { *sequence += records.len() as i32; }
                }
                Step::End(producer, committed) => {
                    if lock(&log).producers().is_open(producer) {
                        lock(&log).append_marker((producer, 0), committed, &whole_config, at(1)).unwrap();
                        whole.append_marker((producer, 0), committed, &whole_config, at(1)).unwrap();
                    }
                }
                Step::Compact => apply(&log, &whole_config, at(10)).unwrap(),
            }
        }
        apply(&log, &whole_config, at(10)).unwrap();
        let expected = state(&read(&whole, true));
        let compacted = lock(&log);
        prop_assert_eq!(state(&read(&compacted, true)), expected.clone());
        prop_assert_eq!(compacted.end(), whole.end());
        prop_assert_eq!(compacted.last_stable(), whole.last_stable());
        let reopened = recovery::open("t-0".to_owned(), folder.path(), 0, 0).unwrap();
        prop_assert_eq!(state(&read(&reopened, true)), expected);
        prop_assert_eq!(reopened.end(), whole.end());
        prop_assert_eq!(reopened.last_stable(), whole.last_stable());
        for producer in [1, 3] {
            prop_assert_eq!(reopened.producers().is_open(producer), whole.producers().is_open(producer));
        }
    }
}

#[test]
fn old_values_go_and_tombstones_follow_when_they_are_old() {
    let config = config(&[("delete.retention.ms", "60000")]);
    let log = Arc::new(Mutex::new(PartitionLog::create("t-0".to_owned(), None, 0).unwrap()));
    let write = |key: &str, value: Option<&str>| {
        let bytes = keyed((-1, -1), -1, false, 0, &[(Some(key.to_owned()), value.map(str::to_owned), 0)]);
        let header = batch::check(&bytes).unwrap();
        lock(&log).append(&bytes, &header, &config, at(100)).unwrap();
    };
    for _ in 0..20 {
        write("a", Some("value"));
        write("b", Some("value"));
    }
    write("b", None);
    for _ in 0..10 {
        write("c", Some("value"));
    }
    apply(&log, &config, at(110)).unwrap();
    let seen = read(&lock(&log), false);
    let of = |seen: &[(i64, String, bool)], key: &str| {
        seen.iter().filter(|it| it.1 == key).map(|it| it.2).collect::<Vec<_>>()
    };
    assert_eq!((of(&seen, "a"), of(&seen, "b")), (vec![true], vec![false]));
    write("c", Some("value"));
    for _ in 0..10 {
        write("d", Some("value"));
    }
    apply(&log, &config, at(200)).unwrap();
    let seen = read(&lock(&log), false);
    assert_eq!((of(&seen, "a"), of(&seen, "b")), (vec![true], vec![]));
    assert_eq!(lock(&log).start(), 0, "the log begins where it began");
}
