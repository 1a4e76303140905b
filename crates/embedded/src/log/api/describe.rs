//! What tools ask about groups, producers and transactions, and deleting groups.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::list_transactions_response as list;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    DescribeProducersRequest, DescribeProducersResponse, DescribeTransactionsRequest,
    DescribeTransactionsResponse, GroupId, ListGroupsRequest, ListGroupsResponse, ListTransactionsRequest,
    ListTransactionsResponse, TopicName, TransactionalId,
};

use super::{Context, code, text};
use crate::log::broker::Broker;
use crate::log::catalog::lock;
use crate::log::clock;
use crate::log::group::State;
use crate::log::groups::Slot;
use crate::log::journal::Entry;
use crate::log::transaction::Transaction;

/// From this version on a group that does not exist is an error, not a dead group.
const UNKNOWN_IS_AN_ERROR: i16 = 6;

/// Members, assignments and states of groups.
pub(super) fn groups(
    broker: &Broker,
    request: DescribeGroupsRequest,
    context: &Context,
) -> DescribeGroupsResponse {
    let describe = |id: GroupId| {
        broker.with_groups(|groups| match groups.get(&id) {
            Some(slot) => group(slot).with_group_id(id),
            None if context.version >= UNKNOWN_IS_AN_ERROR => DescribedGroup::default()
                .with_error_code(ResponseError::GroupIdNotFound.code())
                .with_error_message(Some(text(format!("Group {} not found.", id.as_str()))))
                .with_group_state(text("Dead"))
                .with_group_id(id),
            None => DescribedGroup::default().with_group_state(text("Dead")).with_group_id(id),
        })
    };
    DescribeGroupsResponse::default().with_groups(request.groups.into_iter().map(describe).collect())
}

fn group(slot: &Slot) -> DescribedGroup {
    let stable = slot.group.state == State::Stable;
    let protocol = slot.group.protocol.as_str();
    let members = slot.group.members.iter().map(|(id, member)| {
        let shown = DescribedGroupMember::default()
            .with_member_id(text(id.clone()))
            .with_group_instance_id(member.instance.clone().map(text))
            .with_client_id(text(member.client_id.clone()))
            .with_client_host(text(member.client_host.clone()));
        if stable {
            shown
                .with_member_metadata(member.metadata(protocol))
                .with_member_assignment(member.assignment.clone())
        } else {
            shown
        }
    });
    DescribedGroup::default()
        .with_group_state(text(slot.group.state.name()))
        .with_protocol_type(text(slot.group.protocol_type.clone()))
        .with_protocol_data(text(if stable { protocol } else { "" }))
        .with_members(members.collect())
}

/// Every group, or those in given states.
pub(super) fn list_groups(broker: &Broker, request: &ListGroupsRequest) -> ListGroupsResponse {
    let in_states = |state: State| {
        let wanted = &request.states_filter;
        wanted.is_empty() || wanted.iter().any(|it| it.eq_ignore_ascii_case(state.name()))
    };
    let classic = request.types_filter.is_empty()
        || request.types_filter.iter().any(|it| it.eq_ignore_ascii_case("classic"));
    let groups = broker.with_groups(|groups| {
        let listed =
            groups.all().filter(|(_, slot)| classic && in_states(slot.group.state)).map(|(id, slot)| {
                ListedGroup::default()
                    .with_group_id(GroupId(text(id.clone())))
                    .with_protocol_type(text(slot.group.protocol_type.clone()))
                    .with_group_state(text(slot.group.state.name()))
                    .with_group_type(text("classic"))
            });
        listed.collect()
    });
    ListGroupsResponse::default().with_groups(groups)
}

/// Deletes groups without members.
pub(super) fn delete_groups(broker: &Broker, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let delete = |id: GroupId| {
        let deleted = broker.with_groups(|groups| {
            match groups.get(&id) {
                None => return Err(ResponseError::GroupIdNotFound),
                Some(slot) if slot.group.state != State::Empty => return Err(ResponseError::NonEmptyGroup),
                Some(_) => {}
            }
            broker.record(&[Entry::GroupDeleted { group: id.to_string() }])?;
            groups.remove(&id);
            Ok(())
        });
        DeletableGroupResult::default().with_error_code(code(&deleted)).with_group_id(id)
    };
    DeleteGroupsResponse::default().with_results(request.groups_names.into_iter().map(delete).collect())
}

/// Producers of partitions.
pub(super) fn producers(broker: &Broker, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            let found = broker.partition(&topic.name, *index);
            let answer =
                PartitionResponse::default().with_partition_index(*index).with_error_code(code(&found));
            let Ok((_, partition)) = found else {
                return answer;
            };
            let log = lock(&partition);
            let producers = log.producers().all().map(|(id, it)| {
                ProducerState::default()
                    .with_producer_id(id.into())
                    .with_producer_epoch(i32::from(it.epoch))
                    .with_last_sequence(it.last_sequence())
                    .with_last_timestamp(it.last_timestamp)
                    .with_coordinator_epoch(0)
                    .with_current_txn_start_offset(it.open_since.unwrap_or(-1))
            });
            answer.with_active_producers(producers.collect())
        });
        TopicResponse::default().with_partitions(partitions.collect()).with_name(topic.name.clone())
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

/// Every transactional id that matches.
pub(super) fn list_transactions(
    broker: &Broker,
    request: &ListTransactionsRequest,
) -> ListTransactionsResponse {
    let now = clock::millis(clock::now());
    let matches = |it: &&Transaction| {
        let states = &request.state_filters;
        let producers = &request.producer_id_filters;
        let long_enough =
            request.duration_filter < 0 || (it.started >= 0 && now - it.started > request.duration_filter);
        (states.is_empty() || states.iter().any(|state| &**state == it.phase.name()))
            && (producers.is_empty() || producers.iter().any(|id| **id == it.producer_id))
            && long_enough
    };
    let transactions = lock(&broker.transactions);
    let listed = transactions.all().filter(matches).map(|it| {
        list::TransactionState::default()
            .with_transactional_id(TransactionalId(text(it.id.clone())))
            .with_producer_id(it.producer_id.into())
            .with_transaction_state(text(it.phase.name()))
    });
    ListTransactionsResponse::default().with_transaction_states(listed.collect())
}

/// Single transactional ids in full.
pub(super) fn transactions(
    broker: &Broker,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let transactions = lock(&broker.transactions);
    let states = request.transactional_ids.into_iter().map(|id| match transactions.get(&id) {
        None => TransactionState::default()
            .with_error_code(ResponseError::TransactionalIdNotFound.code())
            .with_transactional_id(id),
        Some(known) => {
            let mut topics: Vec<TopicData> = Vec::new();
            for (topic, partition) in &known.partitions {
                match topics.last_mut() {
                    Some(last) if **last.topic == **topic => last.partitions.push(*partition),
                    _ => topics.push(
                        TopicData::default()
                            .with_topic(TopicName(text(topic.clone())))
                            .with_partitions(vec![*partition]),
                    ),
                }
            }
            TransactionState::default()
                .with_transactional_id(id)
                .with_transaction_state(text(known.phase.name()))
                .with_transaction_timeout_ms(known.timeout_ms)
                .with_transaction_start_time_ms(known.started)
                .with_producer_id(known.producer_id.into())
                .with_producer_epoch(known.epoch)
                .with_topics(topics)
        }
    });
    DescribeTransactionsResponse::default().with_transaction_states(states.collect())
}
