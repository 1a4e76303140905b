//! Transactions while the journal cannot be written.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;
use tokio::sync::Notify;

use super::*;
use crate::log::journal::Journal;
use crate::log::topic_config::TopicConfig;
use crate::log::{LogConfig, start};

fn begin(broker: &Broker) -> Result<Identity, ResponseError> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(StrBytes::from_static_str("id").into()))
        .with_transaction_timeout_ms(60_000)
        .with_producer_id(ProducerId(-1))
        .with_producer_epoch(-1);
    try_init(broker, &request)
}

fn add_one(broker: &Broker, producer: Identity) -> Result<(), ResponseError> {
    add(broker, "id", producer, vec![("t".to_owned(), 0)], Vec::new())
}

fn commit(broker: &Broker, producer: Identity) -> i16 {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let waiter = Arc::new(Notify::new());
    let context = Context { version: 3, client_id: String::new(), local: nowhere, peer: nowhere, waiter };
    let request = EndTxnRequest::default()
        .with_transactional_id(StrBytes::from_static_str("id").into())
        .with_producer_id(ProducerId(producer.producer_id))
        .with_producer_epoch(producer.epoch)
        .with_committed(true);
    end(broker, &request, &context).error_code
}

#[test]
fn a_disk_that_is_full_for_a_while_leaves_no_transaction_half_ended() {
    use ResponseError::{ConcurrentTransactions, NotCoordinator};
    let broker = start::in_memory(&LogConfig::default());
    broker.create_topic("t", 1, TopicConfig::default()).unwrap();
    let disk =
        |full: bool| *lock(&broker.journal) = if full { Journal::unwritable() } else { Journal::in_memory() };
    let producer = begin(&broker).unwrap();

    disk(true);
    for _again in 0..2 {
        assert_eq!(
            add_one(&broker, producer),
            Err(NotCoordinator),
            "what is not in the journal is not known either"
        );
    }
    disk(false);
    assert_eq!(add_one(&broker, producer), Ok(()));

    disk(true);
    assert_eq!(commit(&broker, producer), NotCoordinator.code());
    disk(false);
    assert_eq!(add_one(&broker, producer), Ok(()), "a commit that is not in the journal was not decided");
    assert_eq!(commit(&broker, producer), 0);

    assert_eq!(add_one(&broker, producer), Ok(()));
    disk(true);
    assert_eq!(begin(&broker), Err(NotCoordinator), "the open transaction must be aborted first");
    broker.tick();
    assert_eq!(begin(&broker), Err(ConcurrentTransactions));
    disk(false);
    broker.tick();
    let newer = begin(&broker).unwrap();
    assert!(newer.epoch > producer.epoch);
    assert_eq!(add_one(&broker, newer), Ok(()));
}
