"""Checks telltale_model.py against the test vector of the format, testdata/golden/autoencoder-format1.json.

The fleet of the demo is linear, so a model's layers add next to nothing there; this model bends, has every transformation,
scale and clip, and its rows lack values. It needs no pipeline: begin with it when you write a reader in another language.
"""

import json
import sys
from pathlib import Path

import numpy as np

import telltale_model

VECTOR = Path(__file__).parents[2] / "testdata" / "golden" / "autoencoder-format1.json"
TOLERANCE = 1e-4


def main() -> None:
    golden = json.loads(VECTOR.read_text())
    records = {it["key"]: bytes.fromhex(it["value"]) for it in golden["records"]}
    manifest = telltale_model.verified(records[golden["name"]], golden["verifying_key"].encode())
    model = telltale_model.unpack(manifest, telltale_model.assemble(manifest, records))
    scores, shares = telltale_model.score(model, np.array(golden["rows"], dtype=np.float64))
    off = np.abs(scores - golden["scores"]) / (1 + np.abs(golden["scores"]))
    if not off.max() <= TOLERANCE:
        sys.exit(f"row {off.argmax()} scores {scores[off.argmax()]}, not {golden['scores'][off.argmax()]}")
    for row, contributions in enumerate(golden["contributions"]):
        for feature, share in contributions:
            # Where fewer than three features contribute, the rest are 0 and name no feature.
            if share > 0 and not abs(shares[row, feature] - share) <= TOLERANCE:
                sys.exit(f"row {row}: feature {feature} has a share of {shares[row, feature]}, not {share}")
    print(f"test vector: {len(scores)} rows, furthest off is {off.max():.1e}")


if __name__ == "__main__":
    main()
