#!/usr/bin/env bash
# Looks at a running pipeline with Kafka's own tools and checks what they show: records, groups, members, lag.
#
#   KAFKA=HOST:PORT check.sh WORKERS        both groups at the end of their topics, the scorer's with so many members
#   KAFKA=HOST:PORT check.sh --behind MANY  the scorer's group at least so many readings behind
#
# What is asked here works as it stands in a shell: deploy/local/kafka-tool.sh consumer-groups --bootstrap-server ... --describe ...
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
server=${KAFKA:-localhost:9092}

tool() { "$root/deploy/local/kafka-tool.sh" "$1" --bootstrap-server "$server" "${@:2}"; }

# The lines on group $1, of which the rest of the command says more; as they are, or nothing while the group moves.
describe() { tool consumer-groups --describe --group "$@" 2>/dev/null | awk -v group="$1" '$1 == group' || true; }

# Waits until `$2...`, which prints what it has seen, succeeds; prints that.
until_holds() {
    local what=$1 seen deadline=$((SECONDS + 300))
    shift
    until seen=$("$@"); do
        if ((SECONDS >= deadline)); then
            printf 'error: waited 300 s in vain: %s. The last that was seen:\n%s\n' "$what" "$seen" >&2
            return 1
        fi
        sleep 1
    done
    echo "$seen"
}

listed() { tool consumer-groups --list 2>/dev/null | awk '/^telltale-(preprocessor|scorer)$/ { print; found++ } END { exit found != 2 }'; }

# Columns: GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID. A topic that transactions write
# ends with a marker: no record, but an offset that nobody reads past, so a lag of 1 per partition is none.
caught_up() { # group, most lag
    describe "$1" | awk -v most="$2" '{ print } $6 !~ /^[0-9]+$/ || $6 > most || $7 == "-" { behind = 1 } END { exit behind || NR == 0 }'
}

behind() { describe telltale-scorer | awk -v least="$1" '{ print; lag += $6 } END { exit lag < least }'; }

stable() { describe telltale-scorer --state | awk '{ print } / Stable / { holds = 1 } END { exit !holds }'; }

members() { describe telltale-scorer --members --verbose | awk -v wanted="$1" '{ print } END { exit NR != wanted }'; }

# Records of committed transactions, with time stamp, header and key.
predictions() {
    tool console-consumer --topic model-predictions --from-beginning --max-messages 5 --timeout-ms 120000 \
        --command-property isolation.level=read_committed --formatter-property print.value=false \
        --formatter-property print.timestamp=true --formatter-property print.headers=true --formatter-property print.key=true |
        awk '{ print } /^CreateTime:[0-9]+\tsrc:SENSOR_DATA_S_AVRO-[0-9]+-[0-9]+[^\t]*\t[^\t]+$/ { good++ } END { exit good != 5 }'
}

if [[ ${1:-} == --behind ]]; then
    until_holds "the scorer is $2 readings behind" behind "$2"
    echo "Kafka's tools show that the scorer is at least $2 readings behind"
    exit
fi
until_holds "5 predictions with time stamp, header src and the car as key" predictions
until_holds "both groups are listed" listed
until_holds "the preprocessor is at the end of sensor-data" caught_up telltale-preprocessor 0
until_holds "the scorer is at the end of SENSOR_DATA_S_AVRO" caught_up telltale-scorer 1
until_holds "the scorer's group is stable" stable
until_holds "the scorer's group has $1 members" members "$1"
echo "Kafka's tools show 5 predictions, both groups at the end of their topics, and the scorer's $1 members"
