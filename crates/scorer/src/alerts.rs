//! Tells anomalies back by MQTT: best effort, after the prediction is committed, never in the way of scoring.

use std::sync::Arc;
use std::time::Duration;

use telltale_mqtt::device::{Event, Options, Publisher, open};
use telltale_mqtt::{Endpoint, Qos};
use telltale_records::prediction::{Contribution, Prediction};
use telltale_service::Service;
use tracing::{debug, info, warn};

use crate::Config;
use crate::metrics::Metrics;

/// Alerts that wait for the broker; later ones are dropped and counted.
const WINDOW: u16 = 1_000;

/// The session that alerts go out on; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Alerts {
    publisher: Publisher,
    metrics: Metrics,
}

/// One anomaly.
#[derive(Debug)]
pub(crate) struct Alert {
    topic: Arc<str>,
    payload: Vec<u8>,
}

#[derive(Debug, serde::Serialize)]
struct Payload<'a> {
    car: &'a str,
    event_time: i64,
    score: f64,
    threshold: f64,
    sensors: Vec<Sensor<'a>>,
    model_version: i64,
}

#[derive(Debug, serde::Serialize)]
struct Sensor<'a> {
    sensor: &'a str,
    share: f64,
}

impl Alert {
    pub(crate) fn new<'a>(prediction: &Prediction<'a, impl AsRef<[Contribution<'a>]>>) -> Self {
        let sensors = prediction.contributions.as_ref().iter();
        let payload = Payload {
            car: prediction.car,
            event_time: prediction.event_time,
            score: prediction.score,
            threshold: prediction.threshold,
            sensors: sensors.map(|it| Sensor { sensor: it.sensor, share: it.share }).collect(),
            model_version: prediction.model_version,
        };
        let payload = serde_json::to_vec(&payload).expect("text and numbers become JSON");
        Self { topic: format!("alerts/{}", prediction.car).into(), payload }
    }
}

impl Alerts {
    /// Starts the session; it connects in the background, again and again.
    pub(crate) fn start(endpoint: &Endpoint, config: &Config, metrics: &Metrics, service: &Service) -> Self {
        let id =
            config.mqtt.mqtt_client_id.clone().unwrap_or_else(|| format!("telltale-{}", config.identity));
        let (publisher, mut session) = open(endpoint, Options { window: WINDOW, ..Options::new(id) });
        let counted = metrics.clone();
        service.spawn("alerts", async move {
            while let Some(event) = session.next().await {
                match event {
                    Event::Connected { .. } => info!("connected to the broker of alerts"),
                    Event::Acknowledged { .. } => counted.alert("acknowledged"),
                    Event::Refused { reason, .. } => {
                        debug!(reason, "alert refused");
                        counted.alert("refused");
                    }
                    Event::Disconnected(fault) => warn!(%fault, "no connection to the broker of alerts"),
                    _ => {}
                }
            }
        });
        Self { publisher, metrics: metrics.clone() }
    }

    /// Sends `alert`, or drops it if too many wait.
    pub(crate) fn send(&self, alert: Alert) {
        if let Err(error) =
            self.publisher.publish(&alert.topic, Qos::AtLeastOnce, false, alert.payload.into())
        {
            debug!(topic = &*alert.topic, %error, "alert dropped");
            self.metrics.alert("dropped");
        }
    }

    /// Waits at most `limit` for what is on its way, then ends the session.
    pub(crate) fn stop(&self, limit: Duration) {
        let deadline = std::time::Instant::now() + limit;
        while self.publisher.is_connected()
            && self.publisher.unacknowledged() > 0
            && std::time::Instant::now() < deadline
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.publisher.close();
    }
}
