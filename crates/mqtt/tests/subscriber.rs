//! A subscriber loses nothing and acknowledges only what it was given on the connection that stands.

mod common;

use common::{
    Cable, PATIENCE, VERSIONS, broker, close, endpoint, message, publish_numbers, spawn, subscriber_event,
    subscriber_options, wait_subscribed,
};
use telltale_mqtt::subscriber::{Event, open};
use telltale_mqtt::{Fault, Qos, Version};
use tokio::time::timeout;

fn number(message: &telltale_mqtt::subscriber::Message) -> u32 {
    std::str::from_utf8(&message.payload).unwrap().parse().unwrap()
}

#[tokio::test]
async fn messages_arrive_in_order_and_acknowledged_ones_do_not_come_back() {
    for version in VERSIONS {
        let broker = broker();
        let endpoint = endpoint(broker.address(), version);
        let (acks, mut session) = open(&endpoint, subscriber_options("cars/+"));
        wait_subscribed(&mut session).await;
        let publish = spawn(publish_numbers(broker.address(), "cars/1", 0..500));
        for expected in 0..500 {
            let message = message(&mut session).await;
            assert_eq!((number(&message), &message.topic[..]), (expected, &b"cars/1"[..]));
            assert!(acks.acknowledge(message.receipt.unwrap()));
        }
        publish.await.unwrap();
        close(&acks, &mut session).await;

        let (acks, mut session) = open(&endpoint, subscriber_options("cars/+"));
        publish_numbers(broker.address(), "cars/1", 500..501).await;
        let next = message(&mut session).await;
        assert_eq!((number(&next), next.duplicate), (500, false), "{version:?}");
        close(&acks, &mut session).await;
    }
}

#[tokio::test]
async fn after_a_reconnect_old_receipts_are_worthless_and_the_rest_comes_again() {
    for version in VERSIONS {
        let broker = broker();
        let cable = Cable::to(broker.address()).await;
        let (acks, mut session) = open(&endpoint(cable.address, version), subscriber_options("cars/+"));
        wait_subscribed(&mut session).await;
        publish_numbers(broker.address(), "cars/1", 0..10).await;
        let mut receipts = Vec::new();
        for _ in 0..10 {
            receipts.push(message(&mut session).await.receipt.unwrap());
        }
        cable.cut();
        while !matches!(subscriber_event(&mut session).await, Event::Disconnected(_)) {}
        assert!(!acks.acknowledge(receipts[0]), "a receipt of an ended connection");
        publish_numbers(broker.address(), "cars/1", 10..20).await;
        while !matches!(subscriber_event(&mut session).await, Event::Connected { session_present: true }) {}
        assert!(!acks.acknowledge(receipts[0]), "a receipt of the connection before this one");
        for expected in 0..20 {
            let message = message(&mut session).await;
            assert_eq!((number(&message), message.duplicate), (expected, expected < 10), "{version:?}");
            assert!(acks.acknowledge(message.receipt.unwrap()));
        }
        close(&acks, &mut session).await;
    }
}

#[tokio::test]
async fn a_broker_that_lost_the_session_is_subscribed_to_again() {
    let first = broker();
    let port = first.address().port();
    let (acks, mut session) = open(&endpoint(first.address(), Version::V5), subscriber_options("cars/+"));
    wait_subscribed(&mut session).await;
    drop(first);
    while !matches!(subscriber_event(&mut session).await, Event::Disconnected(_)) {}
    let config = telltale_embedded::mqtt::Config { port, ..Default::default() };
    let second = telltale_embedded::mqtt::start(config).unwrap();
    wait_subscribed(&mut session).await;
    publish_numbers(second.address(), "cars/1", 0..1).await;
    assert_eq!(number(&message(&mut session).await), 0);
    close(&acks, &mut session).await;
}

#[tokio::test]
async fn a_client_of_the_same_name_ends_the_session_for_good() {
    let broker = broker();
    let endpoint = endpoint(broker.address(), Version::V5);
    let (_acks, mut first) = open(&endpoint, subscriber_options("cars/+"));
    wait_subscribed(&mut first).await;
    let (acks, mut second) = open(&endpoint, subscriber_options("cars/+"));
    wait_subscribed(&mut second).await;
    let fault = timeout(PATIENCE, first.next()).await.unwrap().unwrap_err();
    assert!(matches!(fault, Fault::TakenOver), "{fault}");
    close(&acks, &mut second).await;
}

#[tokio::test]
async fn unacknowledged_messages_stop_at_the_receive_maximum() {
    let broker = broker();
    let mut options = subscriber_options("cars/+");
    options.receive_maximum = 7;
    let (acks, mut session) = open(&endpoint(broker.address(), Version::V5), options);
    wait_subscribed(&mut session).await;
    publish_numbers(broker.address(), "cars/1", 0..20).await;
    let mut receipts = Vec::new();
    for _ in 0..7 {
        receipts.push(message(&mut session).await.receipt.unwrap());
    }
    // What comes next is the answer to an acknowledgement, and nothing before it.
    for receipt in receipts.drain(..) {
        assert!(acks.acknowledge(receipt));
    }
    for expected in 7..20 {
        let message = message(&mut session).await;
        assert_eq!(number(&message), expected);
        assert!(acks.acknowledge(message.receipt.unwrap()));
    }
    close(&acks, &mut session).await;
}

#[tokio::test]
async fn ten_megabytes_and_user_properties_arrive_whole() {
    let broker = broker();
    let endpoint = endpoint(broker.address(), Version::V5);
    let (acks, mut session) = open(&endpoint, subscriber_options("#"));
    wait_subscribed(&mut session).await;
    let options = telltale_mqtt::device::Options {
        max_packet_bytes: 20 << 20,
        ..telltale_mqtt::device::Options::new("big")
    };
    let (publisher, mut device) = telltale_mqtt::device::open(&endpoint, options);
    let payload = bytes::Bytes::from(vec![7; 10 << 20]);
    publisher.publish(&"ü/ключ".into(), Qos::ExactlyOnce, false, payload.clone()).unwrap();
    let driver = spawn(async move { while device.next().await.is_some() {} });
    let arrived = message(&mut session).await;
    assert_eq!((&arrived.topic[..], arrived.payload == payload), ("ü/ключ".as_bytes(), true));
    assert_eq!(arrived.qos, Qos::AtLeastOnce);
    assert!(acks.acknowledge(arrived.receipt.unwrap()));
    publisher.close();
    driver.await.unwrap();
    close(&acks, &mut session).await;
}
