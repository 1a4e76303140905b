#!/usr/bin/env bash
# Telegraf in the place of our bridge: make soak ARGS="--bridge $PWD/crates/testkit/peers/telegraf.sh"; make bench-peers.
#
#   usage: telegraf.sh --mqtt HOST:PORT --kafka HOST:PORT
#       [--filter MQTT_FILTER] [--levels NAMES] [--topic KAFKA_TOPIC] [--client-id ID] [--program FILE]
#   --levels names the levels of the MQTT topic, the one that becomes the key `car`. TELEGRAF names the program too;
#   install.sh builds one.
set -euo pipefail

export FILTER='vehicles/sensor/data/+' LEVELS='_/_/_/car' TOPIC=sensor-data CLIENT_ID=soak-bridge
while (($#)); do
    case $1 in
        --mqtt) export MQTT=$2 ;;
        --kafka) export KAFKA=$2 ;;
        --filter) FILTER=$2 ;;
        --levels) LEVELS=$2 ;;
        --topic) TOPIC=$2 ;;
        --client-id) CLIENT_ID=$2 ;;
        --program) TELEGRAF=$2 ;;
        *) echo "telegraf.sh: $1 is not known" >&2 && exit 2 ;;
    esac
    shift 2
done
# In place of this shell: soak and bench know what they started by its id.
exec "${TELEGRAF:-telegraf}" --config "$(dirname "${BASH_SOURCE[0]}")/telegraf.conf"
