//! Every error of a group that a consumer acts upon, request by request.

use kafka_protocol::ResponseError::{
    FencedInstanceId, IllegalGeneration, InconsistentGroupProtocol, InvalidGroupId, InvalidSessionTimeout,
    MemberIdRequired, RebalanceInProgress, UnknownMemberId,
};
use kafka_protocol::messages::{DescribeGroupsRequest, ListGroupsRequest};
use telltale_testkit::engines::wait_until;
use telltale_testkit::wire::{group_id, text};

use crate::support::{Kafka, kafka};
use crate::wire_group::RawMember;

/// A member of a stable group of its own.
fn stable(kafka: &Kafka) -> RawMember {
    let topic = kafka.topic("subscribed", &[]);
    let mut member = RawMember::new(kafka, &kafka.name("group")).with_topic(&topic, 1);
    let joined = member.join(60_000);
    assert!(!member.sync(&joined).is_empty());
    member
}

/// Another one who wants into the group of `member`.
fn newcomer(kafka: &Kafka, member: &RawMember) -> RawMember {
    RawMember::new(kafka, &member.group)
}

#[test]
fn a_new_member_is_told_its_id_before_it_joins() {
    let kafka = kafka();
    let mut member = RawMember::new(&kafka, &kafka.name("group"));
    let request = member.join_request(60_000);
    let answer =
        member.client.call_until(7, &request, |it| !crate::wire_group::LOADING.contains(&it.error_code));
    assert_eq!(answer.error_code, MemberIdRequired.code());
    assert!(!answer.member_id.is_empty());
    // Before version 4 it joined at once.
    let joined = member.client.call(3, &member.join_request(60_000));
    assert_eq!((joined.error_code, joined.members.len()), (0, 1));
    assert_eq!((joined.leader, joined.generation_id), (joined.member_id, 1));
}

#[test]
fn strangers_are_unknown_members() {
    let kafka = kafka();
    let unknown = UnknownMemberId.code();
    let mut nobody = RawMember::new(&kafka, &kafka.name("no-group"));
    nobody.id = "somebody".to_owned();
    nobody.generation = 1;
    assert_eq!(nobody.heartbeat(), unknown);
    assert_eq!(nobody.try_join(60_000).error_code, unknown);

    let member = stable(&kafka);
    let mut stranger = newcomer(&kafka, &member).with_topic(&kafka.topic("read", &[]), 1);
    stranger.id = "stranger".to_owned();
    stranger.generation = member.generation;
    let joined = kafka_protocol::messages::JoinGroupResponse::default();
    assert_eq!(stranger.heartbeat(), unknown);
    assert_eq!(stranger.try_sync(&joined).error_code, unknown);
    assert_eq!(stranger.commit(1), unknown);
    assert_eq!(stranger.leave(), (0, unknown));
}

#[test]
fn a_member_of_another_generation_is_told_so() {
    let kafka = kafka();
    let mut member = stable(&kafka);
    for generation in [0, member.generation + 1] {
        let right = std::mem::replace(&mut member.generation, generation);
        let joined = kafka_protocol::messages::JoinGroupResponse::default();
        assert_eq!(member.heartbeat(), IllegalGeneration.code());
        assert_eq!(member.try_sync(&joined).error_code, IllegalGeneration.code());
        assert_eq!(member.commit(1), IllegalGeneration.code());
        member.generation = right;
    }
    assert_eq!((member.heartbeat(), member.commit(1)), (0, 0));
}

#[test]
fn a_rebalance_is_announced_by_the_heartbeat_and_commits_are_still_taken() {
    let kafka = kafka();
    let mut member = stable(&kafka);
    let mut second = newcomer(&kafka, &member);
    second.try_join_in_background(|| {
        if member.heartbeat() != RebalanceInProgress.code() {
            return;
        }
        assert_eq!(member.commit(5), 0, "what it has read so far");
        let synced = member.try_sync(&kafka_protocol::messages::JoinGroupResponse::default());
        assert_eq!(synced.error_code, RebalanceInProgress.code());
        let joined = member.join(60_000);
        assert_eq!(joined.members.len(), 2);
        assert_eq!(member.commit(6), RebalanceInProgress.code(), "not between join and sync");
        member.sync(&joined);
        assert_eq!(member.commit(6), 0);
    });
    assert_eq!(second.generation, member.generation);
}

#[test]
fn protocols_that_nobody_shares_are_refused() {
    let kafka = kafka();
    let member = stable(&kafka);
    let mut other = newcomer(&kafka, &member);
    other.protocol = "roundrobin";
    assert_eq!(other.try_join(60_000).error_code, InconsistentGroupProtocol.code());
    let request = other.join_request(60_000).with_protocol_type(text("connect"));
    assert_eq!(other.client.call(7, &request).error_code, InconsistentGroupProtocol.code());
    let none = RawMember::new(&kafka, &kafka.name("group")).join_request(60_000).with_protocols(Vec::new());
    assert_eq!(other.client.call(7, &none).error_code, InconsistentGroupProtocol.code());
}

#[test]
fn names_and_time_outs_are_checked() {
    let kafka = kafka();
    let mut member = RawMember::new(&kafka, &kafka.name("group"));
    for session_ms in [0, 50, 1_800_001] {
        assert_eq!(member.try_join(session_ms).error_code, InvalidSessionTimeout.code(), "{session_ms} ms");
    }
    let too_short = member.try_join(5_999).error_code;
    let expected = if kafka.known_difference("short sessions") { 0 } else { InvalidSessionTimeout.code() };
    assert_eq!(too_short, expected);
    member.group.clear();
    assert_eq!(member.try_join(60_000).error_code, InvalidGroupId.code());
}

#[test]
fn the_older_of_two_static_members_is_fenced() {
    let kafka = kafka();
    let group = kafka.name("group");
    let topic = kafka.topic("subscribed", &[]);
    let mut old = RawMember::new(&kafka, &group).with_topic(&topic, 1).with_instance("one");
    let joined = old.join(60_000);
    old.sync(&joined);
    let mut new = RawMember::new(&kafka, &group).with_topic(&topic, 1).with_instance("one");
    let replaced = new.join(60_000);
    assert_eq!((new.generation, new.id != old.id), (old.generation, true), "no rebalance");
    assert!(!new.sync(&replaced).is_empty(), "and the assignment of the old one");
    let fenced = FencedInstanceId.code();
    assert_eq!((old.heartbeat(), old.commit(1)), (fenced, fenced));
    assert_eq!(old.try_sync(&joined).error_code, fenced);
    assert_eq!(old.try_join(60_000).error_code, fenced);
    assert_eq!(old.leave(), (0, fenced));
    assert_eq!((new.heartbeat(), new.commit(1)), (0, 0));
    new.instance = Some("nobody".to_owned());
    assert_eq!(new.heartbeat(), UnknownMemberId.code(), "an instance that never joined");
}

#[test]
fn a_member_that_left_is_gone() {
    let kafka = kafka();
    let mut member = stable(&kafka);
    assert_eq!(member.leave(), (0, 0));
    assert_eq!(member.leave(), (0, UnknownMemberId.code()));
    assert_eq!(member.heartbeat(), UnknownMemberId.code());
}

#[test]
fn a_group_is_described_and_listed_as_it_is() {
    let kafka = kafka();
    let mut member = stable(&kafka);
    let unknown = kafka.name("unknown");
    let names = [group_id(&member.group), group_id(&unknown)];
    // In the order asked for: Kafka answers in the order of its coordinators.
    let mut describe = |version| {
        let request = DescribeGroupsRequest::default().with_groups(names.to_vec());
        let groups = member.client.call(version, &request).groups;
        names.clone().map(|name| groups.iter().find(|it| it.group_id == name).unwrap().clone())
    };
    let [group, unknown] = describe(5);
    assert_eq!((group.group_state.as_str(), group.protocol_data.as_str()), ("Stable", "range"));
    assert_eq!((group.protocol_type.as_str(), group.members[0].client_id.as_str()), ("consumer", "test"));
    assert!(!group.members[0].member_assignment.is_empty() && group.members[0].client_host.starts_with('/'));
    assert_eq!((unknown.error_code, unknown.group_state.as_str()), (0, "Dead"));
    assert_eq!(describe(6)[1].error_code, 69, "from version 6 on an unknown group is an error");
    let listed = member.client.call(5, &ListGroupsRequest::default()).groups;
    let mine = listed.iter().find(|it| it.group_id.as_str() == member.group).unwrap();
    assert_eq!((mine.group_state.as_str(), mine.protocol_type.as_str()), ("Stable", "consumer"));
    assert_eq!(mine.group_type.to_lowercase(), "classic");
    member.leave();
    let request = ListGroupsRequest::default().with_states_filter(vec![text("Empty")]);
    wait_until("the group is listed as empty", || {
        let empty = member.client.call(5, &request).groups;
        empty.iter().any(|it| it.group_id.as_str() == member.group)
    });
}
