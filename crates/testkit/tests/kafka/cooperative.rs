//! Cooperative rebalances: members keep what stays theirs.

use std::collections::BTreeSet;

use telltale_testkit::engines::wait_until;

use crate::clients::{Record, producer, send_all};
use crate::members::{Member, await_shared};
use crate::support::kafka;

const COOPERATIVE: (&str, &str) = ("partition.assignment.strategy", "cooperative-sticky");

#[test]
fn three_members_take_over_only_what_moves() {
    let kafka = kafka();
    let topic = kafka.topic_of("cooperative", 6, &[]);
    let group = kafka.name("group");
    let join = || Member::join(&kafka, &group, &topic, &[COOPERATIVE]);
    let first = join();
    await_shared(&[&first], 6);
    let second = join();
    await_shared(&[&first, &second], 6);
    let kept_by_first = first.assigned();
    let third = join();
    await_shared(&[&first, &second, &third], 6);
    let history = first.history();
    assert!(history.assigned.is_subset(&kept_by_first), "it gave some away and took none");
    let all: BTreeSet<i32> = (0..6).collect();
    assert!(history.losses.iter().all(|it| *it != all), "never all at once: {:?}", history.losses);
    let lost: usize = history.losses.iter().map(BTreeSet::len).sum();
    assert_eq!(lost, 4, "from six to two: {:?}", history.losses);

    let kept_by_second = second.assigned();
    third.leave();
    await_shared(&[&first, &second], 6);
    assert!(first.assigned().is_superset(&history.assigned), "nothing of its own moved");
    assert!(second.assigned().is_superset(&kept_by_second));

    let sent: Vec<_> =
        (0..60).map(|it| Record { partition: it % 6, ..Record::of(format!("{it:02}")) }).collect();
    send_all(&producer(&kafka.servers(), &[]), &topic, &sent);
    let read = || {
        let mut values = [first.history().values, second.history().values].concat();
        values.sort();
        values
    };
    wait_until("everything is read", || read().len() >= sent.len());
    assert_eq!(read(), sent.iter().map(Record::text).collect::<Vec<_>>(), "each record once");
}
