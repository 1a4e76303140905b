//! The engine under test, shared between tests that leave it running, and alone for those that restart it.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_protocol::messages::DeleteTopicsRequest;
use telltale_testkit::engines::{Engines, Kind};
use telltale_testkit::wire::{Client, topic_name};

/// The real engines are one set for all tests of this binary; nobody uses them while they are restarted.
static REAL: RwLock<()> = RwLock::new(());

/// An engine that a test may use as long as it holds this.
pub(crate) struct Kafka {
    engines: Engines,
    /// Topics to delete in the end: real engines are used again, and start more slowly the more they hold.
    topics: Mutex<Vec<String>>,
    _shared: Option<RwLockReadGuard<'static, ()>>,
    _alone: Option<RwLockWriteGuard<'static, ()>>,
}

/// The engine, which other tests may use at the same time.
pub(crate) fn kafka() -> Kafka {
    let shared = real().then(|| REAL.read().unwrap_or_else(PoisonError::into_inner));
    Kafka { engines: Engines::start(), topics: Mutex::default(), _shared: shared, _alone: None }
}

/// The engine with a data folder, for a test that restarts it.
pub(crate) fn kafka_alone() -> Kafka {
    let alone = real().then(|| REAL.write().unwrap_or_else(PoisonError::into_inner));
    Kafka { engines: Engines::with_data(), topics: Mutex::default(), _shared: None, _alone: alone }
}

/// The present time in ms, for records that must not be old.
pub(crate) fn now() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "engines compare a record's time stamp with the clock")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn real() -> bool {
    std::env::var_os("TELLTALE_TEST_ENGINES").is_some()
}

impl Kafka {
    /// A raw connection.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.servers())
    }

    /// A topic of one partition with a name of its own.
    pub(crate) fn topic(&self, what: &str, configs: &[(&str, &str)]) -> String {
        self.topic_of(what, 1, configs)
    }

    /// A topic with a name of its own, which keeps records of any age unless `configs` says otherwise.
    pub(crate) fn topic_of(&self, what: &str, partitions: i32, configs: &[(&str, &str)]) -> String {
        let mut all = vec![("retention.ms", "-1")];
        if configs.iter().any(|it| it.0 == "retention.ms") {
            all.clear();
        }
        all.extend_from_slice(configs);
        let name = self.name(what);
        self.connect().create_topic(&name, partitions, &all);
        self.topics.lock().unwrap().push(name.clone());
        name
    }

    /// Whether this is the embedded log, which differs from Kafka as docs/CONFORMANCE.md says.
    pub(crate) fn known_difference(&self, name: &str) -> bool {
        telltale_testkit::differences::known_difference(self.kind(), name)
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // A test that fails leaves what it has made to be looked at.
        if self.kind() == Kind::Real && !std::thread::panicking() {
            let topics = self.topics.lock().unwrap().iter().map(|it| topic_name(it)).collect();
            let request = DeleteTopicsRequest::default().with_topic_names(topics).with_timeout_ms(30_000);
            self.connect().call(5, &request);
        }
    }
}

impl Deref for Kafka {
    type Target = Engines;

    fn deref(&self) -> &Engines {
        &self.engines
    }
}

impl DerefMut for Kafka {
    fn deref_mut(&mut self) -> &mut Engines {
        &mut self.engines
    }
}
