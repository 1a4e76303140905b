//! A bridge as one writes it in an afternoon: it acknowledges each message as it comes and hands it to a Kafka producer with
//! its defaults, whose reports nobody reads. `make soak ARGS="--bridge naive"` puts it under the faults that ours is under.

use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};
use telltale_mqtt::config::Address;
use telltale_mqtt::subscriber::{Event, Options, open};
use telltale_mqtt::{Endpoint, Version};

/// Moves `vehicles/sensor/data/+` to `sensor-data`, naively.
#[derive(Debug, Parser)]
struct Settings {
    /// The MQTT broker
    #[arg(long)]
    mqtt: Address,
    /// Kafka
    #[arg(long)]
    kafka: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    let mut kafka = ClientConfig::new();
    kafka.set("bootstrap.servers", &settings.kafka).set("partitioner", "murmur2_random");
    let producer: ThreadedProducer<DefaultProducerContext> = kafka.create().context("making a producer")?;
    let options = Options {
        client_id: "soak-bridge".to_owned(),
        filters: vec!["vehicles/sensor/data/+".to_owned()],
        session_expiry: Duration::from_secs(7200),
        receive_maximum: 1000,
        max_packet_bytes: 1 << 20,
    };
    let (acks, mut session) = open(&Endpoint::plain(settings.mqtt, Version::V5), options);
    while let Some(event) = session.next().await.context("following the broker")? {
        match event {
            Event::Subscribed => eprintln!("subscribed"),
            Event::Message(message) => {
                if let Some(receipt) = message.receipt {
                    let _ = acks.acknowledge(receipt);
                }
                let topic = String::from_utf8_lossy(&message.topic);
                let key = topic.rsplit('/').next().unwrap_or_default();
                let _ = producer.send(BaseRecord::to("sensor-data").key(key).payload(&message.payload[..]));
            }
            _ => {}
        }
    }
    Ok(())
}
