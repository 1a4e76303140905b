//! What the MQTT broker does with bytes that no well-behaved client sends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use telltale_embedded::mqtt::{Broker, Config, start};

const CONNECT_5: &[u8] = b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a";
const CONNECT_4: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01b";

/// Sends bytes and reads until the broker closes the connection, or has answered `expected`.
fn answer(broker: &Broker, bytes: &[u8], expected: usize) -> Vec<u8> {
    let mut stream = TcpStream::connect(broker.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    while answer.len() < expected {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            count => answer.extend_from_slice(&buffer[..count]),
        }
    }
    answer
}

/// Whether a client still gets an answer to its ping.
fn serves(broker: &Broker) -> bool {
    answer(broker, &[CONNECT_4, b"\xc0\x00"].concat(), 6) == b"\x20\x02\x00\x00\xd0\x00"
}

#[test]
fn bytes_that_are_no_packets_close_their_connection_only() {
    let broker = start(Config { max_packet_bytes: 10_000, ..Config::default() }).unwrap();
    let connected = answer(&broker, CONNECT_5, 10);
    assert_eq!(connected[..2], [0x20, 0x08]);
    let after_connect: [(&str, &[u8], u8); 10] = [
        ("a second CONNECT", CONNECT_5, 0x82),
        ("a packet that only brokers send", b"\x20\x02\x00\x00", 0x81),
        ("a reserved type", b"\xf5\x00", 0x81),
        ("quality of service 3", b"\x36\x05\x00\x01a\x00\x01", 0x81),
        ("a topic that is not UTF-8", b"\x30\x04\x00\x01\xff\x00", 0x81),
        ("a topic with a wildcard", b"\x30\x04\x00\x01#\x00", 0x90),
        ("a topic alias", b"\x30\x07\x00\x01a\x03\x23\x00\x01", 0x94),
        ("a packet id of 0", b"\x32\x06\x00\x01a\x00\x00\x00", 0x81),
        ("a list of properties longer than the packet", b"\x30\x04\x00\x01a\x7f", 0x81),
        ("a packet that is too large", b"\x30\xff\xff\x7f", 0x95),
    ];
    for (name, bytes, code) in after_connect {
        let answer = answer(&broker, &[CONNECT_5, bytes].concat(), usize::MAX);
        assert_eq!(answer[10..], [0xe0, 2, code, 0], "{name}");
        assert!(serves(&broker), "{name}");
    }
    let instead_of_connect: [(&str, &[u8], &[u8]); 5] = [
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n", b""),
        ("a ping first", b"\xc0\x00", b""),
        ("MQTT 3.1", b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x3c\x00\x01a", b"\x20\x02\x00\x01"),
        ("a length without end", b"\x10\xff\xff\xff\xff", b""),
        ("a CONNECT cut short", b"\x10\x04\x00\x04MQ", b""),
    ];
    for (name, bytes, expected) in instead_of_connect {
        assert_eq!(answer(&broker, bytes, usize::MAX), expected, "{name}");
        assert!(serves(&broker), "{name}");
    }
}

#[test]
fn topics_of_every_language_and_unknown_acknowledgements_are_no_harm() {
    let broker = start(Config::default()).unwrap();
    let packets: [&[u8]; 6] = [
        CONNECT_5,
        "\u{30}\u{7}\0\u{4}ü/x\0".as_bytes(),
        b"\x40\x02\x00\x09",              // PUBACK of nothing
        b"\x62\x02\x00\x09",              // PUBREL of nothing
        b"\xa2\x06\x00\x01\x00\x00\x01#", // UNSUBSCRIBE of nothing
        b"\xc0\x00",
    ];
    let answer = answer(&broker, &packets.concat(), 10 + 5 + 6 + 2);
    assert_eq!(answer[10..], *b"\x70\x03\x00\x09\x92\xb0\x04\x00\x01\x00\x11\xd0\x00");
    assert!(serves(&broker));
}

#[test]
fn a_client_that_reads_nothing_is_cut_off_although_an_answer_waits_for_it() {
    let broker = start(Config::default()).unwrap();
    let opened = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(broker.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(bytes).unwrap();
        stream.read_exact(&mut [0; 9]).unwrap(); // CONNACK and SUBACK
        stream
    };
    // A keep-alive of a second, and a will.
    let connect = b"\x10\x13\x00\x04MQTT\x04\x06\x00\x01\x00\x01d\x00\x01w\x00\x01x";
    let _deaf = opened(&[&connect[..], b"\x82\x06\x00\x01\x00\x01t\x00"].concat());
    let mut watcher = opened(&[CONNECT_4, b"\x82\x06\x00\x01\x00\x01w\x00"].concat());
    // More than fits into the buffers of any connection.
    let publish = [&b"\x30\x83\x80\x80\x08\x00\x01t"[..], &[0; 16 << 20]].concat();
    watcher.write_all(&publish).unwrap();
    let mut will = [0; 6];
    watcher.read_exact(&mut will).unwrap();
    assert_eq!(&will, b"\x30\x04\x00\x01wx");
}
