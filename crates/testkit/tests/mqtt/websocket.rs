//! MQTT over WebSocket, which browsers speak. HiveMQ has it; the embedded broker does not, and refuses at once.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use crate::World;
use crate::client::{Client, Connect, PATIENCE};
use crate::packet::{Message, VERSIONS};

/// The little of RFC 6455 that a client needs: an opening, and binary frames whose masks are zero.
struct WebSocket {
    stream: TcpStream,
    /// Bytes of the frame in hand that were not read yet.
    left: usize,
}

impl WebSocket {
    fn open(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = "GET /mqtt HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("http/1.1 101"), "{head}");
        // The answer to the key above, from the standard itself.
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        assert!(head.contains("sec-websocket-protocol: mqtt"), "{head}");
        Self { stream, left: 0 }
    }
}

impl Write for WebSocket {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let count = bytes.len().min(60_000);
        let length = u16::try_from(count).expect("at most 60,000").to_be_bytes();
        let short = [0x82, 0x80 | length[1]];
        let long = [0x82, 0x80 | 126, length[0], length[1]];
        let head: &[u8] = if count < 126 { &short } else { &long };
        let frame = [head, &[0; 4], &bytes[..count]].concat();
        self.stream.write_all(&frame)?;
        Ok(count)
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.flush()
    }
}

impl Read for WebSocket {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while self.left == 0 {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head)?;
            self.left = match head[1] {
                126 => {
                    let mut length = [0; 2];
                    self.stream.read_exact(&mut length)?;
                    u16::from_be_bytes(length).into()
                }
                127 => {
                    let mut length = [0; 8];
                    self.stream.read_exact(&mut length)?;
                    usize::try_from(u64::from_be_bytes(length)).unwrap()
                }
                length => length.into(),
            };
            if !matches!(head[0] & 0x0f, 0 | 2) {
                return Err(Error::new(ErrorKind::ConnectionReset, "the broker closes the WebSocket"));
            }
        }
        let wanted = buffer.len().min(self.left);
        let count = self.stream.read(&mut buffer[..wanted])?;
        self.left -= count;
        Ok(count)
    }
}

/// The port that `make up` gave to HiveMQ for WebSocket.
fn port(world: &World) -> Option<u16> {
    if world.known_difference("WebSocket", false, true) {
        return None;
    }
    let folder = PathBuf::from(std::env::var_os("TELLTALE_TEST_ENGINES").unwrap());
    let settings = std::fs::read_to_string(folder.join("run/hivemq.settings")).unwrap();
    let port = settings.split_whitespace().find_map(|it| it.strip_prefix("websocket="));
    Some(port.expect("make up writes the port down").parse().unwrap())
}

#[test]
fn browsers_publish_and_subscribe_beside_everybody_else() {
    let world = World::start();
    let Some(port) = port(&world) else {
        // The embedded broker: an HTTP client learns at once that nobody speaks HTTP here.
        let mut stream = TcpStream::connect(world.broker()).unwrap();
        stream.write_all(b"GET /mqtt HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(stream.read(&mut [0; 10]).unwrap_or(0), 0);
        return;
    };
    for version in VERSIONS {
        let topic = world.topic(&format!("web/{version:?}"));
        let connect = |what: &str| Connect::new(version, &world.engines.name(what));
        let (mut browser, answer) = Client::over(Box::new(WebSocket::open(port)), &connect("browser"));
        assert!(matches!(answer, crate::packet::Packet::ConnAck { code: 0, .. }), "{answer:?}");
        assert_eq!(browser.subscribe(&topic, 2), 2);
        let mut device = world.subscriber(version, &topic, 2);
        for (qos, bytes) in [(0, 10), (1, 1000), (2, 200_000)] {
            let payload = vec![b'x'; bytes];
            browser.publish(&Message::new(&topic, qos, &payload));
            assert!(device.message().payload == payload && browser.message().payload == payload, "QoS {qos}");
            device.publish(&Message::new(&topic, qos, "from a device"));
            assert_eq!(browser.message().text(), "from a device");
            assert_eq!(device.message().text(), "from a device");
        }
    }
}
