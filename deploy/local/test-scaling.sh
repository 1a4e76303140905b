#!/usr/bin/env bash
# Scales preprocessor and scorer 1 → 4 → 1 under load, as the chart does, and proves that each reading has one outcome.
#
#   fleet ─▶ bridge ─▶ preprocessor-0 … -3 ─▶ scorer-0 … -3 ─▶ telltale verify
#
# Processes stand for pods: each gets the environment that helm/telltale gives the pod of its name. Up: -1 to -3 start. On the
# way down -3 is stopped, -2 is killed and comes back under its name, then -2 and -1 are stopped. The engines must be there with
# empty topics: deploy/local/with-engines.sh FOLDER deploy/local/test-scaling.sh, or on `telltale engines`.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
telltale=${CARGO_TARGET_DIR:-$root/target}/release/telltale
usage="usage: test-scaling.sh [--static] [--cars COUNT] [--readings COUNT]
  --static    members of their groups keep their partitions over a restart (STATIC_MEMBER)
  --cars      cars of the fleet, a reading a second each (200)
  --readings  readings of each car (240)"

static=false cars=200 readings=240
while (($# > 0)); do
    case $1 in
        --static) static=true ;;
        --cars) cars=$2 && shift ;;
        --readings) readings=$2 && shift ;;
        *) echo "$usage" >&2 && exit 2 ;;
    esac
    shift
done
[[ -x $telltale ]] || { echo "$telltale is not there: make build" >&2 && exit 1; }

work=$(mktemp -d)
mkdir "$work/ledger"
declare -A pids
end_all() {
    local name
    for name in "${!pids[@]}"; do kill -KILL "${pids[$name]}" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap end_all EXIT
export LOG_FORMAT=human DRAIN_TIMEOUT=20s
began=$SECONDS
say() { printf '%4d s  %s\n' $((SECONDS - began)) "$*"; }

# start SERVICE NAME [VARIABLE=VALUE...]: as the pod of that name; its probes' address is in its log.
start() {
    local service=$1 name=$2
    shift 2
    : >"$work/$name.log"
    env HTTP_ADDRESS=127.0.0.1:0 IDENTITY="$name" "$@" "$telltale" "$service" >>"$work/$name.log" 2>&1 &
    pids[$name]=$!
}

fail() {
    say "$*" >&2
    for log in "$work"/*.log; do echo "--- ${log##*/}" >&2 && tail -n 5 "$log" >&2; done
    exit 1
}

# ready NAME: waits until /readyz says so, as long as the process lives.
ready() {
    local name=$1 address=''
    for _ in $(seq 1200); do
        kill -0 "${pids[$name]}" 2>/dev/null || fail "$name has ended"
        address=$(sed -n 's/.*serving.*address=\([0-9.:]*\).*/\1/p' "$work/$name.log" | sed 's/\x1b\[[0-9;]*m//g' | tail -n 1)
        [[ -n $address ]] && curl --silent --fail --max-time 5 "http://$address/readyz" >/dev/null && return
        sleep 0.25
    done
    fail "$name is not ready after 300 s"
}

# stop NAME: as the kubelet does; it must end by itself and with 0.
stop() {
    local code=0
    kill -TERM "${pids[$1]}"
    wait "${pids[$1]}" || code=$?
    unset "pids[$1]"
    ((code == 0)) || fail "$1 ended with $code after SIGTERM"
}

# Readings predicted so far: the outcome, not the clock, says when to go on.
predicted() { "$telltale" topics list | awk '$1 == "model-predictions" { gsub(",", "", $5); print $5 }'; }
more() {
    local wanted
    wanted=$(($(predicted) + $1))
    for _ in $(seq 600); do
        (($(predicted) >= wanted)) && return
        sleep 0.5
    done
    fail "no $1 further predictions within 300 s"
}

# What Kafka knows the pods by: each has transactional ids of its own and, as a static member, places of its own in the group.
identities() {
    local tool=$root/deploy/local/kafka-tool.sh expected ids members
    [[ -d ${ENGINES_DIR-}/jars/kafka ]] || { say "identities were not looked up: there are no tools of Kafka" && return; }
    expected=$(for it in "${services[@]}"; do printf '%s\n' "$it"-{0,1,2,3}; done)
    ids=$("$tool" transactions --bootstrap-server "$KAFKA" list | sed -nE 's/^((preprocessor|scorer)-[0-9])-[0-9]+ .*/\1/p' | sort -u)
    [[ $ids == "$expected" ]] || fail "transactional ids begin with: ${ids//$'\n'/ }"
    say "each has its transactional ids: ${ids//$'\n'/ }"
    [[ $static == true ]] || return 0
    members=$(for it in "${services[@]}"; do
        "$tool" consumer-groups --bootstrap-server "$KAFKA" --describe --members --group "telltale-$it" | grep -oE " $it-[0-9]-[0-9]+ "
    done | sort)
    [[ -z $(uniq --repeated <<<"$members") && $(sed -E 's/^ (.*)-[0-9]+ $/\1/' <<<"$members" | sort -u) == "$expected" ]] ||
        fail "group.instance.id: $members"
    say "each has its group.instance.id:${members//$'\n'/}"
}

"$telltale" topics create --partitions 4 >"$work/topics.log" || fail "topics could not be created"
"$telltale" keys generate --out "$work/keys" >/dev/null
export TRUSTED_KEY=$work/keys/verifying-key.pem SIGNING_KEY=$work/keys/signing-key.pem STATIC_MEMBER=$static
services=(preprocessor scorer)

start bridge bridge-0 MQTT_CLIENT_ID=bridge-0
start trainer trainer FIRST_ROWS=2000
for it in "${services[@]}"; do start "$it" "$it-0"; done
ready bridge-0
start simulator simulator-0 CARS="$cars" COUNT="$readings" LEDGER="$work/ledger/simulator-0.csv"
ready scorer-0
say "1 of each is ready, with a model"
more $((cars * 5))

for number in 1 2 3; do for it in "${services[@]}"; do start "$it" "$it-$number"; done; done
for number in 1 2 3; do for it in "${services[@]}"; do ready "$it-$number"; done; done
say "4 of each are ready"
identities
more $((cars * 10))

for it in "${services[@]}"; do stop "$it-3"; done
say "3 of each"
more $((cars * 5))
for it in "${services[@]}"; do
    kill -KILL "${pids[$it-2]}"
    wait "${pids[$it-2]}" 2>/dev/null || true
    start "$it" "$it-2"
done
for it in "${services[@]}"; do ready "$it-2"; done
say "-2 was killed and is back under its name"
more $((cars * 5))
for number in 2 1; do for it in "${services[@]}"; do stop "$it-$number"; done; done
say "1 of each again"

wait "${pids[simulator-0]}" || fail "the simulator failed"
unset "pids[simulator-0]"
say "the fleet has published all of it"
touch "$work/ledger/simulator-0.drained"

# Until nothing of sensor-data and of SENSOR_DATA_S_AVRO is on its way any more.
settled() {
    for _ in $(seq 300); do
        "$telltale" verify --ledger "$work/ledger" >"$work/verify.log" 2>&1 || return 1
        (($(grep -c ', 0 on their way' "$work/verify.log") == 2)) && return
        sleep 1
    done
    return 1
}
settled || fail "the records have no outcome each: $(cat "$work/verify.log")"
for it in "${services[@]}"; do stop "$it-0"; done
stop bridge-0
stop trainer
code=0
"$telltale" verify --drained --ledger "$work/ledger" || code=$?
held=$((code == 0 ? 1 : 0))
echo "scaling: $held of 1 hold: 1 → 4 → 1, $((cars * readings)) readings, static members $static, $((SECONDS - began)) s"
exit $code
