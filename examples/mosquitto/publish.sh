#!/usr/bin/env bash
# Publishes readings of one car with Mosquitto's clients, and shows them as a subscriber sees them.
#
#   MQTT=HOST:PORT publish.sh CAR [FILE]     FILE is told what was sent, for examples/python/check_fed.py
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
car=$1 file=${2:-/dev/null}
server=${MQTT:-localhost:1883}
reading=$(tr -d '\n' <"$root/crates/telltale/src/probe-reading.json")
topic=vehicles/sensor/data/$car
to=(-h "${server%:*}" -p "${server##*:}" -q 1 -t "$topic")

for program in mosquitto_pub mosquitto_sub; do
    if ! command -v "$program" >/dev/null; then
        echo "error: missing: $program. Debian, Ubuntu: apt-get install mosquitto-clients. Fedora: dnf install mosquitto." \
            "macOS: brew install mosquitto" >&2
        exit 1
    fi
done

# A session that outlives its connection (-c, -x): subscribed now (-E ends once that is acknowledged), read at the end.
session=("${to[@]}" -V mqttv5 -c -i "look-$car" -x 300)
mosquitto_sub "${session[@]}" -E

now=$(date +%s)
: >"$file"
for index in 1 2 3; do
    version=$( ((index % 2)) && echo mqttv5 || echo mqttv311)
    time=$((now * 1000 + index))
    mosquitto_pub "${to[@]}" -V "$version" -m "${reading%\}}, \"car\": \"$car\", \"event_time\": $time}"
    echo "{\"format\": \"mosquitto\", \"car\": \"$car\", \"event_time\": $time, \"values\": $reading}" >>"$file"
done
mosquitto_sub "${session[@]}" -C 3 -W 120
