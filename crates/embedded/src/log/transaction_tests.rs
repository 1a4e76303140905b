//! The transactions' state machine, driven by hand and at random.

use proptest::prelude::*;

use super::*;

const TIMEOUT_MS: i32 = 1000;

fn begin(transactions: &mut Transactions) -> Identity {
    let begun = transactions.init("t", TIMEOUT_MS);
    Identity { producer_id: begun.producer_id, epoch: begun.epoch }
}

fn add(transactions: &mut Transactions, producer: Identity) -> Result<bool, ResponseError> {
    transactions
        .add("t", producer, [("topic".to_owned(), 0)], ["group".to_owned()], 100)
        .map(|it| it.is_some())
}

#[test]
fn a_transaction_runs_from_its_first_partition_to_its_end() {
    let mut transactions = Transactions::default();
    let producer = begin(&mut transactions);
    assert_eq!(transactions.may_write(producer, "topic", 0), Err(ResponseError::InvalidTxnState));
    assert_eq!(add(&mut transactions, producer), Ok(true));
    assert_eq!(add(&mut transactions, producer), Ok(false), "nothing new to journal");
    assert_eq!(transactions.may_write(producer, "topic", 0), Ok(()));
    assert_eq!(transactions.may_write(producer, "topic", 1), Err(ResponseError::InvalidTxnState));
    assert_eq!(transactions.may_stage("t", producer, "group"), Ok(()));
    assert_eq!(transactions.may_stage("t", producer, "other"), Err(ResponseError::InvalidTxnState));
    let ending = transactions.end("t", producer, true).unwrap().unwrap();
    assert_eq!(ending.partitions, BTreeSet::from([("topic".to_owned(), 0)]));
    assert_eq!(transactions.half_ended(), std::slice::from_ref(&ending));
    assert_eq!(add(&mut transactions, producer), Err(ResponseError::ConcurrentTransactions));
    transactions.finished("t");
    assert_eq!(transactions.half_ended(), []);
    assert_eq!(transactions.end("t", producer, true), Ok(None), "a retry of the commit");
    assert_eq!(transactions.end("t", producer, false), Err(ResponseError::InvalidTxnState));
    assert_eq!(transactions.may_write(producer, "topic", 0), Err(ResponseError::InvalidTxnState));
}

#[test]
fn a_newer_producer_fences_the_older_one() {
    use ResponseError::{InvalidProducerEpoch, InvalidProducerIdMapping, ProducerFenced};
    let mut transactions = Transactions::default();
    let old = begin(&mut transactions);
    add(&mut transactions, old).unwrap();
    assert_eq!(
        transactions.before_init("t", TIMEOUT_MS, None),
        Ok(true),
        "its open transaction is aborted first"
    );
    let ending = transactions.fence("t").unwrap();
    assert!(!ending.committed && ending.producer.epoch > old.epoch, "the marker carries the newer epoch");
    transactions.finished("t");
    let new = begin(&mut transactions);
    assert!(new.producer_id == old.producer_id && new.epoch > ending.producer.epoch);
    assert_eq!(add(&mut transactions, old), Err(ProducerFenced));
    assert_eq!(transactions.end("t", old, true), Err(ProducerFenced));
    assert_eq!(transactions.may_write(old, "topic", 0), Err(InvalidProducerEpoch));
    assert_eq!(transactions.may_stage("t", old, "group"), Err(InvalidProducerEpoch));
    assert_eq!(transactions.before_init("t", TIMEOUT_MS, Some(old)), Err(ProducerFenced));
    assert_eq!(transactions.before_init("t", TIMEOUT_MS, Some(new)), Ok(false));
    let stranger = Identity { producer_id: 77, epoch: 0 };
    assert_eq!(transactions.end("t", stranger, true), Err(InvalidProducerIdMapping));
    assert_eq!(transactions.end("unknown", new, true), Err(InvalidProducerIdMapping));
}

#[test]
fn time_outs_are_bounded_and_kept() {
    let mut transactions = Transactions::default();
    for bad in [0, -1, MAX_TIMEOUT_MS + 1] {
        assert_eq!(transactions.before_init("t", bad, None), Err(ResponseError::InvalidTransactionTimeout));
    }
    let producer = begin(&mut transactions);
    add(&mut transactions, producer).unwrap();
    assert_eq!(transactions.overdue(100 + i64::from(TIMEOUT_MS) - 1), Vec::<String>::new());
    assert_eq!(transactions.overdue(100 + i64::from(TIMEOUT_MS)), ["t"]);
}

#[test]
fn a_producer_id_is_replaced_before_its_epochs_run_out() {
    let mut transactions = Transactions::default();
    let first = begin(&mut transactions);
    let mut last = first;
    for _ in 0..i32::from(LAST_EPOCH) + 1 {
        last = begin(&mut transactions);
    }
    assert_eq!((last.epoch, last.producer_id), (0, first.producer_id + 1));
    assert_eq!(transactions.may_write(first, "topic", 0), Err(ResponseError::InvalidProducerIdMapping));
}

proptest! {
    /// Whatever two producers with one transactional id do, only the newer one changes anything, and what was
    /// restored from the journal behaves the same.
    #[test]
    fn only_the_newest_producer_changes_anything(steps in prop::collection::vec((0..5_u8, any::<bool>()), 1..100)) {
        let mut transactions = Transactions::default();
        let mut older = begin(&mut transactions);
        let mut newer = older;
        for (step, use_older) in steps {
            let fenced = use_older && older != newer;
            let producer = if use_older { older } else { newer };
            let before = transactions.get("t").cloned();
            match step {
                0 => {
                    if transactions.before_init("t", TIMEOUT_MS, None) == Ok(true) {
                        transactions.fence("t");
                        transactions.finished("t");
                    }
                    older = newer;
                    newer = begin(&mut transactions);
                    prop_assert!(newer.producer_id > older.producer_id || newer.epoch > older.epoch);
                    continue;
                }
                1 | 2 => prop_assert_eq!(add(&mut transactions, producer).is_ok(), !fenced),
                3 | 4 => {
                    let phase = transactions.get("t").unwrap().phase;
                    let ended = transactions.end("t", producer, step == 3);
                    prop_assert_eq!(matches!(ended, Ok(Some(_))), !fenced && phase == Phase::Ongoing);
                    transactions.finished("t");
                }
                _ => unreachable!(),
            }
            if fenced {
                prop_assert_eq!(transactions.get("t").cloned(), before);
            }
            let mut restored = Transactions::default();
            transactions.all().cloned().for_each(|it| restored.restore(it));
            prop_assert_eq!(restored.get("t"), transactions.get("t"));
            prop_assert_eq!(restored.may_write(newer, "topic", 0), transactions.may_write(newer, "topic", 0));
        }
    }
}
