//! Each trouble against a server that answers every byte, and the addresses in Kafka's answers.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener as Listener, TcpStream as Stream};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use super::*;

/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(60);

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A server that sends back what it reads, and tells here what that was, connection by connection, and where each ended.
fn echo() -> (SocketAddr, Receiver<Vec<u8>>) {
    let listener = Listener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Room for all bytes of a test, one by one: a test that looks at none of them must not hold the server up.
    let (tx, rx) = sync_channel(20_000);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, tx) = (stream.unwrap(), tx.clone());
            thread::spawn(move || {
                let mut bytes = [0; 1000];
                loop {
                    let read = stream.read(&mut bytes).unwrap_or(0);
                    if tx.send(bytes[..read].to_vec()).is_err() || read == 0 {
                        return;
                    }
                    let _ = stream.write_all(&bytes[..read]);
                }
            });
        }
    });
    (address, rx)
}

fn connect(proxy: &Proxy) -> Stream {
    let stream = Stream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends a word and reads it back.
fn exchange(stream: &mut Stream, word: &[u8]) {
    stream.write_all(word).unwrap();
    let mut answer = vec![0; word.len()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, word);
}

/// What the server has read until it is as long as `expected`.
fn received(server: &Receiver<Vec<u8>>, expected: &[u8]) {
    let mut all = Vec::new();
    while all.len() < expected.len() {
        all.extend(server.recv_timeout(PATIENCE).unwrap());
    }
    assert_eq!(all, expected);
}

#[test]
fn bytes_arrive_whole_and_in_order_however_slow_the_link() {
    let (runtime, (server, _seen)) = (runtime(), echo());
    let proxy = Proxy::open(&runtime, &[server], Protocol::Plain).unwrap();
    let mut stream = connect(&proxy);
    let words: Vec<u8> = (0..5000_u32).map(|it| it as u8).collect();
    for trouble in [Trouble::Clear, Trouble::Sliced, Trouble::Narrow { bytes_a_second: 100_000 }] {
        proxy.set(trouble);
        exchange(&mut stream, &words);
    }
    proxy.set(Trouble::Late { delay: Duration::from_millis(5) });
    exchange(&mut stream, b"late");
}

#[test]
fn a_blackhole_swallows_nothing_for_good() {
    let (runtime, (server, seen)) = (runtime(), echo());
    let proxy = Proxy::open(&runtime, &[server], Protocol::Plain).unwrap();
    let mut stream = connect(&proxy);
    exchange(&mut stream, b"before");
    received(&seen, b"before");
    proxy.set(Trouble::Blackhole);
    stream.write_all(b"during").unwrap();
    assert!(seen.recv_timeout(Duration::from_millis(100)).is_err(), "it passed on what it should have kept");
    proxy.set(Trouble::Clear);
    received(&seen, b"during");
}

#[test]
fn a_link_to_several_brokers_reaches_each_and_trouble_strikes_all() {
    let (runtime, first, second) = (runtime(), echo(), echo());
    let proxy = Proxy::open(&runtime, &[first.0, second.0], Protocol::Plain).unwrap();
    let mut streams: Vec<Stream> =
        proxy.address().split(',').map(|it| Stream::connect(it).unwrap()).collect();
    for (stream, (word, server)) in streams.iter_mut().zip([(b"one", &first.1), (b"two", &second.1)]) {
        exchange(stream, word);
        received(server, word);
    }
    proxy.set(Trouble::Reset);
    for stream in &mut streams {
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn a_reset_strikes_connections_that_stand_and_those_that_begin() {
    let (runtime, (server, _seen)) = (runtime(), echo());
    let proxy = Proxy::open(&runtime, &[server], Protocol::Plain).unwrap();
    let mut stream = connect(&proxy);
    exchange(&mut stream, b"before");
    proxy.set(Trouble::Reset);
    let mut byte = [0];
    assert_eq!(stream.read(&mut byte).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    // A connection that begins ends without a byte, with or without a reset.
    assert!(matches!(connect(&proxy).read(&mut byte), Ok(0) | Err(_)));
    proxy.set(Trouble::Clear);
    exchange(&mut connect(&proxy), b"after");
}

#[test]
fn half_closed_means_that_only_the_engine_knows() {
    let (runtime, (server, seen)) = (runtime(), echo());
    let proxy = Proxy::open(&runtime, &[server], Protocol::Plain).unwrap();
    let mut stream = connect(&proxy);
    exchange(&mut stream, b"before");
    received(&seen, b"before");
    proxy.set(Trouble::HalfClose);
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), b"", "the engine was told that the connection ended");
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert_eq!(
        stream.read(&mut [0]).unwrap_err().kind(),
        io::ErrorKind::WouldBlock,
        "the service was told, too"
    );
    exchange(&mut connect(&proxy), b"new connections are well");
    proxy.set(Trouble::Clear);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
}

#[test]
fn what_was_held_comes_after_its_connection_was_closed_and_another_used() {
    let (runtime, (server, seen)) = (runtime(), echo());
    let proxy = Proxy::open(&runtime, &[server], Protocol::Plain).unwrap();
    let mut stream = connect(&proxy);
    exchange(&mut stream, b"before");
    received(&seen, b"before");
    proxy.set(Trouble::Hold { cut_after: Duration::from_millis(50) });
    stream.write_all(b"late").unwrap();
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "the service's connection is closed");
    exchange(&mut connect(&proxy), b"meanwhile");
    received(&seen, b"meanwhile");
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), b"", "that connection was closed by this test");
    proxy.set(Trouble::Clear);
    received(&seen, b"late");
}

#[test]
fn wrong_answers_are_given_and_the_engine_is_not_asked() {
    let (runtime, (server, seen)) = (runtime(), echo());
    let proxy = Proxy::open(&runtime, &[server], Protocol::Plain).unwrap();
    for trouble in Trouble::WRONG_ANSWERS {
        let Some(expected) = trouble.answer() else { continue };
        proxy.set(trouble);
        let mut stream = connect(&proxy);
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, expected);
    }
    assert!(seen.try_recv().is_err());
}

#[test]
fn our_ports_stand_where_the_brokers_did_and_frames_are_passed_whole() {
    let rewrite = Rewrite::new([(9092, 31_000), (9096, 31_001)].into_iter());
    let frame = |body: &[u8]| [&(body.len() as i32).to_be_bytes()[..], body].concat();
    let port = |port: i32| port.to_be_bytes();
    let before =
        [b"xx127.0.0.1", &port(9092)[..], b"127.0.0.1", &port(9093), b"127.0.0.1", &port(9096), b"1"]
            .concat();
    let after =
        [b"xx127.0.0.1", &port(31_000)[..], b"127.0.0.1", &port(9093), b"127.0.0.1", &port(31_001), b"1"]
            .concat();
    let stream = [frame(&before), frame(b""), frame(&before)].concat();
    for cut in 0..stream.len() {
        let mut read = BytesMut::from(&stream[..cut]);
        let mut passed = rewrite.whole_frames(&mut read).unwrap();
        read.extend_from_slice(&stream[cut..]);
        passed.extend_from_slice(&rewrite.whole_frames(&mut read).unwrap());
        assert_eq!(passed, [frame(&after), frame(b""), frame(&after)].concat(), "cut at {cut}");
    }
    assert!(
        rewrite.whole_frames(&mut BytesMut::from(&[0xff; 8][..])).is_none(),
        "a negative size is no frame"
    );
}
