#!/usr/bin/env bash
# What engines of `make up` keep when all of them are killed, and Kafka in the midst of a commit. A part of `make test-engines`.
#
#   up ─▶ commit, subject, queued message ─▶ SIGKILL ─▶ the end of the commit is taken away ─▶ up ─▶ all is there
#
#   test-crash.sh [--security off]      JARS=FOLDER takes the jars of a folder where make up ran before
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
security=on
if [[ ${1-} == --security ]]; then security=$2; fi
folder=$PWD/target/test-crash
records=100
# shellcheck source=lib/own.sh
. "$here/lib/own.sh"

tool() { ENGINES_DIR=$folder "$here/kafka-tool.sh" "$@"; }

registry() {
    local login=()
    if [[ $security == on ]]; then login=(--config "$folder/data/security/registry.curl"); fi
    curl --silent --show-error --fail --max-time 30 ${login[@]+"${login[@]}"} "$@"
}

# Each with what it must print.
checked=0 failures=0
is() { # NAME EXPECTED COMMAND...
    local name=$1 expected=$2 found
    shift 2
    checked=$((checked + 1))
    found=$("$@" 2>&1) || true
    if [[ $found == "$expected" ]]; then
        printf 'ok      %s\n' "$name"
    else
        failures=$((failures + 1))
        printf 'FAILED  %s: expected %s, found %s\n' "$name" "$expected" "$found"
    fi
}

committed() {
    tool console-consumer --bootstrap-server "$KAFKA" --topic crash --from-beginning --isolation-level read_committed \
        --max-messages "$records" --timeout-ms 120000 2>/dev/null | grep -c .
}

subjects() { registry "$REGISTRY/subjects"; }

# Kafka's words where it takes a partition without a leader for a deleted one and calls the commit complete.
skipped() { grep -c "Couldn't find leader endpoint" "$folder/logs/kafka-1.log"; }

fenced() { grep -c 'Performing controller activation' "$folder/logs/kafka-1.fence.log"; }

kill_all() {
    local file pid
    for file in "$folder"/run/*.pid; do kill -KILL "$(<"$file")"; done
    for file in "$folder"/run/*.pid; do
        pid=$(<"$file")
        while [[ -r /proc/$pid/stat ]] && ! grep -q ') [ZX]' "/proc/$pid/stat"; do sleep 0.1; done
    done
}

rm -rf "$folder/logs"
up --security "$security"
set -a
# shellcheck source=/dev/null
. "$folder/run/clients.env"
set +a
tool topics --bootstrap-server "$KAFKA" --create --topic crash --partitions 1
tool producer-perf-test --bootstrap-server "$KAFKA" --topic crash --num-records "$records" --record-size 20 --throughput -1 \
    --transactional-id crash --transaction-duration-ms 600000
registry --output /dev/null --header 'Content-Type: application/json' --data '{"schema": "\"string\""}' \
    "$REGISTRY/subjects/crash/versions"
python3 "$here/crash.py" leave
kill_all
python3 "$here/crash.py" tear "$folder/data/kafka-1/log" crash
up --security "$security"
is "Kafka was fenced before it started" 1 fenced
is "no partition was without a leader while Kafka ended the commit" 0 skipped
is "a commit that had lost its end is whole" "$records" committed
is "the registry's subject is there" '["crash"]' subjects
is "the MQTT session and what waited in it are there" 'session found, message found' python3 "$here/crash.py" find

echo "crash: $((checked - failures)) of $checked hold"
((failures == 0))
