#!/usr/bin/env bash
# Runs the tests that hold on real engines against Apache Kafka, HiveMQ and Apicurio Registry; `make test-engines`.
#
#   build ─▶ make up (own folder, free ports) ─▶ each part, one after the other ─▶ make down ─▶ a line for each part
#
# A part that fails does not stop the next; engines are ended in any case, also on Ctrl-C.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cargo=${CARGO:-cargo}

# name | what it runs. Tests of the workspace find the engines by TELLTALE_TEST_ENGINES and run one by one, since they share the
# topics of the design: tests CRATE FILE [FILTER]. Whatever else runs here ends with a line `NAME: N of N hold`. Scaling comes
# first: it wants the topics of the design empty.
parts() {
    cat <<'TEXT'
scaling      | scaling
engines      | tests testkit engines
kafka        | tests testkit kafka
mqtt         | tests testkit mqtt
registry     | tests testkit registry
calls        | tests testkit points
preprocessor | tests preprocessor service
kill-sql     | tests preprocessor points
trainer      | tests trainer service
kill-trainer | tests trainer killed
scorer       | tests scorer service
kill-scorer  | tests scorer points
alerts       | tests scorer alerts
bridge       | tests bridge service
kill-bridge  | tests bridge points
sessions     | tests bridge sessions
processes    | tests telltale processes
load         | tests telltale load
dead-letters | tests telltale dead_letters
poison       | tests telltale poison
models       | tests telltale models
verify       | tests telltale verify
demo         | tests telltale demo a_demo_loses_and_doubles_nothing_and_says_so
soak         | tests telltale soak
examples     | examples
messages     | messages
secured      | secured
crash        | crash
TEXT
}

usage() {
    cat <<'TEXT'
usage: test-engines.sh [--dir FOLDER] [PART]...
  --dir FOLDER  where the engines lie (target/test-engines); without PART every part runs:
TEXT
    parts | sed 's/^/    /'
}

fail() {
    echo "error: $*" >&2
    exit 2
}

# Ports below those that the system hands out by itself, from one that depends on the folder, each free now.
free_ports() {
    local port=$((20000 + $(printf '%s' "$dir" | cksum | cut -d ' ' -f 1) % 8000)) found=()
    while ((${#found[@]} < 12)); do
        if ! (: </dev/tcp/127.0.0.1/$port) 2>/dev/null; then found+=("$port"); else found=(); fi
        port=$((port + 1))
    done
    first_port=${found[0]}
}

up() {
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    # A run that was killed leaves its engines and what they kept, perhaps as a crash left it.
    "$here/engines.sh" down --dir "$dir"
    rm -rf "$dir/data"
    free_ports
    # The jars of `make up` are the same, and checked again by their sums.
    if [[ ! -d $dir/jars && -d $root/target/engines/jars ]]; then cp -r "$root/target/engines/jars" "$dir/jars"; fi
    "$here/engines.sh" up --dir "$dir" --kafka-port "$first_port" --registry-port $((first_port + 6)) \
        --mqtt-port $((first_port + 8)) --websocket-port $((first_port + 9))
}

# shellcheck disable=SC2317 # called by the trap
# Data of a test run is of no use afterwards.
down() {
    local code=$?
    trap '' INT TERM
    "$here/engines.sh" down --dir "$dir" || code=1
    rm -rf "$dir/data"
    exit "$code"
}

# Compiles everything before the engines take processor and memory. The whole workspace, as `make test` does: a single package
# would select other features of the dependencies and compile them again.
build() {
    mkdir -p "$dir"
    "$cargo" build --release --workspace --bins --tests
    "$cargo" build --release --workspace --tests --message-format=json 2>/dev/null | grep '"executable":"' >"$dir/tests.json"
}

# shellcheck disable=SC2317 # named by the parts
# tests CRATE FILE [FILTER]
tests() {
    local binary
    binary=$(sed -n "s|.*crates/$1/Cargo.toml.*\"kind\":\[\"test\"\].*\"name\":\"$2\".*\"executable\":\"\([^\"]*\)\".*|\1|p" "$dir/tests.json")
    [[ -n $binary ]] || fail "crate $1 has no tests/$2.rs"
    shift 2
    (cd "$root" && TELLTALE_TEST_ENGINES=$dir "$binary" --test-threads=1 "$@")
}

# The tests before leave topics that keep records for ever; users' clients meet those that `telltale topics create` makes.
# shellcheck disable=SC2317 # named by the parts
examples() {
    ENGINES_DIR=$dir "$here/kafka-tool.sh" topics --bootstrap-server "127.0.0.1:$first_port" --delete --if-exists --topic '[^_].*'
    "$root/examples/run.sh" --engines "$dir"
}

# shellcheck disable=SC2317 # named by the parts
scaling() { "$here/with-engines.sh" "$dir" "$here/test-scaling.sh" --static --cars 100; }

# shellcheck disable=SC2317 # named by the parts
messages() { "$here/test-messages.sh" "$dir"; }

# shellcheck disable=SC2317 # named by the parts
secured() { JARS=$dir/jars "$here/test-secured.sh"; }

# shellcheck disable=SC2317 # named by the parts
crash() { JARS=$dir/jars "$here/test-crash.sh"; }

# Runs one part, shows what it prints, and keeps its closing lines.
run() {
    local name=$1 began=$SECONDS code=0 log=$dir/logs/test-$1.log
    shift
    echo "── $name"
    "$@" </dev/null 2>&1 | tee "$log" || code=1
    local closing
    closing=$(grep -E '^(test result:|[a-z-]+: [0-9]+ of [0-9]+)' "$log" | sed 's/; 0 ignored; 0 measured//' | paste -s -d ' ' -) || true
    summary+=("$(printf '%-13s %-4s %4d s  %s' "$name" "$([[ $code == 0 ]] && echo ok || echo FAIL)" $((SECONDS - began)) "$closing")")
    ((code == 0)) || failed=1
}

main() {
    dir=$root/target/test-engines
    local wanted=() name command
    while (($# > 0)); do
        case $1 in
            --dir)
                (($# > 1)) || fail "--dir has no value"
                dir=$2
                shift
                ;;
            help | --help)
                usage
                exit
                ;;
            *)
                parts | grep -q "^$1 " || fail "there is no part $1; there are: $(parts | cut -d ' ' -f 1 | paste -s -d ' ' -)"
                wanted+=("$1")
                ;;
        esac
        shift
    done
    cd "$root"
    summary=() failed=0
    build
    trap down EXIT
    trap 'exit 130' INT TERM
    local began=$SECONDS
    up
    summary+=("$(printf '%-13s %-4s %4d s' engines-start ok $((SECONDS - began)))")
    while IFS='|' read -r name command; do
        name=${name%% *}
        if ((${#wanted[@]} == 0)) || [[ " ${wanted[*]} " == *" $name "* ]]; then
            # shellcheck disable=SC2086 # a part is a command and its words
            run "$name" $command
        fi
    done < <(parts)
    echo
    printf '%s\n' "${summary[@]}"
    echo "test-engines: $( ((failed)) && echo "some parts FAILED" || echo "all parts hold" ) in $((SECONDS - began)) s"
    exit "$failed"
}

main "$@"
