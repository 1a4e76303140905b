//! How many messages were dropped: told on a topic of the broker itself, where mosquitto tells it, too.

use tracing::warn;

use super::Hub;
use crate::mqtt::index::SessionKey;
use crate::mqtt::packet::Publish;
use crate::mqtt::write::Message;

/// Topic of the number of messages dropped since the broker started, a decimal number, retained.
pub(super) const TOPIC: &str = "$SYS/broker/publish/messages/dropped";

impl Hub {
    /// Counts messages that a session does not get.
    pub(super) fn count_dropped(&mut self, key: SessionKey, count: u64, reason: &'static str) {
        let Some(session) = self.sessions.get_mut(&key).filter(|_| count > 0) else { return };
        if session.dropped == 0 {
            warn!(client_id = session.client_id, reason, "dropping messages");
        }
        session.dropped += count;
        self.dropped += count;
    }

    /// Tells the number of dropped messages, if it has changed since it was told last.
    pub(crate) fn tell_dropped(&mut self) {
        if self.told == Some(self.dropped) {
            return;
        }
        self.told = Some(self.dropped);
        let payload = self.dropped.to_string();
        let publish = Publish {
            qos: 0,
            retain: true,
            packet_id: 0,
            topic: TOPIC,
            properties: &[],
            expiry: None,
            payload: payload.as_bytes(),
        };
        // A message of QoS 0 is never held back.
        self.offer(None, &Message::from_publish(&publish));
    }
}
