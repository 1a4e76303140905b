#!/usr/bin/env bash
# Installs the programs that `make bench-peers` measures beside ours, each pinned, into a folder of their own.
#
#   usage: install.sh [streams] [python] [telegraf] [mosquitto]      all of these if none is named
#          install.sh torch                                           PyTorch, 5 GB more
#   TELLTALE_PEERS is the folder [~/.cache/telltale/peers]: 1.5 GB. Needed: Java 17 and Maven; Python 3.11; Go; Debian's apt-get.
#   `streams` scores with what `python` makes of the model.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
into=${TELLTALE_PEERS:-$HOME/.cache/telltale/peers}
mkdir -p "$into"

streams() {
    mkdir -p "$into/streams"
    rm -rf "$into/streams/src" "$into/streams/target"
    cp -r "$here/streams/pom.xml" "$here/streams/src" "$into/streams"
    (cd "$into/streams" && mvn --batch-mode --quiet package)
}

python() {
    python3 -m venv "$into/python"
    "$into/python/bin/pip" install --quiet --requirement "$here/keras/requirements.txt"
}

torch() {
    python3 -m venv "$into/torch"
    "$into/torch/bin/pip" install --quiet --requirement "$here/torch/requirements.txt"
}

# With the plugins of its part alone: all of them would compile for half an hour.
telegraf() {
    GOBIN="$into/bin" go install -tags custom,inputs.mqtt_consumer,outputs.kafka,parsers.value,serializers.template \
        github.com/influxdata/telegraf/cmd/telegraf@v1.37.2
}

# Taken out of Debian's packages, not installed: no service is started.
mosquitto() {
    local folder
    folder=$(mktemp -d)
    (cd "$folder" && apt-get download mosquitto libdlt2 libcjson1 libmosquitto1 libwrap0)
    mkdir -p "$into/mosquitto"
    for package in "$folder"/*.deb; do
        dpkg-deb --extract "$package" "$into/mosquitto"
    done
    rm -r "$folder"
}

for peer in "${@:-all}"; do
    case $peer in
        all) streams && python && telegraf && mosquitto ;;
        streams | python | telegraf | mosquitto | torch) "$peer" ;;
        *) echo "install.sh: $peer is not known" >&2 && exit 2 ;;
    esac
done
