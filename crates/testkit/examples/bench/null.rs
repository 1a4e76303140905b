//! The bare way of receiving: rumqttc alone, which acknowledges and throws away.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use rumqttc::{NetworkOptions, Outgoing};
use telltale_mqtt::config::Address;

use crate::bare::Meter;

/// Longest silence of the broker.
const SILENCE: Duration = Duration::from_secs(60);

/// Receives messages.
#[derive(Debug, Args)]
pub(crate) struct Receive {
    #[arg(long)]
    mqtt: Address,
    #[arg(long)]
    client_id: String,
    #[arg(long)]
    filter: String,
    /// Messages to receive; 0 only makes the session, so that the broker holds messages for it
    #[arg(long, default_value = "0")]
    messages: u64,
}

impl Receive {
    /// Receives so many messages and prints the figures.
    pub(crate) fn run(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (client, mut events) = self.connect();
            client.subscribe(self.filter.clone(), QoS::AtLeastOnce).await?;
            let mut meter = Meter::new(self.messages);
            let mut subscribed = false;
            while !(subscribed && self.messages == 0) {
                match next(&mut events).await? {
                    Event::Incoming(Packet::SubAck(_)) => subscribed = true,
                    Event::Incoming(Packet::Publish(_)) if meter.add()? == self.messages => break,
                    _ => {}
                }
            }
            if self.messages > 0 {
                meter.print()?;
            }
            client.disconnect().await?;
            while !matches!(next(&mut events).await?, Event::Outgoing(Outgoing::Disconnect)) {}
            Ok(())
        })
    }

    /// A client with the window and the socket of the bridge.
    fn connect(&self) -> (AsyncClient, EventLoop) {
        let mut options = MqttOptions::new(&self.client_id, &self.mqtt.host, self.mqtt.port);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options
            .set_clean_start(false)
            .set_session_expiry_interval(Some(600))
            .set_receive_maximum(Some(1000))
            .set_network_options(network);
        options.set_outgoing_inflight_upper_limit(20);
        AsyncClient::new(options, 100)
    }
}

async fn next(events: &mut EventLoop) -> Result<Event> {
    match tokio::time::timeout(SILENCE, events.poll()).await {
        Ok(event) => event.context("following the broker"),
        Err(_) => bail!("nothing from the broker for {SILENCE:?}"),
    }
}
