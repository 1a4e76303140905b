//! The log answers every request it announces, and outlives every one it cannot read.

use std::io::Write;

use crate::client::log;
use bytes::BytesMut;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, FetchRequest, JoinGroupRequest, MetadataRequest,
    RequestHeader, RequestKind, ResponseHeader, ResponseKind,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use telltale_testkit::wire::{Client, fetch_request, plain, topic_name};

/// An empty request of each type that is announced.
fn empty(key: ApiKey, version: i16) -> RequestKind {
    if key == ApiKey::Fetch {
        return RequestKind::Fetch(FetchRequest::default());
    }
    // Zeros are empty strings and arrays in the older forms, ones in the newer, where a zero is null.
    let fill = u8::from(key.request_header_version(version) >= 2);
    let mut bytes = bytes::Bytes::from(vec![fill; 4096]);
    RequestKind::decode(key, &mut bytes, version).unwrap_or_else(|it| panic!("{key:?} {version}: {it}"))
}

#[test]
fn every_request_in_every_version_is_answered() {
    let log = log();
    let mut client = Client::connect(log.addr());
    let versions: ApiVersionsResponse = client.call(3, &ApiVersionsRequest::default());
    assert!(versions.api_keys.len() > 30);
    for api in &versions.api_keys {
        let key = ApiKey::try_from(api.api_key).unwrap();
        for version in api.min_version..=api.max_version {
            let request = match empty(key, version) {
                // `acks=0` would have no answer.
                RequestKind::Produce(it) => RequestKind::Produce(it.with_acks(1)),
                other => other,
            };
            let mut bytes = BytesMut::new();
            RequestHeader::default()
                .with_request_api_key(api.api_key)
                .with_request_api_version(version)
                .with_client_id(Some(StrBytes::from_static_str("test")))
                .encode(&mut bytes, key.request_header_version(version))
                .unwrap();
            request.encode(&mut bytes, version).unwrap();
            client.send_frame(&bytes);
            let mut body =
                client.receive().unwrap_or_else(|| panic!("{key:?} {version} closed the connection"));
            ResponseHeader::decode(&mut body, key.response_header_version(version)).unwrap();
            ResponseKind::decode(key, &mut body, version)
                .unwrap_or_else(|it| panic!("{key:?} {version}: {it}"));
            assert!(body.is_empty(), "{key:?} {version}: {} bytes too many", body.len());
        }
    }
}

#[test]
fn hostile_bytes_close_their_connection_and_nothing_else() {
    let log = log();
    let mut good = Client::connect(log.addr());
    good.create_topic("t", 1, &[]);
    let huge_array = [
        &[0, 0, 0, 3, 0, 0, 0, 1, 0xff, 0xff][..],
        &[0xff, 0xff, 0, 1, 0, 0, 0, 0],
        &[0x7f, 0xff, 0xff, 0xff],
    ]
    .concat();
    let frames: &[(&str, Vec<u8>)] = &[
        ("an unknown request type", vec![0x7f, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff]),
        ("a negative request type", vec![0xff, 0xff, 0, 0, 0, 0, 0, 1, 0xff, 0xff]),
        ("a version of the future", vec![0, 0, 0, 99, 0, 0, 0, 1, 0xff, 0xff]),
        ("a body that ends early", vec![0, 0, 0, 9, 0, 0, 0, 1, 0xff, 0xff, 0, 9]),
        ("an array longer than memory", huge_array),
        ("a client id that is not text", vec![0, 3, 0, 1, 0, 0, 0, 1, 0, 2, 0xc3, 0x28, 0, 0, 0, 0]),
    ];
    for (name, bytes) in frames {
        let mut bad = Client::connect(log.addr());
        bad.send_frame(bytes);
        assert_eq!(bad.receive(), None, "{name}");
    }
    let lengths: &[(&str, i32)] =
        &[("negative", -1), ("nothing", 0), ("too short", 7), ("2 GB", i32::MAX), ("9 MB", 9 << 20)];
    for (name, length) in lengths {
        let mut bad = Client::connect(log.addr());
        bad.send_raw(&length.to_be_bytes());
        bad.send_raw(&[0, 3, 0, 1, 0, 0, 0, 1]);
        assert_eq!(bad.receive(), None, "a length that is {name}");
    }
    let mut web = Client::connect(log.addr());
    web.send_raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(web.receive(), None, "a web browser");
    assert_eq!(good.produce("t", plain(&["still here"])).error_code, 0);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_anything_does_no_harm() {
    let log = log();
    let mut good = Client::connect(log.addr());
    good.create_topic("t", 1, &[]);
    let mut half = std::net::TcpStream::connect(log.addr()).unwrap();
    half.write_all(&[0, 0, 0, 100, 0, 0]).unwrap();
    drop(half);
    let mut waiting = Client::connect(log.addr());
    waiting.send(11, &fetch_request("t", 0, false, 60_000));
    drop(waiting);
    let mut joining = Client::connect(log.addr());
    joining.send(2, &JoinGroupRequest::default());
    drop(joining);
    assert_eq!(good.produce("t", plain(&["a"])).base_offset, 0);
}

#[test]
fn unknown_topics_are_created_only_where_that_is_wanted() {
    let ask = |client: &mut Client| {
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name("new")));
        let request =
            MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(true);
        client.call(9, &request).topics[0].error_code
    };
    let strict = log();
    assert_eq!(ask(&mut Client::connect(strict.addr())), 3);
    let mut config = crate::client::config();
    config.auto_create_topics = true;
    let lenient = telltale_embedded::log::Log::start(config).unwrap();
    assert_eq!(ask(&mut Client::connect(lenient.addr())), 0);
}
