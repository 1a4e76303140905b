//! The balance of records that lie so and so.

use super::*;
use crate::verify::report::SHOWN;

const RAW: Place = Place { topic: 0, partition: 2 };
const CLEAN: Place = Place { topic: 1, partition: 2 };
const DEAD: Place = Place { topic: 2, partition: 0 };

fn balance_of(present: &[i64]) -> Balance {
    let mut balance = Balance::new(vec!["raw".into(), "clean".into(), "dead".into()]);
    balance.source(RAW, 10);
    for &offset in present {
        balance.present(RAW, offset);
    }
    balance.read(RAW, 20);
    balance
}

fn texts(report: &Report) -> Vec<String> {
    report.violations.iter().map(ToString::to_string).collect()
}

#[test]
fn each_record_with_one_outcome_is_a_clean_balance() {
    let mut balance = balance_of(&[10, 11, 13]);
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
    let mut balance = balance_of(&[10]);
    balance.outcome(RAW, 10, (CLEAN, 0));
    balance.outcome(RAW, 10, (DEAD, 4));
    let report = balance.finish(true);
    assert_eq!(texts(&report), ["duplicated: dead-0-4 is one more outcome of raw-2-10"]);
    assert_eq!((report.duplicated(), report.lost()), (1, 0));
}

#[test]
fn a_record_without_outcome_is_lost_once_the_services_have_committed_past_it() {
    let mut balance = balance_of(&[10, 11, 12, 13, 14, 15]);
    balance.outcome(RAW, 10, (CLEAN, 0));
    balance.outcome(RAW, 13, (CLEAN, 1));
    assert_eq!(balance.settle(RAW, 11), 1);
    assert_eq!(balance.take_report().faults, 0);
    assert_eq!(balance.settle(RAW, 14), 3);
    assert_eq!(texts(&balance.take_report()), ["lost: raw-2-11 to raw-2-12 have no outcome"]);
    assert_eq!(balance.settle(RAW, 14), 0, "each is settled once");
    let report = balance.finish(false);
    assert_eq!((report.topics[0].lost, report.topics[0].pending, report.faults), (2, 2, 0));
}

#[test]
fn what_is_settled_is_forgotten_and_another_outcome_of_it_is_a_fault_all_the_same() {
    let mut balance = balance_of(&[]);
    for offset in 10..100_000 {
        balance.present(RAW, offset);
        balance.outcome(RAW, offset, (CLEAN, offset));
        balance.settle(RAW, offset + 1);
    }
    assert_eq!(balance.take_report().faults, 0);
    balance.outcome(RAW, 4711, (CLEAN, 100_000));
    assert_eq!(
        texts(&balance.finish(true)),
        ["duplicated: clean-2-100000 is one more outcome of raw-2-4711"]
    );
}

#[test]
fn what_was_deleted_before_it_was_read_is_left_aside() {
    let mut balance = balance_of(&[10, 11]);
    balance.deleted(RAW, 50);
    balance.outcome(RAW, 11, (CLEAN, 0));
    balance.outcome(RAW, 30, (CLEAN, 1));
    balance.present(RAW, 50);
    assert_eq!(balance.waiting(RAW.topic), 1);
    balance.outcome(RAW, 50, (CLEAN, 2));
    let report = balance.finish(true);
    assert_eq!((texts(&report).len(), report.topics[0].pending), (0, 0));
}

#[test]
fn nothing_may_be_pending_once_drained() {
    let report = balance_of(&[10, 12]).finish(true);
    assert_eq!(texts(&report), ["lost: raw-2-10 has no outcome", "lost: raw-2-12 has no outcome"]);
}

#[test]
fn outcomes_of_other_topics_and_of_expired_records_are_left_aside() {
    let mut balance = balance_of(&[10]);
    balance.outcome(RAW, 10, (CLEAN, 1));
    balance.outcome(RAW, 9, (CLEAN, 0));
    balance.outcome(Place { topic: 7, partition: 0 }, 3, (CLEAN, 3));
    assert_eq!(texts(&balance.finish(true)), [""; 0]);
}

#[test]
fn an_outcome_of_a_hole_is_a_fault() {
    let mut balance = balance_of(&[10]);
    balance.outcome(RAW, 10, (CLEAN, 0));
    balance.outcome(RAW, 11, (CLEAN, 1));
    balance.outcome(RAW, i64::MAX, (CLEAN, 2)); // nor does it take memory
    let expected = [
        "of nothing: clean-2-1 is the outcome of raw-2-11, which holds no record".to_owned(),
        format!("of nothing: clean-2-2 is the outcome of raw-2-{}, which holds no record", i64::MAX),
    ];
    assert_eq!(texts(&balance.finish(true)), expected);
}

#[test]
fn outcomes_change_their_order_within_a_target_only_as_a_fault() {
    let mut balance = balance_of(&[10, 11, 12]);
    balance.outcome(RAW, 11, (CLEAN, 0));
    balance.outcome(RAW, 10, (DEAD, 0));
    balance.outcome(RAW, 12, (DEAD, 1));
    assert_eq!(texts(&balance.finish(true)), [""; 0], "two targets have no order between them");
    let mut balance = balance_of(&[10, 11]);
    balance.outcome(RAW, 11, (CLEAN, 0));
    balance.outcome(RAW, 10, (CLEAN, 1));
    let expected = "out of order: clean-2-1 is the outcome of raw-2-10, behind the outcome of offset 11";
    assert_eq!(texts(&balance.finish(true)), [expected]);
}

#[test]
fn a_version_below_the_one_before_it_in_its_partition_has_fallen() {
    let mut balance = balance_of(&[]);
    let cases = [(CLEAN, 1, None), (CLEAN, 3, None), (DEAD, 1, None), (CLEAN, 2, Some(3)), (CLEAN, 2, None)];
    for (offset, (place, version, expected)) in cases.into_iter().enumerate() {
        assert_eq!(balance.fell((place, offset as i64), version), expected, "{offset}");
    }
}

#[test]
fn faults_beyond_the_shown_ones_are_counted() {
    let mut balance = Balance::new(vec!["raw".into()]);
    let place = Place { topic: 0, partition: 0 };
    balance.source(place, 0);
    (0..1000).step_by(2).for_each(|it| balance.present(place, it));
    let report = balance.finish(true);
    assert_eq!((report.violations.len(), report.faults, report.lost()), (SHOWN, 500, 500));
}

#[test]
fn in_a_quiet_moment_what_has_an_outcome_is_committed() {
    for (committed, expected) in [(11, 1), (12, 0), (15, 0)] {
        let mut balance = balance_of(&[10, 11]);
        balance.outcome(RAW, 10, (CLEAN, 0));
        balance.outcome(RAW, 11, (CLEAN, 1));
        balance.quiet(RAW, committed);
        let report = balance.finish(true);
        assert_eq!(report.faults, expected, "{committed}: {:?}", texts(&report));
        let text = "not committed: raw-2-11 has its outcome, but the group would go on at 11".to_owned();
        assert_eq!(texts(&report), vec![text; expected as usize]);
    }
}
