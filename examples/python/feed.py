"""Feeds readings to the topic sensor-data, as JSON and as Confluent Avro.

    python feed.py --cars 3 --readings 10

Nothing needs to be registered by hand: Confluent's serializer registers the schema under `sensor-data-value` with the
first reading it writes, and the preprocessor takes schemas from that subject.
"""

import json
import random
import sys
import time
from pathlib import Path

from confluent_kafka import Producer
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

import topics

# What devices of the first generation send; neither car nor time, which are the message's key and time stamp.
SCHEMA = Path(__file__).parents[2] / "schemas" / "cardata-v1.avsc"

TYPICAL = {
    "coolant_temp": 74.9,
    "intake_air_temp": 34.1,
    "intake_air_flow_speed": 7.1,
    "battery_percentage": 80.4,
    "battery_voltage": 376.8,
    "current_draw": 2.3,
    "speed": 1.6,
    "engine_vibration_amplitude": 0.6,
    "throttle_pos": 30.6,
    "tire_pressure11": 243,
    "tire_pressure12": 243,
    "tire_pressure21": 255,
    "tire_pressure22": 255,
    "accelerometer11_value": 0.14,
    "accelerometer12_value": 0.13,
    "accelerometer21_value": 0.2,
    "accelerometer22_value": 0.21,
    "control_unit_firmware": 2000,
    "failure_occurred": "false",
}


def reading(draw: random.Random) -> dict:
    """A reading somewhere around the typical one."""
    around = {float: lambda value: value * draw.uniform(0.9, 1.1), int: lambda value: value, str: lambda value: value}
    return {name: around[type(value)](value) for name, value in TYPICAL.items()}


def main() -> None:
    parser = topics.arguments(__doc__.splitlines()[0])
    parser.add_argument("--cars", type=int, default=3, help="cars of each format")
    parser.add_argument("--readings", type=int, default=10, help="readings of each car")
    parser.add_argument("--prefix", default="py", help="beginning of the cars' names")
    parser.add_argument("--sent", type=Path, metavar="FILE", help="file that is told what was sent and where it is")
    options = parser.parse_args()

    serialize = AvroSerializer(topics.registry(options.registry), SCHEMA.read_text())
    context = SerializationContext(topics.READINGS, MessageField.VALUE)
    producer = Producer(
        {
            "bootstrap.servers": options.kafka,
            "enable.idempotence": True,
            # The partitioner of Java clients and of Telltale; librdkafka's own would put a car elsewhere.
            "partitioner": "murmur2_random",
        }
    )
    draw = random.Random(7)
    sent, refused = [], []

    def delivered(of: str, values: dict):
        def report(error, message):
            if error is not None:
                refused.append(str(error))
                return
            time_ms = message.timestamp()[1]
            place = {"partition": message.partition(), "offset": message.offset(), "event_time": time_ms}
            sent.append({"format": of, "car": message.key().decode(), **place, "values": values})

        return report

    now = int(time.time() * 1000)
    for index in range(options.readings):
        for car in range(1, options.cars + 1):
            time_ms = now + index * 10
            values = reading(draw)
            name = f"{options.prefix}-json-{car}"
            text = json.dumps({**values, "car": name, "event_time": time_ms})
            producer.produce(topics.READINGS, text, name, timestamp=time_ms, on_delivery=delivered("json", values))
            values = reading(draw)
            name = f"{options.prefix}-avro-{car}"
            data = serialize(values, context)
            producer.produce(topics.READINGS, data, name, timestamp=time_ms, on_delivery=delivered("avro", values))
        producer.poll(0)
    producer.flush(60)
    if options.sent:
        options.sent.write_text("".join(json.dumps(it) + "\n" for it in sent))
    print(f"{len(sent)} readings are in {topics.READINGS}, half as JSON, half as Avro")
    if refused or len(sent) != 2 * options.cars * options.readings:
        sys.exit(f"not delivered: {refused or 'no report came within 60 s'}")


if __name__ == "__main__":
    main()
