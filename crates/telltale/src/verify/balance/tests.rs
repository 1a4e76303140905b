//! The balance of records that lie so and so.

use super::*;

const RAW: Place = Place { topic: 0, partition: 2 };
const CLEAN: Place = Place { topic: 1, partition: 2 };
const DEAD: Place = Place { topic: 2, partition: 0 };

fn balance_of(present: &[i64], committed: Option<i64>) -> Balance {
    let mut balance = Balance::new(vec!["raw".into(), "clean".into(), "dead".into()]);
    balance.source(RAW, 10..20, committed);
    for &offset in present {
        balance.present(RAW, offset);
    }
    balance
}

fn texts(report: &Report) -> Vec<String> {
    report.violations.iter().map(ToString::to_string).collect()
}

#[test]
fn each_record_with_one_outcome_is_a_clean_balance() {
    let mut balance = balance_of(&[10, 11, 13], None);
    balance.outcome(RAW, 10, (CLEAN, 0));
    balance.outcome(RAW, 11, (DEAD, 0));
    balance.outcome(RAW, 13, (CLEAN, 1));
    let report = balance.finish(true);
    assert_eq!(texts(&report), [""; 0]);
    let topic =
        TopicBalance { topic: "raw".into(), records: 3, answered: 3, pending: 0, lost: 0, duplicated: 0 };
    assert_eq!(report.topics, [topic]);
}

#[test]
fn a_dead_letter_besides_an_outcome_is_one_too_many() {
    let mut balance = balance_of(&[10], None);
    balance.outcome(RAW, 10, (CLEAN, 0));
    balance.outcome(RAW, 10, (DEAD, 4));
    let report = balance.finish(true);
    assert_eq!(texts(&report), ["duplicated: dead-0-4 is one more outcome of raw-2-10"]);
    assert_eq!((report.duplicated(), report.lost()), (1, 0));
}

#[test]
fn what_later_records_overtook_is_lost_and_what_is_behind_them_is_pending() {
    let mut balance = balance_of(&[10, 11, 12, 13, 14, 15], None);
    balance.outcome(RAW, 10, (CLEAN, 0));
    balance.outcome(RAW, 13, (CLEAN, 1));
    let report = balance.finish(false);
    assert_eq!(texts(&report), ["lost: raw-2-11 to raw-2-12 have no outcome"]);
    assert_eq!((report.topics[0].lost, report.topics[0].pending), (2, 2));
}

#[test]
fn a_committed_offset_without_outcome_is_lost() {
    let report = balance_of(&[10, 11, 12], Some(11)).finish(false);
    assert_eq!(texts(&report), ["lost: raw-2-10 has no outcome"]);
    assert_eq!(report.topics[0].pending, 2);
}

#[test]
fn nothing_may_be_pending_once_drained() {
    let report = balance_of(&[10, 12], None).finish(true);
    assert_eq!(texts(&report), ["lost: raw-2-10 has no outcome", "lost: raw-2-12 has no outcome"]);
}

#[test]
fn outcomes_of_other_topics_and_of_expired_or_newer_records_are_left_aside() {
    let mut balance = balance_of(&[10], None);
    balance.outcome(RAW, 10, (CLEAN, 1));
    balance.outcome(RAW, 9, (CLEAN, 0));
    balance.outcome(RAW, 20, (CLEAN, 2));
    balance.outcome(Place { topic: 7, partition: 0 }, 3, (CLEAN, 3));
    assert_eq!(texts(&balance.finish(true)), [""; 0]);
}

#[test]
fn an_outcome_of_a_hole_is_a_fault() {
    let mut balance = balance_of(&[10], None);
    balance.outcome(RAW, 10, (CLEAN, 0));
    balance.outcome(RAW, 11, (CLEAN, 1));
    let report = balance.finish(true);
    assert_eq!(texts(&report), ["of nothing: a record is the outcome of raw-2-11, which holds no record"]);
}

#[test]
fn outcomes_change_their_order_within_a_target_only_as_a_fault() {
    let mut balance = balance_of(&[10, 11, 12], None);
    balance.outcome(RAW, 11, (CLEAN, 0));
    balance.outcome(RAW, 10, (DEAD, 0));
    balance.outcome(RAW, 12, (DEAD, 1));
    assert_eq!(texts(&balance.finish(true)), [""; 0], "two targets have no order between them");
    let mut balance = balance_of(&[10, 11], None);
    balance.outcome(RAW, 11, (CLEAN, 0));
    balance.outcome(RAW, 10, (CLEAN, 1));
    let expected = "out of order: clean-2-1 is the outcome of raw-2-10, behind the outcome of offset 11";
    assert_eq!(texts(&balance.finish(true)), [expected]);
}

#[test]
fn versions_only_rise_within_a_partition() {
    let mut balance = balance_of(&[], None);
    for (place, offset, version) in [(CLEAN, 0, 1), (CLEAN, 1, 3), (DEAD, 0, 1), (CLEAN, 2, 2), (CLEAN, 3, 2)]
    {
        balance.version((place, offset), version, |_, _| false);
    }
    balance.version((CLEAN, 4), 1, |from, to| (from, to) == (2, 1));
    assert_eq!(
        texts(&balance.finish(true)),
        ["version fell: clean-2-2 is by model version 2, behind one by version 3"]
    );
}

#[test]
fn faults_beyond_the_shown_ones_are_counted() {
    let mut balance = Balance::new(vec!["raw".into()]);
    let place = Place { topic: 0, partition: 0 };
    balance.source(place, 0..1000, None);
    (0..1000).step_by(2).for_each(|it| balance.present(place, it));
    let report = balance.finish(true);
    assert_eq!((report.violations.len(), report.faults, report.lost()), (SHOWN, 500, 500));
}

#[test]
fn once_drained_what_has_an_outcome_is_committed() {
    for (committed, drained, expected) in [(11, true, 1), (12, true, 0), (11, false, 0), (15, true, 0)] {
        let mut balance = balance_of(&[10, 11], Some(committed));
        balance.outcome(RAW, 10, (CLEAN, 0));
        balance.outcome(RAW, 11, (CLEAN, 1));
        let report = balance.finish(drained);
        assert_eq!(report.faults, expected, "{committed} {drained}: {:?}", texts(&report));
    }
    let mut balance = balance_of(&[10, 11], Some(11));
    balance.outcome(RAW, 10, (CLEAN, 0));
    balance.outcome(RAW, 11, (CLEAN, 1));
    let expected = "not committed: raw-2-11 has its outcome, but the group would go on at 11";
    assert_eq!(texts(&balance.finish(true)), [expected]);
}
