//! A broker that does and says what a test tells it, byte by byte.

use std::net::SocketAddr;

use telltale_mqtt::Version;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::PATIENCE;

/// One connection, from the broker's side.
pub struct Stub {
    pub stream: TcpStream,
    pub version: Version,
    /// What asked for the connection.
    pub connect: Vec<u8>,
}

impl Stub {
    /// Takes a connection and lets it in.
    pub async fn accept(listener: &TcpListener, version: Version, present: bool) -> Self {
        let mut stub = Self::accept_silently(listener, version).await;
        let answer: &[u8] = if version == Version::V5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] };
        let mut answer = answer.to_vec();
        answer[2] = present.into();
        stub.send(&answer).await;
        stub
    }

    pub async fn accept_silently(listener: &TcpListener, version: Version) -> Self {
        let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut stub = Self { stream, version, connect: Vec::new() };
        stub.connect = stub.packet().await;
        assert_eq!(stub.connect[0], 0x10);
        stub
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Reads one packet; all that clients send in these tests are short.
    pub async fn packet(&mut self) -> Vec<u8> {
        let mut packet = vec![0; 2];
        timeout(PATIENCE, self.stream.read_exact(&mut packet)).await.expect("a packet comes").unwrap();
        assert!(packet[1] < 0x80, "{packet:?} is not short");
        packet.resize(2 + usize::from(packet[1]), 0);
        self.stream.read_exact(&mut packet[2..]).await.unwrap();
        packet
    }

    /// Answers the subscription, and sends `more` with the answer.
    pub async fn grant(&mut self, more: &[u8]) {
        let request = self.packet().await;
        assert_eq!(request[0], 0x82, "a SUBSCRIBE");
        let (high, low) = (request[2], request[3]);
        let answer: &[u8] =
            if self.version == Version::V5 { &[0x90, 4, high, low, 0, 1] } else { &[0x90, 3, high, low, 1] };
        self.send(&[answer, more].concat()).await;
    }

    /// Answers the barrier and sees the farewell, and nothing between them.
    pub async fn farewell(mut self) {
        let request = self.packet().await;
        assert_eq!(request[0], 0xa2, "an UNSUBSCRIBE, not {request:x?}");
        let (high, low) = (request[2], request[3]);
        let answer: &[u8] =
            if self.version == Version::V5 { &[0xb0, 4, high, low, 0, 0x11] } else { &[0xb0, 2, high, low] };
        self.send(answer).await;
        assert_eq!(self.packet().await, [0xe0, 0]);
        assert_eq!(self.stream.read(&mut [0]).await.unwrap(), 0, "the connection ends");
    }
}

/// The bytes of a message to `cars/1`; one of QoS 0 has no packet id.
pub fn publish(version: Version, qos: u8, packet_id: u16, payload: &str) -> Vec<u8> {
    let mut content = [&[0, 6][..], b"cars/1"].concat();
    if qos > 0 {
        content.extend(packet_id.to_be_bytes());
    }
    if version == Version::V5 {
        content.push(0);
    }
    content.extend(payload.as_bytes());
    [&[0x30 | qos << 1, u8::try_from(content.len()).unwrap()], &content[..]].concat()
}

pub async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}
