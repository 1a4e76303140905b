//! The settings of a topic: the names, defaults and types of Kafka, and the values this log acts on.

use std::collections::BTreeMap;
use std::time::Duration;

/// Config types as `DescribeConfigs` numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Boolean = 1,
    Text = 2,
    Int = 3,
    Long = 5,
    Double = 6,
    List = 7,
}

/// A setting that a topic may have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    pub(crate) kind: Type,
    allowed: Allowed,
}

#[derive(Debug, Clone, Copy)]
enum Allowed {
    Any,
    AtLeast(i64),
    OneOf(&'static [&'static str]),
}

const fn known(name: &'static str, default: &'static str, kind: Type, allowed: Allowed) -> Known {
    Known { name, default, kind, allowed }
}

/// Every setting of Kafka 4.x, in its order of names. Those that only make sense with replicas, or that
/// tune Kafka's own files, are kept and shown without effect.
pub(crate) const KNOWN: &[Known] = &[
    known("cleanup.policy", "delete", Type::List, Allowed::OneOf(&["delete", "compact"])),
    known("compression.gzip.level", "-1", Type::Int, Allowed::AtLeast(-1)),
    known("compression.lz4.level", "9", Type::Int, Allowed::Any),
    known("compression.type", "producer", Type::Text, Allowed::OneOf(&["producer"])),
    known("compression.zstd.level", "3", Type::Int, Allowed::Any),
    known("delete.retention.ms", "86400000", Type::Long, Allowed::AtLeast(0)),
    known("file.delete.delay.ms", "60000", Type::Long, Allowed::AtLeast(0)),
    known("flush.messages", "9223372036854775807", Type::Long, Allowed::AtLeast(1)),
    known("flush.ms", "9223372036854775807", Type::Long, Allowed::AtLeast(0)),
    known("follower.replication.throttled.replicas", "", Type::List, Allowed::Any),
    known("index.interval.bytes", "4096", Type::Int, Allowed::AtLeast(0)),
    known("leader.replication.throttled.replicas", "", Type::List, Allowed::Any),
    known("local.retention.bytes", "-2", Type::Long, Allowed::AtLeast(-2)),
    known("local.retention.ms", "-2", Type::Long, Allowed::AtLeast(-2)),
    known("max.compaction.lag.ms", "9223372036854775807", Type::Long, Allowed::AtLeast(1)),
    known("max.message.bytes", "1048588", Type::Int, Allowed::AtLeast(0)),
    known("message.timestamp.after.max.ms", "3600000", Type::Long, Allowed::AtLeast(0)),
    known("message.timestamp.before.max.ms", "9223372036854775807", Type::Long, Allowed::AtLeast(0)),
    known(
        "message.timestamp.type",
        "CreateTime",
        Type::Text,
        Allowed::OneOf(&["CreateTime", "LogAppendTime"]),
    ),
    known("min.cleanable.dirty.ratio", "0.5", Type::Double, Allowed::Any),
    known("min.compaction.lag.ms", "0", Type::Long, Allowed::AtLeast(0)),
    known("min.insync.replicas", "1", Type::Int, Allowed::AtLeast(1)),
    known("preallocate", "false", Type::Boolean, Allowed::OneOf(&["true", "false"])),
    known("remote.log.copy.disable", "false", Type::Boolean, Allowed::OneOf(&["true", "false"])),
    known("remote.log.delete.on.disable", "false", Type::Boolean, Allowed::OneOf(&["true", "false"])),
    known("remote.storage.enable", "false", Type::Boolean, Allowed::OneOf(&["false"])),
    known("retention.bytes", "-1", Type::Long, Allowed::AtLeast(-1)),
    known("retention.ms", "604800000", Type::Long, Allowed::AtLeast(-1)),
    known("segment.bytes", "67108864", Type::Int, Allowed::AtLeast(1 << 20)),
    known("segment.index.bytes", "10485760", Type::Int, Allowed::AtLeast(4)),
    known("segment.jitter.ms", "0", Type::Long, Allowed::AtLeast(0)),
    known("segment.ms", "604800000", Type::Long, Allowed::AtLeast(1)),
    known("unclean.leader.election.enable", "false", Type::Boolean, Allowed::OneOf(&["true", "false"])),
];

/// Takes the place of `segment.bytes`, without its lower limit, for tests; hidden, as in Kafka.
const INTERNAL: Known = known("internal.segment.bytes", "", Type::Int, Allowed::AtLeast(14));

/// A topic's settings: what was set, and what follows for the log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TopicConfig {
    /// What differs from the defaults, by name.
    pub(crate) set: BTreeMap<String, String>,
    pub(crate) compacts: bool,
    pub(crate) deletes: bool,
    pub(crate) delete_retention: Duration,
    pub(crate) max_message_bytes: usize,
    pub(crate) log_append_time: bool,
    pub(crate) min_cleanable_dirty_ratio: f64,
    pub(crate) min_compaction_lag_ms: i64,
    pub(crate) max_compaction_lag_ms: i64,
    /// How far time stamps may be ahead of the log's clock, and behind it.
    pub(crate) timestamp_after_max_ms: i64,
    pub(crate) timestamp_before_max_ms: i64,
    /// `None` keeps everything.
    pub(crate) retention_bytes: Option<u64>,
    /// `None` keeps everything.
    pub(crate) retention_ms: Option<i64>,
    pub(crate) segment_bytes: u64,
    pub(crate) segment_ms: i64,
}

impl Default for TopicConfig {
    fn default() -> Self {
        Self::parse(BTreeMap::new()).expect("the defaults are valid")
    }
}

impl TopicConfig {
    /// Checks the settings of a topic.
    ///
    /// # Errors
    ///
    /// Says which setting is unknown or has a value it cannot have.
    pub(crate) fn parse(set: BTreeMap<String, String>) -> Result<Self, String> {
        for (name, value) in &set {
            let known = KNOWN
                .iter()
                .chain([&INTERNAL])
                .find(|it| it.name == name)
                .ok_or_else(|| format!("Unknown topic config name: {name}"))?;
            check(known, value)?;
        }
        let text = |name: &str| {
            let default = || KNOWN.iter().find(|it| it.name == name).map_or("", |it| it.default);
            set.get(name).map_or_else(default, String::as_str).trim()
        };
        let number = |name: &str| text(name).parse::<i64>().unwrap_or(i64::MAX);
        let unless_negative = |value: i64| (value >= 0).then_some(value);
        let policy = text("cleanup.policy");
        Ok(Self {
            compacts: policy.split(',').any(|it| it.trim() == "compact"),
            deletes: policy.split(',').any(|it| it.trim() == "delete"),
            delete_retention: Duration::from_millis(number("delete.retention.ms").unsigned_abs()),
            max_message_bytes: number("max.message.bytes") as usize,
            log_append_time: text("message.timestamp.type") == "LogAppendTime",
            min_cleanable_dirty_ratio: text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
            min_compaction_lag_ms: number("min.compaction.lag.ms"),
            max_compaction_lag_ms: number("max.compaction.lag.ms"),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms"),
            timestamp_before_max_ms: number("message.timestamp.before.max.ms"),
            retention_bytes: unless_negative(number("retention.bytes")).map(|it| it as u64),
            retention_ms: unless_negative(number("retention.ms")),
            segment_bytes: match set.get(INTERNAL.name) {
                Some(value) => value.trim().parse().unwrap_or(u64::MAX),
                None => number("segment.bytes") as u64,
            },
            segment_ms: number("segment.ms"),
            set,
        })
    }
}

fn check(known: &Known, value: &str) -> Result<(), String> {
    let invalid = |why: &str| Err(format!("Invalid value {value} for configuration {}: {why}", known.name));
    let value = value.trim();
    match known.kind {
        Type::Int if value.parse::<i32>().is_err() => return invalid("Not a number of type INT"),
        Type::Long if value.parse::<i64>().is_err() => return invalid("Not a number of type LONG"),
        Type::Double if !value.parse::<f64>().is_ok_and(|it| (0.0..=1.0).contains(&it)) => {
            return invalid("Value must be between 0 and 1");
        }
        _ => {}
    }
    match known.allowed {
        Allowed::Any => Ok(()),
        Allowed::AtLeast(least) if value.parse::<i64>().is_ok_and(|it| it < least) => {
            invalid(&format!("Value must be at least {least}"))
        }
        Allowed::AtLeast(_) => Ok(()),
        Allowed::OneOf(values) if value.split(',').all(|it| values.contains(&it.trim())) => Ok(()),
        Allowed::OneOf(values) if known.name == "compression.type" => invalid(&format!(
            "this development log stores batches as they were sent, so it can only be {}",
            values[0]
        )),
        Allowed::OneOf(values) => invalid(&format!("String must be one of: {}", values.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(settings: &[(&str, &str)]) -> Result<TopicConfig, String> {
        TopicConfig::parse(
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        )
    }

    #[test]
    fn defaults_are_those_of_kafka() {
        let config = TopicConfig::default();
        assert!(config.deletes && !config.compacts && !config.log_append_time);
        assert_eq!(config.retention_ms, Some(7 * 24 * 3600 * 1000));
        assert_eq!(config.retention_bytes, None);
        assert_eq!(config.max_message_bytes, 1_048_588);
    }

    #[test]
    fn values_are_checked_and_errors_name_the_setting() {
        let cases = [
            ("retention.ms", "-1", true),
            ("retention.ms", "-2", false),
            ("retention.ms", "soon", false),
            ("cleanup.policy", "compact,delete", true),
            ("cleanup.policy", "burn", false),
            ("compression.type", "zstd", false),
            ("min.cleanable.dirty.ratio", "0.01", true),
            ("min.cleanable.dirty.ratio", "2", false),
            ("segment.bytes", "4294967296", false),
            ("segment.bytes", "1048575", false),
            ("internal.segment.bytes", "200", true),
            ("remote.storage.enable", "true", false),
            ("no.such.setting", "1", false),
        ];
        for (name, value, good) in cases {
            let parsed = parse(&[(name, value)]);
            assert_eq!(parsed.is_ok(), good, "{name}={value}");
            if let Err(why) = parsed {
                assert!(why.contains(name), "{why}");
            }
        }
        let both = parse(&[("cleanup.policy", "compact, delete"), ("retention.ms", "-1")]).unwrap();
        assert!(both.compacts && both.deletes && both.retention_ms.is_none());
    }
}
