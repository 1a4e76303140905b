"""Checks what became of the readings that feed.py or device.py sent: each has one clean reading and one prediction.

    python feed.py --sent sent.jsonl && python check_fed.py sent.jsonl

Values must be equal to the bit: JSON numbers as they are, Avro's `float` as the 32 bits that were written.
"""

import json
import struct
import sys
from collections import Counter
from pathlib import Path

import topics


def main() -> None:
    parser = topics.arguments(__doc__.splitlines()[0])
    parser.add_argument("sent", type=Path, nargs="+", help="files that --sent wrote")
    options = parser.parse_args()
    sent = [json.loads(line) for file in options.sent for line in file.read_text().splitlines()]
    cars = {it["car"] for it in sent}
    decode = topics.avro(topics.registry(options.registry))

    def ours(topic: str) -> list[tuple]:
        """Messages of our cars: header src, place, time stamp, value."""
        found = []
        for message in topics.read(options.kafka, topic):
            if message.key() and message.key().decode() in cars:
                place = f"{topic}-{message.partition()}-{message.offset()}"
                found.append((topics.header(message, "src"), place, message.timestamp()[1], decode(message)))
        return found

    def predicted() -> list[tuple]:
        found = ours(topics.PREDICTIONS)
        return found if len(found) >= len(sent) else []

    predictions = topics.until(f"{len(sent)} predictions of the cars that were fed", predicted)
    clean = ours(topics.CLEAN)
    problems = compare(sent, clean, predictions)
    for problem in problems[:10]:
        print(problem, file=sys.stderr)
    if problems:
        sys.exit(f"{len(problems)} problems with {len(sent)} readings")
    anomalies = sum(value["verdict"] == "ANOMALY" for *_, value in predictions)
    formats = ", ".join(f"{count} {name}" for name, count in sorted(Counter(it["format"] for it in sent).items()))
    print(f"{len(sent)} readings ({formats}): one clean reading and one prediction each, values equal, {anomalies} anomalies")


def compare(sent: list[dict], clean: list[tuple], predictions: list[tuple]) -> list[str]:
    """What is not as it should be."""
    problems = []
    for what, found in (("clean readings", clean), ("predictions", predictions)):
        if len(found) != len(sent):
            problems.append(f"{len(found)} {what} of {len(sent)} readings")
        twice = [src for src, count in Counter(src for src, *_ in found).items() if count > 1]
        problems += [f"{src} has several {what}" for src in twice]
    by_time = {(value["CAR"], value["EVENT_TIME"]): it for it in clean if (value := it[3])}
    of_clean = {src: it for it in predictions if (src := it[0])}
    for one in sent:
        name = f"{one['car']} at {one['event_time']}"
        src, place, time_ms, value = by_time.get((one["car"], one["event_time"]), (None, None, None, None))
        if value is None:
            problems.append(f"{name}: no clean reading")
            continue
        if "offset" in one and src != f"{topics.READINGS}-{one['partition']}-{one['offset']}":
            problems.append(f"{name}: the clean reading says it came from {src}")
        if time_ms != one["event_time"]:
            problems.append(f"{name}: the clean reading has the time stamp {time_ms}")
        for field, was in one["values"].items():
            if one["format"] == "avro" and isinstance(was, float):
                (was,) = struct.unpack("f", struct.pack("f", was))
            if value[field.upper()] != was:
                problems.append(f"{name}: {field} was {was}, is {value[field.upper()]}")
        if place not in of_clean:
            problems.append(f"{name}: no prediction for {place}")
            continue
        _, _, time_ms, prediction = of_clean[place]
        is_anomaly = prediction["score"] > prediction["threshold"]
        expected = {
            "car": one["car"],
            "event_time": one["event_time"],
            "verdict": "ANOMALY" if is_anomaly else "NORMAL",
            "source": place,
        }
        source = f"{topics.CLEAN}-{prediction['source_partition']}-{prediction['source_offset']}"
        given = {**prediction, "source": source}
        problems += [f"{name}: {key} is {given[key]}, not {it}" for key, it in expected.items() if given[key] != it]
        if time_ms != one["event_time"] or len(prediction["contributions"]) != 3:
            problems.append(f"{name}: time stamp {time_ms}, contributions {prediction['contributions']}")
    return problems


if __name__ == "__main__":
    main()
