//! What a partition knows of its producers: sequence numbers, epochs, open and aborted transactions.
//!
//! Pure. The partition asks before it appends ([`Producers::check`]) and tells afterwards ([`Producers::applied`],
//! [`Producers::ended`]); reading the log from its start rebuilds the same state.

use std::collections::{BTreeMap, HashMap, VecDeque};

use kafka_protocol::ResponseError;

use super::batch::Header;

/// Batches of a producer that are remembered, so that a retry of any of them is recognised. Producers keep at
/// most five requests in flight when idempotent.
const REMEMBERED: usize = 5;

/// The producers of one partition.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Producers {
    known: HashMap<i64, Producer>,
    /// First offset of each open transaction, with its producer.
    open: BTreeMap<i64, i64>,
    /// Transactions that were aborted, in the order in which they ended.
    aborted: Vec<Aborted>,
}

/// One producer's standing in the partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) epoch: i16,
    pub(crate) open_since: Option<i64>,
    pub(crate) last_timestamp: i64,
    recent: VecDeque<Written>,
}

impl Producer {
    /// The last sequence number, -1 when there is none in this epoch.
    pub(crate) fn last_sequence(&self) -> i32 {
        self.recent.back().map_or(-1, |it| it.last_sequence)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Written {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    timestamp: i64,
}

/// A transaction whose records a `read_committed` consumer skips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    /// Where the abort marker stands.
    pub(crate) marker_offset: i64,
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    /// The batch is already stored: answer as the first time.
    Duplicate {
        base_offset: i64,
        timestamp: i64,
    },
}

impl Producers {
    /// Decides whether a batch continues what its producer sent before.
    ///
    /// A producer that the partition does not know, or no longer knows, may begin anywhere, as in Kafka.
    pub(crate) fn check(&self, header: &Header) -> Result<Verdict, ResponseError> {
        if !header.has_producer() {
            return Ok(Verdict::Append);
        }
        let Some(known) = self.known.get(&header.producer_id) else {
            return Ok(Verdict::Append);
        };
        if header.producer_epoch < known.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        if header.producer_epoch > known.epoch {
            return match header.base_sequence {
                0 => Ok(Verdict::Append),
                _ => Err(ResponseError::OutOfOrderSequenceNumber),
            };
        }
        let repeated = |it: &&Written| {
            it.first_sequence == header.base_sequence && it.last_sequence == header.last_sequence()
        };
        if let Some(written) = known.recent.iter().find(repeated) {
            return Ok(Verdict::Duplicate { base_offset: written.base_offset, timestamp: written.timestamp });
        }
        let next = match known.last_sequence() {
            i32::MAX => 0,
            last => last + 1,
        };
        if header.base_sequence != next {
            return Err(ResponseError::OutOfOrderSequenceNumber);
        }
        Ok(Verdict::Append)
    }

    /// Takes note of a batch of records that now stands in the log.
    pub(crate) fn applied(&mut self, header: &Header) {
        if !header.has_producer() {
            return;
        }
        let known = self.producer(header.producer_id, header.producer_epoch);
        known.last_timestamp = header.max_timestamp;
        if known.recent.len() == REMEMBERED {
            known.recent.pop_front();
        }
        known.recent.push_back(Written {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset: header.base_offset,
            timestamp: if header.is_log_append_time() { header.max_timestamp } else { -1 },
        });
        if header.is_transactional() && known.open_since.is_none() {
            known.open_since = Some(header.base_offset);
            self.open.insert(header.base_offset, header.producer_id);
        }
    }

    /// Takes note of a marker that now stands in the log.
    pub(crate) fn ended(&mut self, header: &Header, committed: bool) {
        let known = self.producer(header.producer_id, header.producer_epoch);
        known.last_timestamp = header.max_timestamp;
        let Some(first_offset) = known.open_since.take() else {
            return;
        };
        self.open.remove(&first_offset);
        if !committed {
            self.aborted.push(Aborted {
                producer_id: header.producer_id,
                first_offset,
                marker_offset: header.base_offset,
            });
        }
    }

    /// The producer's entry; a newer epoch forgets the sequence numbers of the older ones.
    fn producer(&mut self, id: i64, epoch: i16) -> &mut Producer {
        let fresh = || Producer { epoch, open_since: None, last_timestamp: -1, recent: VecDeque::new() };
        let known = self.known.entry(id).or_insert_with(fresh);
        if epoch > known.epoch {
            known.epoch = epoch;
            known.recent.clear();
        }
        known
    }

    /// The offset below which every transaction has ended.
    pub(crate) fn last_stable_offset(&self, end: i64) -> i64 {
        self.open.first_key_value().map_or(end, |(first, _)| *first)
    }

    /// Aborted transactions with records in `from..to`.
    pub(crate) fn aborted(&self, from: i64, to: i64) -> impl Iterator<Item = Aborted> + '_ {
        // Ordered by marker, so those that ended before `from` are one prefix.
        let skip = self.aborted.partition_point(|it| it.marker_offset < from);
        self.aborted[skip..].iter().filter(move |it| it.first_offset < to).copied()
    }

    /// Whether the producer has an open transaction here.
    pub(crate) fn is_open(&self, producer_id: i64) -> bool {
        self.known.get(&producer_id).is_some_and(|it| it.open_since.is_some())
    }

    /// Whether `base_offset` is the last batch of its producer, which keeps the sequence number alive.
    pub(crate) fn is_last_batch(&self, producer_id: i64, base_offset: i64) -> bool {
        self.known
            .get(&producer_id)
            .and_then(|it| it.recent.back())
            .is_some_and(|it| it.base_offset == base_offset)
    }

    /// Forgets aborted transactions that lie wholly below the start of the log.
    pub(crate) fn forget_before(&mut self, log_start: i64) {
        self.aborted.retain(|it| it.marker_offset >= log_start);
    }

    /// Whether a batch belongs to a transaction that was aborted.
    pub(crate) fn was_aborted(&self, producer_id: i64, offset: i64) -> bool {
        let holds = |it: &Aborted| it.first_offset <= offset && offset <= it.marker_offset;
        self.aborted.iter().any(|it| it.producer_id == producer_id && holds(it))
    }

    /// Forgets aborted transactions whose records and markers compaction has removed. A consumer that were told
    /// of them would wait for their markers and skip the producer's later records.
    pub(crate) fn forget_markers(&mut self, offsets: &[i64]) {
        self.aborted.retain(|it| !offsets.contains(&it.marker_offset));
    }

    /// Every producer, for the tools that list them.
    pub(crate) fn all(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.known.iter().map(|(id, producer)| (*id, producer))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::batch;
    use super::*;

    fn header(epoch: i16, sequence: i32, count: i32, offset: i64, transactional: bool) -> Header {
        let bytes = batch::tests::batch((7, epoch), sequence, count, transactional);
        Header { base_offset: offset, ..Header::read(&bytes).unwrap() }
    }

    fn marker(epoch: i16, committed: bool, offset: i64) -> Header {
        let bytes = batch::marker(7, epoch, committed, 0);
        Header { base_offset: offset, ..Header::read(&bytes).unwrap() }
    }

    #[test]
    fn a_batch_must_continue_its_producer() {
        use ResponseError::{InvalidProducerEpoch, OutOfOrderSequenceNumber};
        let mut producers = Producers::default();
        for (sequence, offset) in [(0, 100), (2, 102), (4, 104)] {
            producers.applied(&header(1, sequence, 2, offset, false));
        }
        let duplicate = |base_offset| Ok(Verdict::Duplicate { base_offset, timestamp: -1 });
        let cases = [
            // name, epoch, sequence, records, verdict
            ("the next one", 1, 6, 3, Ok(Verdict::Append)),
            ("the last one again", 1, 4, 2, duplicate(104)),
            ("the first one again", 1, 0, 2, duplicate(100)),
            ("a gap", 1, 7, 1, Err(OutOfOrderSequenceNumber)),
            ("an old one of another size", 1, 2, 1, Err(OutOfOrderSequenceNumber)),
            ("an old epoch", 0, 6, 1, Err(InvalidProducerEpoch)),
            ("a new epoch from its start", 2, 0, 1, Ok(Verdict::Append)),
            ("a new epoch from its middle", 2, 6, 1, Err(OutOfOrderSequenceNumber)),
        ];
        for (name, epoch, sequence, count, expected) in cases {
            assert_eq!(producers.check(&header(epoch, sequence, count, 0, false)), expected, "{name}");
        }
        let stranger = Header { producer_id: 8, ..header(0, 55, 1, 0, false) };
        assert_eq!(producers.check(&stranger), Ok(Verdict::Append), "unknown producers begin anywhere");
    }

    #[test]
    fn sequences_go_on_at_zero_behind_the_largest() {
        let mut producers = Producers::default();
        producers.applied(&header(0, i32::MAX - 1, 2, 0, false));
        assert_eq!(producers.check(&header(0, 0, 1, 2, false)), Ok(Verdict::Append));
    }

    #[test]
    fn an_open_transaction_holds_back_the_stable_offset_until_its_marker() {
        let mut producers = Producers::default();
        producers.applied(&header(0, 0, 5, 10, true));
        producers.applied(&header(0, 5, 5, 15, true));
        assert_eq!(producers.last_stable_offset(20), 10);
        assert!(producers.is_open(7));
        producers.ended(&marker(0, false, 20), false);
        assert_eq!(producers.last_stable_offset(21), 21);
        let aborted = Aborted { producer_id: 7, first_offset: 10, marker_offset: 20 };
        assert_eq!(producers.aborted(0, 100).collect::<Vec<_>>(), [aborted]);
        assert_eq!(producers.aborted(20, 21).count(), 1);
        assert_eq!(producers.aborted(21, 100).count(), 0);
        assert_eq!(producers.aborted(0, 10).count(), 0);
        producers.forget_before(21);
        assert_eq!(producers.aborted(0, 100).count(), 0);
    }

    #[test]
    fn a_marker_with_a_newer_epoch_fences_the_older_one() {
        let mut producers = Producers::default();
        producers.applied(&header(0, 0, 1, 0, true));
        producers.ended(&marker(1, false, 1), false);
        assert_eq!(producers.check(&header(0, 1, 1, 2, true)), Err(ResponseError::InvalidProducerEpoch));
        assert_eq!(producers.check(&header(1, 0, 1, 2, true)), Ok(Verdict::Append));
    }

    proptest! {
        /// However often a producer repeats one of its last batches, nothing is stored twice.
        #[test]
        fn retries_are_never_appended(sizes in prop::collection::vec(1..9_i32, 1..20), back in 0..5_usize) {
            let mut producers = Producers::default();
            let mut sent = Vec::new();
            let (mut sequence, mut offset) = (0, 50);
            for size in sizes {
                let next = header(0, sequence, size, offset, false);
                prop_assert_eq!(producers.check(&next), Ok(Verdict::Append));
                producers.applied(&next);
                sent.push(next);
                sequence += size;
                offset += i64::from(size);
                let again = sent[sent.len().saturating_sub(1 + back)];
                prop_assert_eq!(
                    producers.check(&again),
                    Ok(Verdict::Duplicate { base_offset: again.base_offset, timestamp: -1 })
                );
            }
        }
    }
}
