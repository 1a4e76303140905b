"""Makes of the model that scorers have in force one that ONNX Runtime reads: docs/MODEL_FORMAT.md says what it computes.

The peer knows readings without gaps only, so what the format says of missing values is left out, in the peer's favour. The
result is held against the model's own golden rows. The signature is not looked at: the bench made the model a moment ago.
"""

import argparse
import json

import numpy as np
import onnx
from confluent_kafka import Consumer, TopicPartition
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

SLOTS = 8
# "TTC1" and the SHA-256 of the whole before each chunk.
CHUNK_HEADER = 36
# As much as our own loader allows.
TOLERANCE = 1e-2


def newest(kafka, topic):
    """The newest value of each key."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "peer-model", "enable.auto.commit": False,
                         "isolation.level": "read_committed", "enable.partition.eof": True})
    found = {}
    for partition in consumer.list_topics(topic, timeout=30).topics[topic].partitions:
        low, _ = consumer.get_watermark_offsets(TopicPartition(topic, partition))
        consumer.assign([TopicPartition(topic, partition, low)])
        while True:
            message = consumer.poll(30)
            assert message is not None, f"no answer about {topic}"
            if message.error():
                break
            found[message.key().decode()] = message.value()
    consumer.close()
    return found


def artifact(records, name):
    """What the model says of itself, and its tensors."""
    manifest = json.loads(json.loads(records[name])["manifest"])
    keys = [f"{name}/{manifest['version'] % SLOTS}/{index}" for index in range(manifest["chunks"])]
    whole = b"".join(records[it][CHUNK_HEADER:] for it in keys)
    end = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:end])
    about = json.loads(header.pop("__metadata__")["telltale"])
    tensors = {}
    for tensor, it in header.items():
        begin, until = it["data_offsets"]
        tensors[tensor] = np.frombuffer(whole[end + begin : end + until], "<f4").reshape(it["shape"])
    return about, tensors


def graph(about, tensors):
    """From raw rows to scores."""
    features = about["specification"]["features"]
    assert all(it["transform"] == "none" for it in features), "a transformation that this does not know"
    clips = {it["clip"] for it in features}
    scales = tensors["normaliser.scales"]
    assert len(clips) == 1 and scales.all(), "clips differ or a column is constant"
    (clip,) = clips
    constants = {"least": np.float32(-clip), "most": np.float32(clip), "centres": tensors["normaliser.centres"], "scales": scales}
    nodes = [("Sub", ["row", "centres"], "centred"), ("Div", ["centred", "scales"], "scaled"),
             ("Clip", ["scaled", "least", "most"], "input")]
    hidden, last = "input", len(about["config"]["hidden"])
    for index in range(last + 1):
        weights, bias = f"layer{index}.weights", f"layer{index}.bias"
        constants |= {weights: tensors[weights], bias: tensors[bias]}
        nodes.append(("Gemm", [hidden, weights, bias], f"sum{index}"))
        hidden = f"sum{index}"
        if index < last:
            nodes.append(("Tanh", [hidden], f"hidden{index}"))
            hidden = f"hidden{index}"
    for name in ("shortcut.weights", "whitening.weights", "whitening.bias"):
        constants[name] = tensors[name]
    nodes += [("Gemm", ["input", "shortcut.weights", hidden], "output"), ("Sub", ["input", "output"], "residual"),
              ("Gemm", ["residual", "whitening.weights", "whitening.bias"], "units"), ("Mul", ["units", "units"], "squares"),
              ("ReduceMean", ["squares"], "score")]
    more = {"Gemm": {"transB": 1}, "ReduceMean": {"axes": [1], "keepdims": 0}}
    return helper.make_graph(
        [helper.make_node(kind, inputs, [output], **more.get(kind, {})) for kind, inputs, output in nodes],
        "autoencoder",
        [helper.make_tensor_value_info("row", TensorProto.FLOAT, ["rows", len(features)])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True)
    asked = parser.parse_args()

    about, tensors = artifact(newest(asked.kafka, "models"), asked.model)
    # Opset 13 still has the axes of a mean as an attribute; its reader need not be new.
    model = helper.make_model(graph(about, tensors), opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    columns = ",".join(it["column"] for it in about["specification"]["features"])
    helper.set_model_props(model, {"columns": columns, "threshold": repr(about["threshold"])})
    onnx.checker.check_model(model)
    whole = ~np.isnan(tensors["golden.rows"]).any(axis=1)
    rows, expected = tensors["golden.rows"][whole], tensors["golden.scores"][whole]
    (found,) = ReferenceEvaluator(model).run(None, {"row": rows})
    off = np.abs(found - expected) / (1 + expected)
    assert whole.sum() > 4 and off.max() < TOLERANCE, f"{whole.sum()} golden rows, off by {off}"
    onnx.save(model, asked.out)
    print(f"{asked.out}: {whole.sum()} golden rows, off by {off.max():.1e} at most")


if __name__ == "__main__":
    main()
