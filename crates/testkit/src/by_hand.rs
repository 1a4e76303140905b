//! MQTT by hand: what the client of the devices would not let through.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::PATIENCE;

/// Publishes with MQTT 5 and QoS 1, one message at a time.
#[derive(Debug)]
pub struct ByHand(TcpStream);

impl ByHand {
    /// A connection to `broker`.
    ///
    /// # Panics
    ///
    /// Panics when the broker does not let it in.
    #[must_use]
    pub fn connect(broker: SocketAddr) -> Self {
        let stream = TcpStream::connect(broker).expect("the broker is there");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out that is not 0");
        stream.set_nodelay(true).expect("a connection of TCP");
        let mut by_hand = Self(stream);
        by_hand.write(b"\x10\x11\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x04hand");
        assert_eq!(by_hand.answer().0, 0x20, "the broker lets it in");
        by_hand
    }

    /// Publishes a message; returns once the broker has it.
    ///
    /// # Panics
    ///
    /// Panics when the broker does not take it.
    pub fn publish(&mut self, topic: &str, payload: &[u8], user_properties: &[(&str, &str)]) {
        let mut properties = Vec::new();
        for (name, value) in user_properties {
            properties.extend([&[0x26][..], &text(name), &text(value)].concat());
        }
        let body = [&text(topic)[..], &[0, 1], &variable(properties.len()), &properties, payload].concat();
        self.write(&[&[0x32][..], &variable(body.len()), &body].concat());
        // Reasons below 128 are no errors: 16 says that nobody has subscribed yet.
        let (kind, answer) = self.answer();
        let taken = kind == 0x40 && answer.starts_with(&[0, 1]) && answer.get(2).is_none_or(|it| *it < 0x80);
        assert!(taken, "{topic:.100}: the broker answers {kind:#x} {answer:?}");
    }

    fn write(&mut self, packet: &[u8]) {
        self.0.write_all(packet).expect("the broker reads");
    }

    fn answer(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 2];
        self.0.read_exact(&mut header).expect("the broker answers");
        let mut body = vec![0; header[1].into()];
        self.0.read_exact(&mut body).expect("the broker answers");
        (header[0], body)
    }
}

/// A text as MQTT writes it: its length in two bytes, then its bytes.
///
/// # Panics
///
/// Panics when it is longer than MQTT allows.
#[must_use]
pub fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("MQTT knows texts of up to 65,535 bytes");
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

/// A length as MQTT writes it: seven bits a byte, the lowest first.
#[must_use]
pub fn variable(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (value & 0x7f) as u8;
        value >>= 7;
        bytes.push(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return bytes;
        }
    }
}
