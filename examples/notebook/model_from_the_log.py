# %% [markdown]
# # A model from the log
#
# Models lie in the topic `models`: a signed manifest, and the model itself in chunks. This notebook reads one,
# checks signature and SHA-256, scores readings of `SENSOR_DATA_S_AVRO` with numpy, and compares with what the scorer
# wrote to `model-predictions` for the same readings.
#
# It needs a running pipeline and the key that the scorers trust. With `make demo ARGS="--data .telltale"` that is
# `.telltale/keys/verifying-key.pem`.

# %%
import json
import os
import sys
from pathlib import Path

import numpy as np

here = Path(__file__).parent if "__file__" in globals() else Path.cwd()
sys.path += [str(here), str(here.parent / "python")]
import telltale_model
import topics

KAFKA = os.environ.get("KAFKA", "localhost:9092")
REGISTRY = os.environ.get("REGISTRY", "http://localhost:8081")
MODEL = os.environ.get("MODEL", "cars")
VERIFYING_KEY = Path(os.environ.get("VERIFYING_KEY", ".telltale/keys/verifying-key.pem"))

# %% [markdown]
# ## The manifest, and whether to believe it
#
# `models` has the manifest of the model in force under the model's name, `models-audit` every one there ever was. For a
# moment after a new one the newest prediction is still of the one before, so the version is the one that scored last.

# %%
decode = topics.avro(topics.registry(REGISTRY))
predictions = {}
for message in topics.read(KAFKA, topics.PREDICTIONS):
    prediction = decode(message)
    if prediction["model_name"] == MODEL:
        predictions[prediction["source_partition"], prediction["source_offset"]] = prediction
if not predictions:
    sys.exit(f"no prediction by a model {MODEL} yet")
version = max(it["model_version"] for it in predictions.values())

trusted = VERIFYING_KEY.read_bytes()
signed, manifest = b"", {}
for message in topics.read(KAFKA, "models-audit"):
    if message.key() and message.key().decode() == MODEL and "signature" in json.loads(message.value()):
        found = telltale_model.verified(message.value(), trusted)
        if found["version"] == version:
            signed, manifest = message.value(), found
print(f"model {manifest['name']}, version {version}, of {manifest['rows']} readings, threshold {manifest['threshold']:.3f}")
print("learned from", ", ".join(f"{it['topic']}-{it['partition']} {it['from']}..{it['to']}" for it in manifest["ranges"]))

# %% [markdown]
# A manifest of which one letter was changed is refused, and so is one that another key signed.

# %%
try:
    telltale_model.verified(signed.replace(b'\\"version\\":', b'\\"Version\\":'), trusted)
except telltale_model.Refused as reason:
    print("changed:", reason)
else:
    sys.exit("a changed manifest was believed")

# %% [markdown]
# ## The model

# %%
# The topic is compacted: of each key, the newest record counts.
chunks = {message.key().decode(): message.value() for message in topics.read(KAFKA, "models") if message.value()}
artifact = telltale_model.assemble(manifest, chunks)
model = telltale_model.unpack(manifest, artifact)
for name, values in sorted(model.tensors.items()):
    print(f"{name:<20} {values.dtype} {values.shape}")

# %% [markdown]
# It carries 16 rows with the scores they had when it was made: whoever reads it knows at once whether he computes the same.

# %%
# How far a score may be off, relative to 1 + the score. The scorer computes with 32 bits and a rational tanh, this with 64.
TOLERANCE = 1e-4


def furthest(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to 1 + the score."""
    return float(np.max(np.abs(found - expected) / (1 + np.abs(expected))))


scores, _ = telltale_model.score(model, model.tensors["golden.rows"])
golden = furthest(scores, model.tensors["golden.scores"])
print(f"golden rows: furthest off is {golden:.1e}")
if not golden <= TOLERANCE:
    sys.exit(f"the golden rows' scores differ by up to {golden}, more than {TOLERANCE}")

# %% [markdown]
# ## Readings, and what the scorer said of them

# %%
readings = {}
for message in topics.read(KAFKA, topics.CLEAN):
    place = message.partition(), message.offset()
    if place in predictions and predictions[place]["model_version"] == version:
        readings[place] = decode(message)

places = sorted(readings)
rows = np.array([[readings[it][column] for column in model.columns] for it in places], dtype=np.float64)
scores, shares = telltale_model.score(model, rows)
theirs = np.array([predictions[it]["score"] for it in places])
off = furthest(scores, theirs)
print(f"{len(places)} readings: furthest off is {off:.1e}")
if not off <= TOLERANCE:
    sys.exit(f"scores differ by up to {off}, more than {TOLERANCE}")

# %% [markdown]
# The verdict is whether the score is above the threshold; the contributions are the largest shares.

# %%
threshold = model.about["threshold"]
clear = np.abs(theirs - threshold) > TOLERANCE * (1 + threshold)
verdicts = np.array([predictions[it]["verdict"] == "ANOMALY" for it in places])
if np.any((scores > threshold)[clear] != verdicts[clear]):
    sys.exit("a verdict differs")
for row, place in enumerate(places):
    for told in predictions[place]["contributions"]:
        share = shares[row, model.columns.index(told["sensor"])]
        # Where fewer than three sensors contribute, the rest are 0 and name none.
        if told["share"] > 0 and abs(share - told["share"]) > TOLERANCE:
            sys.exit(f"{place}: {told['sensor']} has a share of {share}, the scorer says {told['share']}")

worst = int(np.argmax(scores))
prediction = predictions[places[worst]]
print(f"the highest score: {prediction['car']}, {scores[worst]:.2f} here, {theirs[worst]:.2f} by the scorer")
for column, share in sorted(zip(model.columns, shares[worst], strict=True), key=lambda it: -it[1])[:5]:
    print(f"  {column:<28} {share:6.1%} {'#' * round(40 * share)}")

# %% [markdown]
# ## A picture, where matplotlib is installed

# %%
try:
    import matplotlib.pyplot as plt
except ImportError:
    print("no picture: matplotlib is not installed")
else:
    plt.hist(np.log10(scores[scores > 0]), bins=100)
    plt.axvline(np.log10(threshold), color="red", label="threshold")
    plt.xlabel("score, power of 10")
    plt.ylabel("readings")
    plt.legend()
    plt.show()
