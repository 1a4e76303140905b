//! The embedded log: requests, and files that were damaged.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use telltale_embedded::log::{Log, LogConfig};

/// Requests that one log takes before it is replaced: what they create is kept in memory.
const REQUESTS: u32 = 500;
/// A request may ask the log to wait; nobody waits for the answer longer than this.
const WAIT: Duration = Duration::from_millis(500);

static LOG: Mutex<Option<(Log, u32)>> = Mutex::new(None);

/// The bytes are requests with their lengths in two bytes before them. Whatever they are, the log goes on serving others.
pub fn requests(bytes: &[u8]) {
    let mut slot = LOG.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if slot.as_ref().is_none_or(|(_, served)| *served >= REQUESTS) {
        *slot = Some((Log::start(LogConfig::default()).expect("there is a port"), 0));
    }
    let (log, served) = slot.as_mut().expect("it was just started");
    *served += 1;
    let mut stream = TcpStream::connect(log.addr()).expect("the log listens");
    stream.set_read_timeout(Some(WAIT)).expect("a time-out that is not 0");
    let mut rest = bytes;
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let (frame, tail) = tail.split_at(usize::from(u16::from_be_bytes(*length)).min(tail.len()));
        rest = tail;
        let length = u32::try_from(frame.len()).expect("two bytes").to_be_bytes();
        // The log closes the connection after the first wrong request.
        let _ = stream.write_all(&[&length[..], frame].concat());
    }
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
    assert!(serves(log), "the log answers no more");
}

/// Whether the log still says which requests it takes.
fn serves(log: &Log) -> bool {
    let mut stream = TcpStream::connect(log.addr()).expect("the log listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out that is not 0");
    stream.write_all(b"\0\0\0\x0a\0\x12\0\0\0\0\0\x07\xff\xff").expect("the log reads");
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).is_ok() && answer[4..] == [0, 0, 0, 7, 0, 0]
}

const TOPIC: &str = "t";
const TOPIC_ID: &str = "0123456789abcdef0123456789abcdef";
/// Bytes of a batch before those that its check sum covers, and where the check sum is.
const COVERED_FROM: usize = 21;
const CRC_AT: usize = 17;

/// The first byte says what the rest is: the journal, a segment, or a segment whose first batch gets the right check sum.
/// A log starts on it, serves, and starts again.
pub fn recovery(bytes: &[u8]) {
    let Some((which, content)) = bytes.split_first() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut journal, mut segment) = (journal(), Vec::new());
    match which % 3 {
        0 => journal = content.to_vec(),
        1 => segment = content.to_vec(),
        _ => {
            segment = content.to_vec();
            if segment.len() > COVERED_FROM {
                let crc = crc32c::crc32c(&segment[COVERED_FROM..]).to_be_bytes();
                segment[CRC_AT..COVERED_FROM].copy_from_slice(&crc);
            }
        }
    }
    let file = segment_file(folder.path());
    std::fs::create_dir_all(file.parent().expect("it lies in a folder")).expect("a folder can be made");
    std::fs::write(&file, segment).expect("a file can be written");
    std::fs::write(folder.path().join("journal"), journal).expect("a file can be written");
    for _ in 0..2 {
        let mut config = LogConfig::default();
        config.data = Some(folder.path().to_owned());
        let log = Log::start(config).expect("the log starts whatever its files hold");
        assert!(serves(&log), "the log does not serve");
    }
}

fn segment_file(folder: &Path) -> PathBuf {
    folder.join(format!("topics/{TOPIC}.{TOPIC_ID}/0/{:020}.log", 0))
}

/// A journal with one topic.
pub fn journal() -> Vec<u8> {
    let entries = [
        r#"{"Cluster":{"id":"c"}}"#.to_owned(),
        format!(r#"{{"Topic":{{"name":"{TOPIC}","id":"{TOPIC_ID}","partitions":1,"config":{{}}}}}}"#),
        r#"{"ProducerIds":{"next":1000}}"#.to_owned(),
    ];
    let entry = |json: &String| {
        let (length, crc) = (json.len() as u32, crc32c::crc32c(json.as_bytes()));
        [&length.to_be_bytes()[..], &crc.to_be_bytes(), json.as_bytes()].concat()
    };
    entries.iter().flat_map(entry).collect()
}
