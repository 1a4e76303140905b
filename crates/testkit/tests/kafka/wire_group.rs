//! A member of a consumer group, request by request: it can die, lie and come too late.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest,
    SyncGroupRequest, SyncGroupResponse,
};
use telltale_testkit::wire::{Client, Coordinates, group_id, text, topic_name};

use crate::support::Kafka;

const MEMBER_ID_REQUIRED: i16 = 79;
/// The coordinator is not ready yet.
pub(crate) const LOADING: [i16; 3] = [14, 15, 16];

/// A member of a group.
pub(crate) struct RawMember {
    pub(crate) client: Client,
    pub(crate) group: String,
    pub(crate) id: String,
    pub(crate) instance: Option<String>,
    pub(crate) generation: i32,
    pub(crate) protocol: &'static str,
    /// What it subscribes to, and how many partitions that has.
    topic: String,
    partitions: i32,
}

impl RawMember {
    /// Somebody who has not joined yet.
    pub(crate) fn new(kafka: &Kafka, group: &str) -> Self {
        Self {
            client: Client::coordinator(kafka.servers(), Coordinates::Group, group),
            group: group.to_owned(),
            id: String::new(),
            instance: None,
            generation: -1,
            protocol: "range",
            topic: "t".to_owned(),
            partitions: 1,
        }
    }

    /// The same with a subscription.
    pub(crate) fn with_topic(mut self, topic: &str, partitions: i32) -> Self {
        (self.topic, self.partitions) = (topic.to_owned(), partitions);
        self
    }

    /// The same as a static member.
    pub(crate) fn with_instance(mut self, instance: &str) -> Self {
        self.instance = Some(instance.to_owned());
        self
    }

    /// The request to join.
    pub(crate) fn join_request(&self, session_ms: i32) -> JoinGroupRequest {
        // Subscription, version 0: topics, no user data.
        let mut metadata = BytesMut::new();
        metadata.put_i16(0);
        metadata.put_i32(1);
        put_text(&mut metadata, &self.topic);
        metadata.put_i32(-1);
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text(self.protocol))
            .with_metadata(metadata.freeze());
        JoinGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_session_timeout_ms(session_ms)
            .with_rebalance_timeout_ms(60_000)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol])
    }

    /// Joins, with the id that the coordinator asks it to use; waits for the others.
    pub(crate) fn try_join(&mut self, session_ms: i32) -> JoinGroupResponse {
        loop {
            let request = self.join_request(session_ms);
            let joined = self.client.call_until(7, &request, |it| !LOADING.contains(&it.error_code));
            if joined.error_code == MEMBER_ID_REQUIRED {
                self.id = joined.member_id.to_string();
                continue;
            }
            if joined.error_code == 0 {
                self.id = joined.member_id.to_string();
                self.generation = joined.generation_id;
            }
            return joined;
        }
    }

    /// Joins without an error.
    pub(crate) fn join(&mut self, session_ms: i32) -> JoinGroupResponse {
        let joined = self.try_join(session_ms);
        assert_eq!(joined.error_code, 0);
        joined
    }

    /// Syncs; the leader deals out its topic's partitions in turn.
    pub(crate) fn try_sync(&mut self, joined: &JoinGroupResponse) -> SyncGroupResponse {
        let count = joined.members.len() as i32;
        let assignments = joined.members.iter().zip(0..).map(|(member, index)| {
            let mine: Vec<_> = (0..self.partitions).filter(|it| it % count == index).collect();
            // Assignment, version 0: topics with partitions, no user data.
            let mut bytes = BytesMut::new();
            bytes.put_i16(0);
            bytes.put_i32(1);
            put_text(&mut bytes, &self.topic);
            bytes.put_i32(mine.len() as i32);
            mine.iter().for_each(|it| bytes.put_i32(*it));
            bytes.put_i32(-1);
            SyncGroupRequestAssignment::default()
                .with_member_id(member.member_id.clone())
                .with_assignment(bytes.freeze())
        });
        let request = SyncGroupRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_assignments(assignments.collect());
        self.client.call(3, &request)
    }

    /// Syncs without an error; the assignment.
    pub(crate) fn sync(&mut self, joined: &JoinGroupResponse) -> Bytes {
        let synced = self.try_sync(joined);
        assert_eq!(synced.error_code, 0);
        synced.assignment
    }

    /// Says that it lives; the error.
    pub(crate) fn heartbeat(&mut self) -> i16 {
        let request = HeartbeatRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text));
        self.client.call(3, &request).error_code
    }

    /// Commits an offset of partition 0 of its topic; the error.
    pub(crate) fn commit(&mut self, offset: i64) -> i16 {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(&self.topic))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(&self.group))
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_topics(vec![topic]);
        let answer = self
            .client
            .call_until(7, &request, |it| !LOADING.contains(&it.topics[0].partitions[0].error_code));
        answer.topics[0].partitions[0].error_code
    }

    /// Leaves; the errors of the group and of the member.
    pub(crate) fn leave(&mut self) -> (i16, i16) {
        let member = MemberIdentity::default()
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text));
        let request =
            LeaveGroupRequest::default().with_group_id(group_id(&self.group)).with_members(vec![member]);
        let answer = self.client.call(4, &request);
        (answer.error_code, answer.members.first().map_or(0, |it| it.error_code))
    }
}

fn put_text(bytes: &mut BytesMut, text: &str) {
    bytes.put_i16(text.len() as i16);
    bytes.put_slice(text.as_bytes());
}

impl RawMember {
    /// Joins and syncs on another thread, while somebody else keeps busy until that is done.
    pub(crate) fn try_join_in_background(&mut self, mut busy: impl FnMut()) {
        std::thread::scope(|scope| {
            let joining = scope.spawn(|| {
                let joined = self.join(60_000);
                self.sync(&joined);
            });
            while !joining.is_finished() {
                busy();
            }
            joining.join().unwrap();
        });
    }
}
