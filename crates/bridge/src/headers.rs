//! What the headers of a record tell of the message it was.

use telltale_mqtt::subscriber::Message;
use telltale_records::Rejection;
use telltale_records::dead_letter::{DETAIL_HEADER, REASON_HEADER, SERVICE_HEADER};
use telltale_records::source::SOURCE_HEADER;

/// MQTT topic of the message, where the key does not tell it.
pub(crate) const TOPIC: &str = "mqtt-topic";
/// `1` where the broker had kept the message from before the bridge subscribed.
const RETAINED: &str = "mqtt-retained";
/// `1` where the broker had sent the message before: it may be a second copy.
const DUPLICATE: &str = "mqtt-duplicate";
/// Kafka topic that a dead letter did not get into.
const TARGET: &str = "target";
/// Which part of a dead letter this is, where it is larger than the topic takes.
const PART: &str = "part";

/// User properties of one message that become headers, and the bytes of their names and values.
const MOST_PROPERTIES: usize = 16;
const MOST_BYTES: usize = 4096;

/// Headers that mean something to other services: a device may not set them.
const RESERVED: [&str; 9] =
    [SOURCE_HEADER, REASON_HEADER, DETAIL_HEADER, SERVICE_HEADER, TOPIC, RETAINED, DUPLICATE, TARGET, PART];

type Headers<'a> = Vec<(&'a str, &'a [u8])>;

/// The headers of a record, and how many user properties did not fit.
///
/// Names that mean something to other services, and properties beyond the bounds, are left out.
pub(crate) fn of_record<'a>(message: &'a Message, topic: Option<&'a str>) -> (Headers<'a>, u64) {
    let mut headers = Vec::new(); // takes no memory while it is empty, as it mostly is
    headers.extend(topic.map(|it| (TOPIC, it.as_bytes())));
    if message.retain {
        headers.push((RETAINED, b"1"));
    }
    if message.duplicate {
        headers.push((DUPLICATE, b"1"));
    }
    let (mut count, mut bytes, mut dropped) = (0, 0, 0);
    for (name, value) in &message.user_properties {
        let size = name.len() + value.len();
        if RESERVED.contains(&name.as_str()) || count == MOST_PROPERTIES || bytes + size > MOST_BYTES {
            dropped += 1;
            continue;
        }
        (count, bytes) = (count + 1, bytes + size);
        headers.push((name, value.as_bytes()));
    }
    (headers, dropped)
}

/// The headers of a dead letter; `part` says which part it is, empty for a whole one.
pub(crate) fn of_dead_letter<'a>(
    message: &'a Message,
    topic: &'a str,
    target: &'a str,
    rejection: &'a Rejection,
    part: &'a str,
) -> Headers<'a> {
    let (mut headers, _) = of_record(message, Some(topic));
    headers.extend(rejection.headers().map(|(name, value)| (name, value.as_bytes())));
    headers.push((TARGET, target.as_bytes()));
    if !part.is_empty() {
        headers.push((PART, part.as_bytes()));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use telltale_mqtt::Qos;
    use telltale_records::Reason;

    fn message(user_properties: Vec<(String, String)>) -> Message {
        Message {
            topic: "cars/1".into(),
            payload: "x".into(),
            qos: Qos::AtLeastOnce,
            retain: false,
            duplicate: true,
            user_properties,
            receipt: None,
        }
    }

    #[test]
    fn user_properties_become_headers_within_bounds_and_never_reserved_names() {
        let mut properties: Vec<_> = (0..20).map(|it| (format!("p{it}"), "v".to_owned())).collect();
        properties.insert(0, ("src".into(), "forged-0-1".into()));
        properties.insert(0, ("traceparent".into(), "00-1-2-01".into()));
        properties.insert(0, ("large".into(), "v".repeat(5000)));
        let message = message(properties);
        let (headers, dropped) = of_record(&message, None);
        assert_eq!(headers[0], (DUPLICATE, &b"1"[..]));
        assert_eq!(headers[1], ("traceparent", &b"00-1-2-01"[..]));
        assert_eq!((headers.len(), dropped), (1 + MOST_PROPERTIES, 2 + 5));
        assert!(headers.iter().all(|(name, _)| *name != "src" && *name != "large"));
    }

    #[test]
    fn a_dead_letter_says_where_it_came_from_where_it_went_and_why() {
        let rejection = Rejection { reason: Reason::TooLarge, detail: "why".into(), service: "bridge" };
        let message = message(Vec::new());
        let headers = of_dead_letter(&message, "cars/1", "readings", &rejection, "2 of 3");
        let expected: [(&str, &[u8]); 7] = [
            (TOPIC, b"cars/1"),
            (DUPLICATE, b"1"),
            ("reason", b"too-large"),
            ("detail", b"why"),
            ("service", b"bridge"),
            (TARGET, b"readings"),
            (PART, b"2 of 3"),
        ];
        assert_eq!(headers, expected);
    }
}
