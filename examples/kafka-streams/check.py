"""Checks the topic anomalies-per-minute against a recount of model-predictions: equal, and no count ever went back.

    python check.py            # waits until they are equal
    python check.py --begun    # waits until there is any count
"""

import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "python"))
import topics

TARGET = "anomalies-per-minute"
MINUTE_MS = 60_000


def recount(kafka: str, registry: str) -> Counter:
    """Anomalies per car and minute, as the program names them: CAR@2026-01-31T09:15:00Z."""
    decode, counts = topics.avro(topics.registry(registry)), Counter()
    for message in topics.read(kafka, topics.PREDICTIONS):
        if decode(message)["verdict"] == "ANOMALY":
            minute = message.timestamp()[1] // MINUTE_MS * MINUTE_MS
            start = datetime.fromtimestamp(minute / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            counts[f"{message.key().decode()}@{start}"] += 1
    return counts


def counted(kafka: str) -> Counter:
    """What the program counted: the last value of each key."""
    counts = Counter()
    for message in topics.read(kafka, TARGET):
        key, count = message.key().decode(), int(message.value())
        if count < counts[key]:
            sys.exit(f"the count of {key} went back from {counts[key]} to {count}")
        counts[key] = count
    return counts


def main() -> None:
    parser = topics.arguments(__doc__.splitlines()[0])
    parser.add_argument("--begun", action="store_true", help="wait until there is any count")
    options = parser.parse_args()
    if options.begun:
        topics.until(f"a first count in {TARGET}", lambda: topics.exists(options.kafka, TARGET) and counted(options.kafka))
        return
    expected = recount(options.kafka, options.registry)
    if not expected:
        sys.exit("there is no anomaly to count")
    found = {}

    def equal() -> bool:
        found["counts"] = counted(options.kafka)
        # More than there are is an error at once; fewer may still come.
        over = [key for key, count in found["counts"].items() if count > expected[key]]
        if over:
            key = over[0]
            sys.exit(f"{len(over)} counts are too high, such as {key}: {found['counts'][key]}, not {expected[key]}")
        return found["counts"] == expected

    topics.until(f"the counts of {sum(expected.values())} anomalies", equal)
    print(f"{sum(expected.values())} anomalies in {len(expected)} windows of a car and a minute: all counts equal a recount")


if __name__ == "__main__":
    main()
