//! `JoinGroup`, `SyncGroup`, `Heartbeat`, `LeaveGroup`: members of consumer groups.

use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatResponse, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{Context, code, duration_ms, text};
use crate::log::broker::Broker;
use crate::log::group::{Caller, Sync};
use crate::log::group_member::{Join, JoinRefused, Joined};

/// Session time-outs that make sense: shorter than Kafka's 6 s, for tests.
const SESSION: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(1800);

/// From these versions on clients come back with the id they are given, leave together, and skip assignments.
const KNOWS_ITS_ID: i16 = 4;
const LEAVES_TOGETHER: i16 = 3;
const SKIPS_ASSIGNMENT: i16 = 9;

/// Joins a group; the answer comes when the rebalance that this begins is over.
pub(super) async fn join(broker: &Broker, request: JoinGroupRequest, context: &Context) -> JoinGroupResponse {
    let member_id = request.member_id.to_string();
    let session = duration_ms(request.session_timeout_ms);
    if request.group_id.is_empty() {
        return join_refused(JoinRefused { error: ResponseError::InvalidGroupId, member_id });
    }
    if !SESSION.contains(&session) {
        return join_refused(JoinRefused { error: ResponseError::InvalidSessionTimeout, member_id });
    }
    let rebalance = match request.rebalance_timeout_ms {
        ..=0 => session,
        ms => duration_ms(ms),
    };
    let stem = request.group_instance_id.as_ref().map_or(context.client_id.as_str(), StrBytes::as_str);
    let new_id = format!("{stem}-{}", super::super::random_id());
    let join = Join {
        member_id,
        instance: request.group_instance_id.map(|it| it.to_string()),
        client_id: context.client_id.clone(),
        client_host: format!("/{}", context.peer.ip()),
        session,
        rebalance,
        protocol_type: request.protocol_type.to_string(),
        protocols: request.protocols.into_iter().map(|it| (it.name.to_string(), it.metadata)).collect(),
        must_know_id: context.version >= KNOWS_ITS_ID,
        may_skip_assignment: context.version >= SKIPS_ASSIGNMENT,
    };
    let answer = broker.with_groups(|groups| {
        let (ticket, answer) = groups.park_join();
        let mut replies = Vec::new();
        groups.entry(&request.group_id).group.join(ticket, join, new_id, Instant::now(), &mut replies);
        groups.deliver(replies);
        answer
    });
    match answer.await {
        Ok(Ok(joined)) => join_accepted(joined),
        Ok(Err(refused)) => join_refused(refused),
        // The group was deleted while the member waited.
        Err(_) => {
            join_refused(JoinRefused { error: ResponseError::UnknownMemberId, member_id: String::new() })
        }
    }
}

fn join_accepted(joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|it| {
        JoinGroupResponseMember::default()
            .with_member_id(text(it.id))
            .with_group_instance_id(it.instance.map(text))
            .with_metadata(it.metadata)
    });
    JoinGroupResponse::default()
        .with_generation_id(joined.generation)
        .with_protocol_type(Some(text(joined.protocol_type)))
        .with_protocol_name(Some(text(joined.protocol)))
        .with_leader(text(joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(text(joined.member_id))
        .with_members(members.collect())
}

fn join_refused(refused: JoinRefused) -> JoinGroupResponse {
    JoinGroupResponse::default()
        .with_error_code(refused.error.code())
        .with_generation_id(-1)
        .with_protocol_name(Some(StrBytes::default()))
        .with_member_id(text(refused.member_id))
}

/// Brings or fetches assignments; the answer comes when the leader has brought them.
pub(super) async fn sync(broker: &Broker, request: SyncGroupRequest) -> SyncGroupResponse {
    let caller = Caller {
        member_id: &request.member_id,
        instance: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    let sync = Sync {
        protocol_type: request.protocol_type.as_ref().map(|it| it.to_string()),
        protocol: request.protocol_name.as_ref().map(|it| it.to_string()),
        assignments: request
            .assignments
            .iter()
            .map(|it| (it.member_id.to_string(), it.assignment.clone()))
            .collect(),
    };
    let answer = broker.with_groups(|groups| {
        let (ticket, answer) = groups.park_sync();
        let mut replies = Vec::new();
        let slot = groups.get_mut(&request.group_id)?;
        slot.group.sync(ticket, caller, sync, Instant::now(), &mut replies);
        groups.deliver(replies);
        Some(answer)
    });
    let outcome = match answer {
        None => Err(ResponseError::UnknownMemberId),
        Some(answer) => answer.await.unwrap_or(Err(ResponseError::UnknownMemberId)),
    };
    match outcome {
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(Some(text(synced.protocol_type)))
            .with_protocol_name(Some(text(synced.protocol)))
            .with_assignment(synced.assignment),
        Err(error) => SyncGroupResponse::default().with_error_code(error.code()),
    }
}

/// Keeps a member alive.
pub(super) fn heartbeat(broker: &Broker, request: &HeartbeatRequest) -> HeartbeatResponse {
    let caller = Caller {
        member_id: &request.member_id,
        instance: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    let alive = broker.with_groups(|groups| match groups.get_mut(&request.group_id) {
        Some(slot) => slot.group.heartbeat(caller, Instant::now()),
        None => Err(ResponseError::UnknownMemberId),
    });
    HeartbeatResponse::default().with_error_code(code(&alive))
}

/// Turns members of the group protocol of KIP-848 away, as Kafka does where `group.coordinator.rebalance.protocols` is
/// only `classic`. Were the request not served at all, librdkafka would look for another coordinator for ever.
pub(super) fn classic_only() -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_error_message(Some(text(
            "this log serves only the classic group protocol: set group.protocol=classic",
        )))
}

/// Lets members go.
pub(super) fn leave(broker: &Broker, request: LeaveGroupRequest, context: &Context) -> LeaveGroupResponse {
    let leave = |member_id: &str, instance: Option<&str>| {
        broker.with_groups(|groups| {
            let mut replies = Vec::new();
            let slot = groups.get_mut(&request.group_id).ok_or(ResponseError::UnknownMemberId)?;
            let left = slot.group.leave(member_id, instance, Instant::now(), &mut replies);
            groups.deliver(replies);
            left
        })
    };
    if context.version < LEAVES_TOGETHER {
        return LeaveGroupResponse::default().with_error_code(code(&leave(&request.member_id, None)));
    }
    let members = request.members.iter().map(|member| {
        let left = leave(&member.member_id, member.group_instance_id.as_deref());
        MemberResponse::default()
            .with_member_id(member.member_id.clone())
            .with_group_instance_id(member.group_instance_id.clone())
            .with_error_code(code(&left))
    });
    LeaveGroupResponse::default().with_members(members.collect())
}
