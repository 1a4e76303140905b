"""A device that publishes readings by MQTT, with Eclipse Paho, while a second client looks on.

    python device.py --mqtt localhost:1883 --car my-car

The broker acknowledges a reading (PUBACK); the bridge acknowledges its copy to the broker once Kafka has it.
"""

import argparse
import json
import os
import queue
import random
import time
from pathlib import Path

import paho.mqtt.client as mqtt

from feed import reading

WAIT_SECONDS = 60


def connect(server: str, protocol: int) -> mqtt.Client:
    """A client that is connected to `server` and reads in a thread of its own."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=protocol)
    connected: queue.Queue = queue.Queue()
    client.on_connect = lambda _client, _data, _flags, reason, _properties: connected.put(reason)
    host, port = server.rsplit(":", 1)
    client.connect(host, int(port))
    client.loop_start()
    reason = connected.get(timeout=WAIT_SECONDS)
    if reason.is_failure:
        raise SystemExit(f"the broker at {server} refuses: {reason}")
    return client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mqtt", default=os.environ.get("MQTT", "localhost:1883"), metavar="HOST:PORT")
    parser.add_argument("--car", default="paho-1", help="name of the car")
    parser.add_argument("--readings", type=int, default=10)
    parser.add_argument("--v3", action="store_true", help="speak MQTT 3.1.1 instead of 5")
    parser.add_argument("--sent", type=Path, metavar="FILE", help="file that is told what was sent, for check_fed.py")
    options = parser.parse_args()
    protocol = mqtt.MQTTv311 if options.v3 else mqtt.MQTTv5
    topic = f"vehicles/sensor/data/{options.car}"

    seen: queue.Queue = queue.Queue()
    watcher, subscribed = connect(options.mqtt, protocol), queue.Queue()
    watcher.on_message = lambda _client, _data, message: seen.put(message)
    watcher.on_subscribe = lambda _client, _data, _id, reasons, _properties: subscribed.put(reasons)
    watcher.subscribe(topic, qos=1)
    if subscribed.get(timeout=WAIT_SECONDS)[0].is_failure:
        raise SystemExit(f"the broker refuses a subscription to {topic}")

    device, draw, sent = connect(options.mqtt, protocol), random.Random(11), []
    now = int(time.time() * 1000)
    for index in range(options.readings):
        values, time_ms = reading(draw), now + index * 10
        text = json.dumps({**values, "car": options.car, "event_time": time_ms})
        # QoS 1: it is delivered once the broker has answered with PUBACK.
        device.publish(topic, text, qos=1).wait_for_publish(WAIT_SECONDS)
        sent.append({"format": "paho", "car": options.car, "event_time": time_ms, "values": values})

    for one in sent:
        came = json.loads(seen.get(timeout=WAIT_SECONDS).payload)
        if came["event_time"] != one["event_time"]:
            raise SystemExit(f"the watcher saw {came}, not {one}")
    for client in (device, watcher):
        client.disconnect()
        client.loop_stop()
    if options.sent:
        options.sent.write_text("".join(json.dumps(it) + "\n" for it in sent))
    print(f"{len(sent)} readings were acknowledged, and seen by a subscriber in order (MQTT {'3.1.1' if options.v3 else '5'})")


if __name__ == "__main__":
    main()
