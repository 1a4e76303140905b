//! Consumer groups as librdkafka lives in them: members come, go, die and come back.

use rdkafka::error::RDKafkaErrorCode;
use telltale_testkit::engines::wait_until;

use crate::clients::{Record, producer, send_all};
use crate::members::{Member, await_shared, committed};
use crate::support::{Kafka, kafka};
use crate::wire_group::RawMember;

/// Writes `count` values to each of six partitions.
fn write(kafka: &Kafka, topic: &str, label: &str, count: i32) -> Vec<String> {
    let records: Vec<_> = (0..6 * count)
        .map(|it| Record { partition: it % 6, ..Record::of(format!("{label}-{it}")) })
        .collect();
    send_all(&producer(&kafka.servers(), &[]), topic, &records);
    let mut values: Vec<_> = records.iter().map(Record::text).collect();
    values.sort();
    values
}

/// All that the members have read.
fn read(members: &[&Member]) -> Vec<String> {
    let mut values: Vec<_> = members.iter().flat_map(|it| it.history().values).collect();
    values.sort();
    values
}

#[test]
fn three_members_share_the_work_and_one_leaves_its_part_to_the_others() {
    let kafka = kafka();
    let topic = kafka.topic_of("three", 6, &[]);
    let group = kafka.name("group");
    let join = || Member::join(&kafka, &group, &topic, &[]);
    let (first, second, third) = (join(), join(), join());
    let all = [&first, &second, &third];
    await_shared(&all, 6);
    let sent = write(&kafka, &topic, "together", 20);
    wait_until("three members have read everything", || read(&all).len() >= sent.len());
    assert_eq!(read(&all), sent, "each record once");
    assert!(all.iter().all(|it| it.history().values.len() == 40));

    let left = third.leave();
    assert_eq!(left.assigned.len(), 2, "until it left");
    let rest = [&first, &second];
    await_shared(&rest, 6);
    let before = read(&rest).len();
    let sent = write(&kafka, &topic, "without", 20);
    wait_until("two members have read everything", || read(&rest).len() >= before + sent.len());
    let later: Vec<_> = read(&rest).into_iter().filter(|it| it.starts_with("without")).collect();
    assert_eq!(later, sent, "each record once");
    wait_until("all is committed", || committed(&kafka, &group, &topic, 6) == [40; 6]);
}

#[test]
fn a_member_that_dies_is_missed_after_its_session_and_its_work_goes_on() {
    let kafka = kafka();
    let topic = kafka.topic_of("death", 6, &[]);
    let group = kafka.name("group");
    let mut mortal = RawMember::new(&kafka, &group).with_topic(&topic, 6);
    let joined = mortal.join(60_000);
    mortal.sync(&joined);
    let survivor = Member::join(&kafka, &group, &topic, &[]);
    // The mortal one takes part in the rebalance, and is never heard of again.
    wait_until("the survivor wants to join", || mortal.heartbeat() == 27);
    let joined = mortal.join(6_000);
    mortal.try_sync(&joined);
    drop(mortal);
    let sent = write(&kafka, &topic, "inherited", 5);
    await_shared(&[&survivor], 6);
    wait_until("the survivor has read everything", || read(&[&survivor]) == sent);
}

#[test]
fn two_groups_each_read_everything() {
    let kafka = kafka();
    let topic = kafka.topic_of("two", 6, &[]);
    let sent = write(&kafka, &topic, "both", 5);
    let one = Member::join(&kafka, &kafka.name("one"), &topic, &[]);
    let other = Member::join(&kafka, &kafka.name("other"), &topic, &[]);
    wait_until("both have read everything", || read(&[&one]) == sent && read(&[&other]) == sent);
}

#[test]
fn a_member_that_comes_back_goes_on_where_it_committed() {
    let kafka = kafka();
    let topic = kafka.topic_of("back", 6, &[]);
    let group = kafka.name("group");
    let early = write(&kafka, &topic, "early", 3);
    let member = Member::join(&kafka, &group, &topic, &[]);
    wait_until("it has read everything", || read(&[&member]).len() >= early.len());
    assert_eq!(read(&[&member]), early);
    member.leave();
    let late = write(&kafka, &topic, "late", 3);
    let again = Member::join(&kafka, &group, &topic, &[]);
    wait_until("it has read the rest", || read(&[&again]).len() >= late.len());
    assert_eq!(read(&[&again]), late);
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let kafka = kafka();
    let topic = kafka.topic_of("static", 6, &[]);
    let group = kafka.name("group");
    let join = |instance: &str| Member::join(&kafka, &group, &topic, &[("group.instance.id", instance)]);
    let (stays, goes) = (join("stays"), join("goes"));
    await_shared(&[&stays, &goes], 6);
    let mine = goes.assigned();
    let before = stays.history();
    goes.leave();
    let back = join("goes");
    wait_until("the static member is back", || back.assigned() == mine);
    let after = stays.history();
    assert_eq!((after.gains.len(), after.losses.len()), (before.gains.len(), before.losses.len()));
    assert_eq!(after.assigned, before.assigned, "the other one has noticed nothing");
}

#[test]
fn a_second_member_with_the_same_instance_id_fences_the_first() {
    let kafka = kafka();
    let topic = kafka.topic_of("fenced", 6, &[]);
    let group = kafka.name("group");
    let join = || Member::join(&kafka, &group, &topic, &[("group.instance.id", "the-one")]);
    let first = join();
    await_shared(&[&first], 6);
    let second = join();
    wait_until("the first is fenced", || first.history().fatal == Some(RDKafkaErrorCode::FencedInstanceId));
    await_shared(&[&second], 6);
}

#[test]
fn a_new_partition_finds_a_reader() {
    let kafka = kafka();
    let topic = kafka.topic_of("grows", 2, &[]);
    let group = kafka.name("group");
    let member = Member::join(&kafka, &group, &topic, &[("topic.metadata.refresh.interval.ms", "500")]);
    await_shared(&[&member], 2);
    crate::admin::add_partitions(&kafka, &topic, 6);
    await_shared(&[&member], 6);
    let sent = write(&kafka, &topic, "grown", 2);
    wait_until("all partitions are read", || read(&[&member]) == sent);
}
