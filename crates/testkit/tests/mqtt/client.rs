//! A client that does what a test says and nothing else: it acknowledges when asked to, and never connects again.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::packet::{Message, Packet, Property, Version, binary, packet, properties, read, text};

/// Longest wait for a packet: generous, the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A stream of bytes to a broker.
pub(crate) trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// What a client asks for when it connects.
#[derive(Debug, Clone)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) id: String,
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    pub(crate) properties: Vec<Property>,
    pub(crate) will: Option<Message>,
    /// Properties of the will itself, such as its delay.
    pub(crate) will_properties: Vec<Property>,
    pub(crate) login: Option<(String, String)>,
}

impl Connect {
    /// A session that ends with its connection.
    pub(crate) fn new(version: Version, id: &str) -> Self {
        Self {
            version,
            id: id.to_owned(),
            clean: true,
            keep_alive: 0,
            properties: Vec::new(),
            will: None,
            will_properties: Vec::new(),
            login: None,
        }
    }

    /// A session that the broker keeps for an hour (MQTT 5) or for good (3.1.1).
    pub(crate) fn lasting(version: Version, id: &str) -> Self {
        let properties = if version == Version::V5 { vec![Property::Four(0x11, 3600)] } else { Vec::new() };
        Self { clean: false, properties, ..Self::new(version, id) }
    }

    fn bytes(&self) -> Vec<u8> {
        let version = self.version;
        let level = if version == Version::V5 { 5 } else { 4 };
        let mut flags = if self.clean { 2 } else { 0 };
        let mut content = [properties(version, &self.properties), text(&self.id)].concat();
        if let Some(will) = &self.will {
            flags |= 4 | will.qos << 3 | u8::from(will.retain) << 5;
            content.extend(properties(version, &self.will_properties));
            content.extend([text(&will.topic), binary(&will.payload)].concat());
        }
        if let Some((user, password)) = &self.login {
            flags |= 0xc0;
            content.extend([text(user), text(password)].concat());
        }
        let head = [&text("MQTT")[..], &[level, flags], &self.keep_alive.to_be_bytes()].concat();
        packet(0x10, &[head, content].concat())
    }
}

/// A connection to a broker.
pub(crate) struct Client {
    wire: Box<dyn Wire>,
    version: Version,
    input: Vec<u8>,
    /// Messages that came while something else was waited for.
    inbox: VecDeque<Packet>,
    last_id: u16,
    /// Whether the broker still had the session.
    pub(crate) present: bool,
    /// What the broker said of itself (MQTT 5).
    pub(crate) granted: Vec<Property>,
}

impl Client {
    /// Sends a CONNECT over a new TCP connection and returns the answer, too.
    pub(crate) fn open(broker: SocketAddr, connect: &Connect) -> (Self, Packet) {
        let stream = TcpStream::connect(broker).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self::over(Box::new(stream), connect)
    }

    /// As [`Client::open`], over any stream.
    pub(crate) fn over(wire: Box<dyn Wire>, connect: &Connect) -> (Self, Packet) {
        let (input, inbox, granted) = (Vec::new(), VecDeque::new(), Vec::new());
        let version = connect.version;
        let mut client = Self { wire, version, input, inbox, last_id: 0, present: false, granted };
        client.send(&connect.bytes());
        let answer = client.next();
        (client, answer)
    }

    /// Connects and is let in.
    pub(crate) fn connect(broker: SocketAddr, connect: &Connect) -> Self {
        let (mut client, answer) = Self::open(broker, connect);
        let Packet::ConnAck { present, code: 0, properties } = answer else {
            panic!("{} is not let in: {answer:?}", connect.id);
        };
        (client.present, client.granted) = (present, properties);
        client
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.wire.write_all(bytes).unwrap();
    }

    /// The next packet, whatever it is.
    pub(crate) fn next(&mut self) -> Packet {
        if let Some(packet) = self.inbox.pop_front() { packet } else { self.receive() }
    }

    fn receive(&mut self) -> Packet {
        let mut buffer = [0; 64 * 1024];
        loop {
            if let Some((first, body, end)) = frame(&self.input) {
                let packet = read(self.version, first, &self.input[body..end]);
                self.input.drain(..end);
                return packet;
            }
            match self.wire.read(&mut buffer) {
                Ok(0) => return Packet::End,
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Packet::End,
                Err(error) => panic!("the broker sends nothing: {error}"),
            }
        }
    }

    /// The next packet that is no message; messages on the way are kept for later.
    fn answer(&mut self) -> Packet {
        loop {
            match self.receive() {
                it @ (Packet::Publish(_) | Packet::PubRel { .. }) => self.inbox.push_back(it),
                other => return other,
            }
        }
    }

    /// The next message, not acknowledged.
    pub(crate) fn take(&mut self) -> Message {
        match self.next() {
            Packet::Publish(message) => message,
            other => panic!("{other:?} instead of a message"),
        }
    }

    /// The next message, acknowledged as its quality of service asks for.
    pub(crate) fn message(&mut self) -> Message {
        let message = self.take();
        match message.qos {
            0 => {}
            1 => self.acknowledge(0x40, message.id),
            _ => {
                self.acknowledge(0x50, message.id);
                // Other messages may come before the release of this one.
                let release = Packet::PubRel { id: message.id };
                let known = self.inbox.iter().position(|it| *it == release);
                match known {
                    Some(index) => drop(self.inbox.remove(index)),
                    None => loop {
                        let packet = self.receive();
                        if packet == release {
                            break;
                        }
                        self.inbox.push_back(packet);
                    },
                }
                self.acknowledge(0x70, message.id);
            }
        }
        message
    }

    /// PUBACK, PUBREC, PUBREL or PUBCOMP, by their first byte.
    pub(crate) fn acknowledge(&mut self, first: u8, id: u16) {
        self.send(&packet(first, &id.to_be_bytes()));
    }

    /// Publishes and waits until the broker has taken the message over; returns the reason code.
    pub(crate) fn publish(&mut self, publish: &Message) -> u8 {
        let id = self.post(publish);
        match publish.qos {
            0 => 0,
            1 => match self.answer() {
                Packet::PubAck { id: answered, code } if answered == id => code,
                other => panic!("{other:?} instead of an acknowledgement"),
            },
            _ => {
                let code = match self.answer() {
                    Packet::PubRec { id: answered, code } if answered == id => code,
                    other => panic!("{other:?} instead of a receipt"),
                };
                if code < 0x80 {
                    self.acknowledge(0x62, id);
                    let done = self.answer();
                    assert_eq!(done, Packet::PubComp { id, code: 0 });
                }
                code
            }
        }
    }

    /// Publishes and waits for nothing; returns the packet id.
    pub(crate) fn post(&mut self, publish: &Message) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let id = self.last_id;
        self.send_publish(&Message { id, ..publish.clone() });
        id
    }

    /// Sends a publish as it is.
    pub(crate) fn send_publish(&mut self, publish: &Message) {
        self.send(&publish.bytes(self.version));
    }

    /// Subscribes to one filter; returns the broker's code.
    pub(crate) fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.subscribe_with(filter, options, &[])
    }

    pub(crate) fn subscribe_with(&mut self, filter: &str, options: u8, list: &[Property]) -> u8 {
        let body = [&[0, 9][..], &properties(self.version, list), &text(filter), &[options]].concat();
        self.send(&packet(0x82, &body));
        match self.answer() {
            Packet::SubAck { id: 9, codes } if codes.len() == 1 => codes[0],
            other => panic!("{other:?} instead of an answer to a subscription to {filter}"),
        }
    }

    /// Ends subscriptions; returns the broker's codes, of which 3.1.1 has none.
    pub(crate) fn unsubscribe(&mut self, filters: &[&str]) -> Vec<u8> {
        let filters: Vec<u8> = filters.iter().flat_map(|it| text(it)).collect();
        self.send(&packet(0xa2, &[&[0, 8][..], &properties(self.version, &[]), &filters].concat()));
        match self.answer() {
            Packet::UnsubAck { id: 8, codes } => codes,
            other => panic!("{other:?} instead of an answer to the end of a subscription"),
        }
    }

    pub(crate) fn ping(&mut self) {
        self.send(&[0xc0, 0]);
        assert_eq!(self.answer(), Packet::Pong);
    }

    /// Whether no message that came while something else was waited for is left.
    pub(crate) fn has_nothing(&self) -> bool {
        self.inbox.is_empty()
    }

    /// Says farewell and waits until the broker has closed the connection.
    pub(crate) fn disconnect(mut self, code: u8) {
        let body: &[u8] = if code == 0 { &[] } else { &[code] };
        self.send(&packet(0xe0, body));
        while self.next() != Packet::End {}
    }

    /// Waits for the end of the connection; returns the reason that the broker gave (MQTT 5).
    pub(crate) fn end(&mut self) -> Option<u8> {
        let mut reason = None;
        loop {
            match self.answer() {
                Packet::Disconnect { code } => reason = Some(code),
                Packet::End => return reason,
                other => panic!("{other:?} instead of the end"),
            }
        }
    }
}

/// First byte of the packet in front, and where its body and its end are; `None` while it is incomplete.
fn frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let first = *bytes.first()?;
    let mut length = 0;
    for index in 0..4 {
        let byte = *bytes.get(1 + index)?;
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let (body, end) = (2 + index, 2 + index + length);
            return (bytes.len() >= end).then_some((first, body, end));
        }
    }
    panic!("the length of a packet takes more than four bytes");
}
