"""Trains a dense autoencoder on the clean readings in Kafka, as a user of Keras does: the peer of our trainer.

--reader tensorflow-io: as the program that Telltale replaces did. KafkaDataset gives messages, decode_avro takes them one by one
(it refuses a batch), and every pass over the rows reads them from Kafka anew.
--reader fastavro: the same with a decoder of one's own, a Python function for each batch; still for rows beyond memory.
--reader array: the fastest that was found. A plain Kafka client and fastavro read the rows once into an array, and Keras fits
that, many steps a call of Python. One thread each: more of them took more CPU time for a row.

Says on two lines of JSON what reading took, and what reading and learning took together; rows count once a pass. TensorFlow's
start, the making of the model and a first fit of one batch, which compiles it, are over before a clock runs.
"""

import argparse
import io
import json
import os
import resource
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import fastavro
import numpy as np
import tensorflow as tf
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

# Confluent's header: a zero byte and the id of the schema.
HEADER = 5
# Steps between two returns to Python; twice to five times as many rows a CPU second as one.
STEPS_A_CALL = 32


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--schema", required=True)
    parser.add_argument("--reader", choices=["tensorflow-io", "fastavro", "array"], required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--hidden", default="24,12,24")
    return parser.parse_args()


def cpu_seconds():
    """Of this process and its children, user and system."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(it.ru_utime + it.ru_stime for it in used)


class Clock:
    """Runs from its making on."""

    def __init__(self):
        self.at, self.cpu = time.perf_counter(), cpu_seconds()

    def say(self, rows):
        """Says what the bench reads."""
        sample = {
            "records": rows,
            "seconds": time.perf_counter() - self.at,
            "cpu_seconds": cpu_seconds() - self.cpu,
            "peak_rss_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            "load": os.getloadavg()[0],
        }
        print(json.dumps(sample), flush=True)


def autoencoder(hidden, features, steps):
    """Of the shape of the trainer's: layers with tanh between them."""
    layers = [tf.keras.layers.Dense(width, "tanh") for width in hidden]
    model = tf.keras.Sequential([tf.keras.Input((features,)), *layers, tf.keras.layers.Dense(features)])
    model.compile(optimizer="adam", loss="mse", steps_per_execution=steps)
    return model


def partitions(asked):
    """Numbers of the topic's partitions."""
    client = Consumer({"bootstrap.servers": asked.kafka, "group.id": "peer-keras"})
    found = client.list_topics(asked.topic, timeout=30).topics[asked.topic].partitions
    client.close()
    return sorted(found)


def decoded(value, schema, columns):
    """The row in a message."""
    body = io.BytesIO(value)
    body.seek(HEADER)
    reading = fastavro.schemaless_reader(body, schema)
    return [reading[it] for it in columns]


def array(asked, schema, columns, rows):
    """The first rows, read once by fastavro."""
    consumer = Consumer({"bootstrap.servers": asked.kafka, "group.id": "peer-keras", "enable.auto.commit": False,
                         "isolation.level": "read_committed"})
    consumer.assign([TopicPartition(asked.topic, it, OFFSET_BEGINNING) for it in partitions(asked)])
    values = np.empty((rows, len(columns)), np.float32)
    read, deadline = 0, time.monotonic() + 300
    while read < rows:
        assert time.monotonic() < deadline, f"{read} of {rows} rows came in five minutes"
        for message in consumer.consume(min(10_000, rows - read), timeout=0.1):
            assert message.error() is None, message.error()
            values[read] = decoded(message.value(), schema, columns)
            read += 1
    consumer.close()
    return values


def dataset(asked, text, schema, columns, rows, scale):
    """The first rows by tensorflow-io's reader, and its decoder if asked, read anew whenever it is gone over."""
    import tensorflow_io as tfio
    from tensorflow_io.kafka import KafkaDataset

    def row(message):
        reading = tfio.experimental.serialization.decode_avro(tf.strings.substr(message, HEADER, -1), schema=text)
        return tf.stack([tf.cast(reading[it], tf.float32) for it in columns], axis=-1)

    def batch(messages):
        def values(batch):
            return np.array([decoded(it, schema, columns) for it in batch], np.float32)

        return tf.ensure_shape(tf.numpy_function(values, [messages], tf.float32), [None, len(columns)])

    # The last number is the offset to end at, which the documentation calls a length; -1 is the end of the partition.
    subscriptions = [f"{asked.topic}:{it}:0:-1" for it in partitions(asked)]
    messages = KafkaDataset(subscriptions, servers=asked.kafka, group="peer-tensorflow-io", eof=True)
    messages = messages.take(rows)
    rows = messages.map(row).batch(asked.batch) if asked.reader == "tensorflow-io" else messages.batch(asked.batch).map(batch)
    return rows.map(scale)


def main():
    asked = arguments()
    with open(asked.schema, encoding="utf-8") as file:
        text = file.read()
    fields = json.loads(text)["fields"]
    columns = [it["name"] for it in fields if it["type"][1] in ("double", "int")]
    schema = fastavro.parse_schema(json.loads(text))
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    steps = STEPS_A_CALL if asked.reader == "array" else 1
    model = autoencoder([int(it) for it in asked.hidden.split(",")], len(columns), steps)
    # What a fleet's columns are centred and scaled by is known to these users beforehand, and costs nothing here.
    sample = array(asked, schema, columns, 2_000)
    mean, deviation = sample.mean(axis=0), sample.std(axis=0) + 1e-6
    scale = lambda rows: (rows - mean) / deviation  # noqa: E731

    if asked.reader == "array":
        # As many steps as a call has, so that nothing is compiled later.
        first = np.resize(scale(sample), (steps * asked.batch, len(columns)))
        model.fit(first, first, batch_size=asked.batch, epochs=2, verbose=0)
        clock = Clock()
        rows = scale(array(asked, schema, columns, asked.rows))
        clock.say(asked.rows)
        history = model.fit(rows, rows, batch_size=asked.batch, epochs=asked.epochs, verbose=0)
    else:
        first = dataset(asked, text, schema, columns, asked.batch, scale)
        model.fit(first.map(lambda it: (it, it)), verbose=0)
        rows = dataset(asked, text, schema, columns, asked.rows, scale)
        reading = Clock()
        read = sum(int(it.shape[0]) for it in rows)
        assert read == asked.rows, f"{read} rows came, {asked.rows} were asked for"
        reading.say(read)
        clock = Clock()
        history = model.fit(rows.map(lambda it: (it, it)), epochs=asked.epochs, verbose=0)
    clock.say(asked.rows * asked.epochs)
    loss = history.history["loss"]
    assert loss[-1] < loss[0] or asked.epochs < 3, f"nothing was learned: {loss}"


if __name__ == "__main__":
    main()
