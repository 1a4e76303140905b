"""Checks the documents in MongoDB against the topic model-predictions: one each, all fields equal."""

import os
import sys
from pathlib import Path

import pymongo

sys.path.append(str(Path(__file__).parents[1] / "python"))
import topics


def main() -> None:
    parser = topics.arguments(__doc__)
    parser.add_argument("--mongodb", default=os.environ.get("MONGODB", "mongodb://localhost:27017"), metavar="URI")
    options = parser.parse_args()
    decode = topics.avro(topics.registry(options.registry))
    expected = {}
    for message in topics.read(options.kafka, topics.PREDICTIONS):
        prediction = decode(message)
        expected[prediction["source_partition"], prediction["source_offset"]] = prediction
    documents = pymongo.MongoClient(options.mongodb).telltale.predictions
    topics.until(f"{len(expected)} documents", lambda: documents.count_documents({}) >= len(expected))
    found = {(it["source_partition"], it["source_offset"]): it for it in documents.find({}, {"_id": False})}
    count = documents.count_documents({})
    if count != len(expected) or found != expected:
        wrong = [place for place, it in expected.items() if found.get(place) != it]
        example = f", such as {found.get(wrong[0])}, not {expected[wrong[0]]}" if wrong else ""
        sys.exit(f"{count} documents of {len(expected)} predictions, {len(wrong)} differ{example}")
    print(f"{count} documents, one for each prediction, all fields equal")


if __name__ == "__main__":
    main()
