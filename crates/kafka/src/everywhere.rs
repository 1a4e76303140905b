//! Waits until every broker knows a topic.
//!
//! Kafka says that a topic is created once its controller has it; the brokers hear of it a moment later, and until then
//! they tell a client that it does not exist.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::client::{Log, REQUEST, request};
use crate::config::KafkaConfig;
use crate::error::Error;

/// Between two times of asking.
const AGAIN: Duration = Duration::from_millis(100);

/// Returns once each of `brokers` knows each of `topics`. The brokers, as host:port, are asked for anew each time: one that
/// is gone holds nobody up for longer than the others take to notice.
///
/// # Errors
///
/// Returns which broker does not know which topic, or does not answer, when `patience` is over.
pub(crate) fn wait_until_known(
    kafka: &KafkaConfig,
    topics: &[&str],
    patience: Duration,
    brokers: impl Fn() -> Result<Vec<String>, Error>,
) -> Result<(), Error> {
    let deadline = Instant::now() + patience;
    loop {
        let asked = brokers()?.into_iter().try_for_each(|broker| ask(kafka, broker, topics, patience));
        if asked.is_ok() || Instant::now() >= deadline {
            return asked;
        }
        thread::sleep(AGAIN);
    }
}

/// Asks one broker. A client that knows no other and has just been made asks no other: it connects to those it hears of
/// only when it needs them.
fn ask(kafka: &KafkaConfig, broker: String, topics: &[&str], waited: Duration) -> Result<(), Error> {
    let alone = KafkaConfig { bootstrap: broker, ..kafka.clone() };
    let client: AdminClient<Log> = alone
        .client()?
        .create_with_context(Log::default())
        .map_err(|source| Error::Client { purpose: "topics", source })?;
    for topic in topics {
        let attempt = || format!("asking {} for topic {topic}", alone.bootstrap);
        let metadata =
            client.inner().fetch_metadata(Some(topic), REQUEST).map_err(request(&alone, attempt()))?;
        let found = metadata.topics().iter().find(|it| it.name() == *topic);
        match found.map(|it| it.error().map(RDKafkaErrorCode::from)) {
            Some(None) => {}
            // It has heard of the topic, and not yet of who leads it.
            None
            | Some(Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::LeaderNotAvailable,
            )) => {
                let (topic, broker) = ((*topic).to_owned(), alone.bootstrap);
                return Err(Error::TopicNotEverywhere { topic, broker, waited });
            }
            Some(Some(code)) => return Err(request(&alone, attempt())(KafkaError::MetadataFetch(code))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use telltale_embedded::log::{Log, LogConfig};
    use telltale_records::topics::{ALL, TopicSpec};

    use super::*;
    use crate::topics::Topics;

    #[test]
    fn waits_for_the_last_broker() {
        // Two brokers that never hear of each other's topics: one that knows them all, and one that lags as long as we like.
        let [first, last] =
            [Log::start(LogConfig::default()).unwrap(), Log::start(LogConfig::default()).unwrap()];
        let kafka = KafkaConfig::at(first.addr().to_string());
        let at_last = KafkaConfig::at(last.addr().to_string());
        Topics::open(&kafka).unwrap().create_all(1, 1).unwrap();
        let topics: Vec<_> = ALL.iter().map(|it| it.name).collect();
        let brokers = || Ok(vec![first.addr().to_string(), last.addr().to_string()]);

        let create = |specs: &[TopicSpec]| {
            specs.iter().for_each(|it| drop(Topics::open(&at_last).unwrap().create(it, 1, 1).unwrap()));
        };
        let (lagging, others) = ALL.split_last().unwrap();
        create(others);
        let error = wait_until_known(&kafka, &topics, Duration::ZERO, brokers).unwrap_err().to_string();
        let told = format!(
            "topic {} is created, but broker {} does not know it after 0ns",
            lagging.name,
            last.addr()
        );
        assert_eq!(error, told);

        thread::scope(|scope| {
            let waiting = scope.spawn(|| wait_until_known(&kafka, &topics, Duration::from_secs(60), brokers));
            create(std::slice::from_ref(lagging));
            waiting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_broker_that_is_gone_holds_nobody_up() {
        let log = Log::start(LogConfig::default()).unwrap();
        let kafka = KafkaConfig::at(log.addr().to_string());
        Topics::open(&kafka).unwrap().create_all(1, 1).unwrap();
        // Listed once more after its end, as a cluster does until it has noticed.
        let listed = std::cell::Cell::new(vec!["127.0.0.1:1".to_owned(), log.addr().to_string()]);
        let brokers = || Ok(listed.replace(vec![log.addr().to_string()]));
        wait_until_known(&kafka, &["models"], Duration::from_secs(60), brokers).unwrap();
    }
}
