#!/usr/bin/env bash
# What make up says when something is wrong: each message must name what, where and what to do. A part of `make test-engines`.
#
# Works in a folder of its own; the jars are those of a folder where make up ran before: test-messages.sh [FOLDER]
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
jars=$(realpath "${1:-target/engines}/jars")
scratch=$(mktemp -d)
engines=$here/engines.sh
listener=''
checked=0
failures=0

finish() {
    [[ -z $listener ]] || kill "$listener"
    "$engines" down --dir "$scratch/up" >/dev/null 2>&1 || true
    rm -rf "$scratch"
}
trap finish EXIT

# says NAME PATTERN COMMAND...: the command must fail and its output hold the pattern.
says() {
    local name=$1 pattern=$2 output
    shift 2
    checked=$((checked + 1))
    if output=$("$@" 2>&1); then
        output="it was accepted: $output"
    elif grep -qE -- "$pattern" <<<"$output"; then
        printf 'ok      %s\n' "$name"
        return
    fi
    failures=$((failures + 1))
    printf 'FAILED  %s (expected: %s)\n' "$name" "$pattern"
    printf '%s\n' "$output" | sed 's/^/        /'
}

# A folder like that of make up, with the jars that are there.
folder() {
    "$engines" down --dir "$scratch/up" >/dev/null
    rm -rf "$scratch/up"
    mkdir -p "$scratch/up"
    ln -s "$jars" "$scratch/up/jars"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# Ports that nobody uses; those that follow are taken by controllers and the registry's management.
base=$(free_port)
((base < 65000)) || base=$((base - 1000))
up() {
    "$engines" up --dir "$scratch/up" --kafka-port "$base" --registry-port $((base + 10)) --mqtt-port $((base + 20)) \
        --websocket-port $((base + 21)) --timeout 120 "$@"
}

# A JDK search that finds only what is listed, since the usual folders of this machine cannot be hidden.
with_jdks() {
    local homes=$1
    (
        # shellcheck source=lib/process.sh
        . "$here/lib/process.sh"
        # shellcheck source=lib/java.sh
        . "$here/lib/java.sh"
        java_homes() { printf '%s' "$homes"; }
        java_home 21 "Apicurio Registry"
    )
}

folder
mkdir -p "$scratch/jdk17/bin"
printf 'JAVA_VERSION="17.0.9"\n' >"$scratch/jdk17/release"
printf '#!/bin/sh\n' | tee "$scratch/jdk17/bin/java" >"$scratch/jdk17/bin/javac"
chmod +x "$scratch"/jdk17/bin/*
says "no JDK" 'needs a JDK of version 21 or newer \(found: none;.*apt-get install openjdk' with_jdks ''
says "wrong JDK" 'needs a JDK of version 21 or newer \(found: 17;.*apt-get install openjdk' with_jdks "$scratch/jdk17"$'\n'

says "two brokers" '2 Kafka brokers were asked for: 1 and 3 are possible' up --kafka 2
says "no such option" 'unknown option --brokers; see: engines.sh help' up --brokers 3
says "a port that is none" 'port 70000 is not a number from 1 to 65530' up --mqtt-port 70000
says "one port twice" "two engines were given the same port: $base" up --mqtt-port "$base"
says "a user without a password" 'user car has no password: --mqtt-password-file' up --mqtt-user car
says "SECURITY=maybe" '--security maybe is neither on nor off' up --security maybe
says "a user beside SECURITY" 'with SECURITY=on every program has a user of its own' up --security on --mqtt-user car

python3 -c 'import socket, sys, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("127.0.0.1", int(sys.argv[1]))); s.listen(); time.sleep(600)' \
    $((base + 20)) &
listener=$!
until (: </dev/tcp/127.0.0.1/$((base + 20))) 2>/dev/null; do sleep 0.1; done
says "port taken" "port $((base + 20)), wanted by hivemq, is taken by a process that is not ours: end it .* or choose another port" up
kill "$listener"
wait "$listener" 2>/dev/null || true
listener=''

folder
mkdir -p "$scratch/up/data"
echo "Apache Kafka 3.9.0, 1 node(s)" >"$scratch/up/data/kafka-1.layout"
says "data of another version" 'holds the data of: Apache Kafka 3.9.0, 1 node\(s\); asked for: Apache Kafka .* or remove it: rm -r' up
echo "$(sed -n 's/^KAFKA_VERSION=/Apache Kafka /p' "$here/lib/kafka.sh"), 1 node(s)" >"$scratch/up/data/kafka-1.layout"
says "SECURITY on plain data" 'holds the data of: .*, 1 node\(s\); asked for: .*, SECURITY=on' up --security on
says "three brokers on the data of one" 'holds the data of: .* 1 node\(s\); asked for: .* 3 node\(s\)' up --kafka 3

folder
cp -r "$here" "$scratch/local"
sed -i.old '1s/^......../00000000/' "$scratch/local/registry/SHA256SUMS"
rm "$scratch/up/jars"
mkdir "$scratch/up/jars"
ln -s "$jars"/kafka "$jars"/kafka.SHA256SUMS "$jars"/kafka-classes "$jars"/hivemq "$jars"/hivemq.SHA256SUMS "$scratch/up/jars/"
engines=$scratch/local/engines.sh
says "checksum mismatch" 'what Maven brought for registry differs from .*/registry/SHA256SUMS .*; nothing was started' up
engines=$here/engines.sh

folder
mkdir -p "$scratch/up/data/kafka-1/log"
printf 'version=1\ncluster.id=another\nnode.id=7\n' >"$scratch/up/data/kafka-1/log/meta.properties"
says "engine dying at start" 'kafka-1 ended while it started \(above: from .*kafka-1.log\); what else was started still runs, make down ends it' up

if ((failures > 0)); then
    echo "messages: $((checked - failures)) of $checked hold"
    exit 1
fi
echo "messages: $checked of $checked hold"
