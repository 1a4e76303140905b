"""How the programs of this folder reach Kafka and the schema registry, and read a topic as committed."""

import argparse
import os
import time
from collections.abc import Iterator

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

READINGS = "sensor-data"
CLEAN = "SENSOR_DATA_S_AVRO"
PREDICTIONS = "model-predictions"


def arguments(description: str) -> argparse.ArgumentParser:
    """The settings all programs share; as with Telltale's own, a flag or an environment variable."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--kafka", default=os.environ.get("KAFKA", "localhost:9092"), metavar="HOST:PORT")
    parser.add_argument("--registry", default=os.environ.get("REGISTRY", "http://localhost:8081"), metavar="URL")
    return parser


def registry(url: str) -> SchemaRegistryClient:
    """A client of the schema registry at `url`. Without a time-out one lost answer would hold the program for ever; calls are repeated."""
    return SchemaRegistryClient({"url": url, "timeout": 10})


def avro(client: SchemaRegistryClient):
    """Decodes the Avro value of a message, with the schema it was written with."""
    deserialize = AvroDeserializer(client)
    return lambda message: deserialize(message.value(), SerializationContext(message.topic(), MessageField.VALUE))


def header(message: Message, name: str) -> str | None:
    """The value of a header as text."""
    return next((value.decode() for key, value in message.headers() or [] if key == name), None)


def read(kafka: str, topic: str, *, follow: bool = False) -> Iterator[Message]:
    """Yields the committed messages of `topic`: to where it ends now or, with `follow`, as they come.

    Partitions are assigned rather than subscribed to, so that a look at a topic joins no group and commits nothing.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": "unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            # What an aborted transaction wrote is not there. This is librdkafka's default, and not Java's.
            "isolation.level": "read_committed",
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        if not partitions:
            raise SystemExit(f"topic {topic} is not there: telltale topics create makes it")
        consumer.assign([TopicPartition(topic, it, OFFSET_BEGINNING) for it in partitions])
        unfinished = set(partitions)
        while follow or unfinished:
            message = consumer.poll(1.0)
            if message is None:
                continue
            if message.error() is None:
                yield message
            elif message.error().code() == KafkaError._PARTITION_EOF:
                unfinished.discard(message.partition())
            else:
                raise KafkaException(message.error())
    finally:
        consumer.close()


def exists(kafka: str, topic: str) -> bool:
    """Whether there is such a topic."""
    return topic in AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=30).topics


def until(what: str, holds, seconds: float = 180.0):
    """Asks `holds` until it gives something, and gives that; after `seconds` the program ends with `what`."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.5)
    return found
