"""Prints predictions with the readings they are of, from model-predictions and SENSOR_DATA_S_AVRO.

    python read.py                  # all there are
    python read.py --follow         # and those to come
    python read.py --anomalies      # only those above the threshold
"""

import datetime

import topics


def main() -> None:
    parser = topics.arguments(__doc__.splitlines()[0])
    parser.add_argument("--follow", action="store_true", help="go on with the predictions to come")
    parser.add_argument("--anomalies", action="store_true", help="only anomalies")
    options = parser.parse_args()
    decode = topics.avro(topics.registry(options.registry))
    try:
        for message in topics.read(options.kafka, topics.PREDICTIONS, follow=options.follow):
            prediction = decode(message)
            if options.anomalies and prediction["verdict"] != "ANOMALY":
                continue
            time = datetime.datetime.fromtimestamp(prediction["event_time"] / 1000, datetime.UTC)
            sensors = ", ".join(f"{it['sensor']} {it['share']:.0%}" for it in prediction["contributions"])
            print(
                f"{time:%H:%M:%S} {prediction['car']:<14} {prediction['verdict']:<8}"
                f" {prediction['score']:8.2f} (threshold {prediction['threshold']:.2f})"
                f" model {prediction['model_version']}: {sensors}"
            )
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
