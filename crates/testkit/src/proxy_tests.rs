//! The fates of pieces, before a target that echoes.

use std::sync::mpsc;

use super::*;

/// A target that hands on what it reads, connection by connection, and answers each byte with itself.
fn echo() -> (SocketAddr, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (tx, rx) = mpsc::sync_channel(100);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, tx) = (stream.unwrap(), tx.clone());
            thread::spawn(move || {
                let mut bytes = Vec::new();
                while some(&mut stream, &mut bytes).unwrap_or(false) {
                    let _gone = stream.write_all(&bytes);
                    tx.send(bytes.clone()).unwrap();
                }
            });
        }
    });
    (address, rx)
}

fn behind(
    rule: impl Fn(&Piece<'_>) -> Fate + Send + Sync + 'static,
) -> (Proxy, TcpStream, mpsc::Receiver<Vec<u8>>) {
    let (target, seen) = echo();
    let proxy = Proxy::start(target, Pieces::Any, rule);
    let client = TcpStream::connect(proxy.address()).unwrap();
    client.set_read_timeout(Some(crate::PATIENCE)).unwrap();
    (proxy, client, seen)
}

fn read(client: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; 100];
    let read = client.read(&mut bytes).unwrap();
    bytes.truncate(read);
    bytes
}

#[test]
fn what_is_held_arrives_although_its_sender_has_gone() {
    let held = |piece: &Piece<'_>| match (piece.way, piece.bytes) {
        (Way::Up, b"hold") => Fate::Hold(Duration::from_millis(1)),
        _ => Fate::Pass,
    };
    let (_proxy, mut client, seen) = behind(held);
    client.write_all(b"pass").unwrap();
    assert_eq!((read(&mut client), seen.recv().unwrap()), (b"pass".to_vec(), b"pass".to_vec()));
    client.write_all(b"hold").unwrap();
    assert_eq!(read(&mut client), b"", "its connection has ended");
    assert_eq!(seen.recv().unwrap(), b"hold");
}

#[test]
fn pieces_are_swallowed_answered_and_sliced() {
    let rule = |piece: &Piece<'_>| match (piece.way, piece.bytes) {
        (Way::Up, b"lost") => Fate::Swallow,
        (Way::Up, b"ask") => Fate::Answer(b"answer".to_vec()),
        (Way::Up, b"last") => Fate::PassAndClose,
        (Way::Up, _) => Fate::Sliced,
        (Way::Down, _) => Fate::Pass,
    };
    let (proxy, mut client, seen) = behind(rule);
    client.write_all(b"ask").unwrap();
    assert_eq!(read(&mut client), b"answer");
    client.write_all(b"many").unwrap();
    let mut back = Vec::new();
    while back.len() < 4 {
        back.extend(read(&mut client));
    }
    assert_eq!(back, b"many");
    let mut there = Vec::new();
    while there.len() < 4 {
        there.extend(seen.recv().unwrap());
    }
    assert_eq!(there, b"many", "neither what was lost nor what was asked");
    client.write_all(b"last").unwrap();
    assert_eq!(seen.recv().unwrap(), b"last");
    assert_eq!(proxy.connections(), 1);
}

#[test]
fn a_cut_ends_what_is_open_and_takes_what_is_new() {
    let (proxy, mut client, _seen) = behind(|_| Fate::Pass);
    client.write_all(b"a").unwrap();
    assert_eq!(read(&mut client), b"a");
    proxy.cut();
    assert_eq!(read(&mut client), b"");
    let mut again = TcpStream::connect(proxy.address()).unwrap();
    again.write_all(b"b").unwrap();
    assert_eq!(read(&mut again), b"b");
}

#[test]
fn only_the_targets_own_address_is_replaced() {
    let [target, here]: [SocketAddr; 2] = ["127.0.0.1:9092", "127.0.0.1:23000"].map(|it| it.parse().unwrap());
    let answer = |port: u32, other: u32| {
        let address = |it: u32| [&b"127.0.0.1"[..], &it.to_be_bytes()].concat();
        [b"\x09", &address(port)[..], b"\x09", &address(other), b"127.0.0"].concat()
    };
    let mut found = answer(9092, 9093);
    move_here(&mut found, target, here);
    assert_eq!(found, answer(23000, 9093));
}
