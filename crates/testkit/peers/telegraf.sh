#!/usr/bin/env bash
# Telegraf in the place of our bridge: make soak ARGS="--bridge $PWD/crates/testkit/peers/telegraf.sh".
#
#   usage: telegraf.sh --mqtt HOST:PORT --kafka HOST:PORT
#   TELEGRAF names the program. Built for it alone: go install
#   -tags custom,inputs.mqtt_consumer,outputs.kafka,parsers.value,serializers.template github.com/influxdata/telegraf/cmd/telegraf@v1.37.2
set -euo pipefail

while (($#)); do
    case $1 in
        --mqtt) export MQTT=$2 ;;
        --kafka) export KAFKA=$2 ;;
        *) echo "telegraf.sh: $1 is not known" >&2 && exit 2 ;;
    esac
    shift 2
done
# In place of this shell: the soak ends what it started by its id.
exec "${TELEGRAF:-telegraf}" --config "$(dirname "${BASH_SOURCE[0]}")/telegraf.conf"
