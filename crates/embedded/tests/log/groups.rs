//! Consumer groups over the wire: two members, one dies, offsets survive.

use std::time::{Duration, Instant};

use crate::client::{Client, config, group_id, log, text, topic_name};
use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};
use telltale_embedded::log::Log;

const MEMBER_ID_REQUIRED: i16 = 79;

/// A member of group `g`.
struct Member {
    client: Client,
    id: String,
    generation: i32,
}

impl Member {
    fn new(log: &Log) -> Self {
        Self { client: Client::connect(log.addr()), id: String::new(), generation: -1 }
    }

    /// Joins; waits for the others.
    fn join(&mut self, session_ms: i32) -> JoinGroupResponse {
        loop {
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(text("range"))
                .with_metadata(Bytes::from_static(b"t"));
            let request = JoinGroupRequest::default()
                .with_group_id(group_id("g"))
                .with_session_timeout_ms(session_ms)
                .with_rebalance_timeout_ms(60_000)
                .with_member_id(text(&self.id))
                .with_protocol_type(text("consumer"))
                .with_protocols(vec![protocol]);
            let joined = self.client.call(7, &request);
            self.id = joined.member_id.to_string();
            self.generation = joined.generation_id;
            if joined.error_code != MEMBER_ID_REQUIRED {
                assert_eq!(joined.error_code, 0);
                return joined;
            }
        }
    }

    /// Syncs; the leader gives each member its own id.
    fn sync(&mut self, joined: &JoinGroupResponse) -> Bytes {
        let assignments = joined.members.iter().map(|it| {
            SyncGroupRequestAssignment::default()
                .with_member_id(it.member_id.clone())
                .with_assignment(Bytes::from(it.member_id.to_string()))
        });
        let request = SyncGroupRequest::default()
            .with_group_id(group_id("g"))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_assignments(assignments.collect());
        let synced = self.client.call(3, &request);
        assert_eq!(synced.error_code, 0);
        synced.assignment
    }

    fn heartbeat(&mut self) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(group_id("g"))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id));
        self.client.call(3, &request).error_code
    }

    fn commit(&mut self, offset: i64) -> i16 {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic =
            OffsetCommitRequestTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id("g"))
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(text(&self.id))
            .with_topics(vec![topic]);
        self.client.call(7, &request).topics[0].partitions[0].error_code
    }
}

fn offset(log: &Log) -> i64 {
    let topic = OffsetFetchRequestTopic::default().with_name(topic_name("t")).with_partition_indexes(vec![0]);
    let request = OffsetFetchRequest::default().with_group_id(group_id("g")).with_topics(Some(vec![topic]));
    Client::connect(log.addr()).call(5, &request).topics[0].partitions[0].committed_offset
}

#[test]
fn a_member_that_dies_leaves_its_work_to_the_other() {
    let log = log();
    let mut first = Member::new(&log);
    let joined = first.join(60_000);
    assert_eq!(first.sync(&joined), first.id);
    let mut second = Member::new(&log);
    // The second waits until the first joins again, so each has its thread.
    let (mut second, second_joined) = std::thread::spawn(move || {
        let joined = second.join(2000);
        (second, joined)
    })
    .join_while(|| {
        if first.heartbeat() == 27 {
            let joined = first.join(60_000);
            assert_eq!(joined.members.len(), 2);
            first.sync(&joined);
        }
    });
    assert_eq!((second.generation, second_joined.leader.as_str()), (first.generation, first.id.as_str()));
    assert_eq!(second.sync(&second_joined), second.id);
    drop(second); // and no more heartbeats
    let deadline = Instant::now() + Duration::from_secs(60);
    while first.heartbeat() != 27 {
        assert!(Instant::now() < deadline, "the dead member is not missed");
    }
    assert_eq!(first.join(60_000).members.len(), 1);
}

/// Does something until a thread is finished.
trait JoinWhile<T> {
    fn join_while(self, busy: impl FnMut()) -> T;
}

impl<T> JoinWhile<T> for std::thread::JoinHandle<T> {
    fn join_while(self, mut busy: impl FnMut()) -> T {
        while !self.is_finished() {
            busy();
        }
        self.join().unwrap()
    }
}

#[test]
fn offsets_survive_a_restart_and_members_join_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut on_disk = config();
    on_disk.data = Some(folder.path().to_owned());
    let log = Log::start(on_disk.clone()).unwrap();
    Client::connect(log.addr()).create_topic("t", 1, &[]);
    let mut member = Member::new(&log);
    let joined = member.join(60_000);
    assert_eq!(member.commit(5), 27, "not before the assignment");
    member.sync(&joined);
    assert_eq!(member.commit(5), 0);
    assert_eq!(offset(&log), 5);
    drop(log);
    let log = Log::start(on_disk.clone()).unwrap();
    assert_eq!(offset(&log), 5);
    member.client = Client::connect(log.addr());
    assert_eq!((member.heartbeat(), member.commit(6)), (25, 25), "members are not kept");
    let mut client = Client::connect(log.addr());
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id("g"), group_id("unknown")]);
    let codes = client.call(2, &request).results.iter().map(|it| it.error_code).collect::<Vec<_>>();
    assert_eq!(codes, [0, 69]);
    drop(log);
    let log = Log::start(on_disk).unwrap();
    assert_eq!(offset(&log), -1);
}

#[test]
fn a_group_is_described_as_it_is() {
    let log = log();
    let mut member = Member::new(&log);
    let joined = member.join(60_000);
    member.sync(&joined);
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id("g"), group_id("unknown")]);
    let described = Client::connect(log.addr()).call(5, &request).groups;
    let group = &described[0];
    assert_eq!((group.group_state.as_str(), group.protocol_data.as_str()), ("Stable", "range"));
    assert_eq!(
        (group.members[0].client_id.as_str(), &group.members[0].member_assignment[..]),
        ("test", member.id.as_bytes())
    );
    assert_eq!(described[1].group_state.as_str(), "Dead");
}
