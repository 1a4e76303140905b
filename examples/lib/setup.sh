# shellcheck shell=bash disable=SC2154,SC2034 # run.sh, setup.sh and parts.sh are one program
# What the examples need before they can run: Python packages, engines, our services with a fleet and a model.

# Longest life of a process that is started here, in seconds; none is waited for so long.
LIFE=1800
started=()

# Starts `$@` beside us; its pid is kept and its output goes to the log of the name $1.
begin() {
    local name=$1 limit=()
    shift
    ! command -v timeout >/dev/null 2>&1 || limit=(timeout --kill-after=10 "$LIFE")
    "${limit[@]+"${limit[@]}"}" "$@" </dev/null >"$work/logs/$name.log" 2>&1 &
    started+=("$!")
}

# Ends process $1, which this shell started.
end() {
    kill -TERM "$1" 2>/dev/null || true
    # One that stands still (signal STOP) hears nothing else before.
    signal "$1" CONT 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

# Sends signal $2 to the program that `begin` started as process $1, which may be the `timeout` that bounds it.
signal() {
    local child
    child=$(pgrep -P "$1") || child=$1
    kill -"$2" "$child"
}

end_all() {
    local index
    for ((index = ${#started[@]} - 1; index >= 0; index--)); do end "${started[index]}"; done
}

# Waits until `$2...` succeeds; $1 says what was waited for.
await_that() {
    local what=$1 deadline=$((SECONDS + 300))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || die "waited 300 s in vain: $what (logs: $work/logs)"
        sleep 0.5
    done
}

prepare_python() {
    local list=$examples/requirements.txt venv=$work/python
    need python3 python3 python3 python3
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$(python3 --version) is older than 3.11, which the examples need"
    python=$venv/bin/python
    ! cmp -s "$list" "$venv/requirements.txt" || return 0
    echo "installing the Python packages of requirements.txt"
    rm -rf "$venv"
    python3 -m venv "$venv" >"$work/logs/venv.log" 2>&1 ||
        die "python3 -m venv failed ($work/logs/venv.log). Debian, Ubuntu: apt-get install python3-venv"
    "$venv/bin/pip" install --quiet --require-hashes --only-binary :all: --requirement "$list" ||
        die "installing the Python packages failed (above: what pip says); it needs PyPI or an index named in pip's own settings"
    cp "$list" "$venv/requirements.txt"
}

# Brings the files that $1/pom.xml and $1/SHA256SUMS pin into $work/jars/NAME and prints that folder.
bring() {
    # `fetch` of java.sh asks for these two.
    local here dir=$work
    here=$(dirname "$1")
    mkdir -p "$work/jars"
    fetch "$(basename "$1")" >&2
    echo "$work/jars/$(basename "$1")"
}

# Prints a port that is free now.
free_port() {
    "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

find_engines() {
    # Of a user's shell; they would reach the programs below.
    unset KAFKA REGISTRY MQTT
    if [[ -n $engines ]]; then
        kind=real
        local file=$engines/run/clients.env
        [[ -f $file ]] || die "$file is not there: make up DIR=$engines starts engines and writes it"
        ! grep -q KAFKA_SECURITY "$file" || die "the engines of $engines are secured; the examples are for plain ones (make up without SECURITY=on)"
        ! grep -q MQTT_USER "$file" || die "the MQTT broker of $engines asks for a user; the examples give none (make up without MQTT_USER)"
        KAFKA=$(sed -n 's/^KAFKA=//p' "$file") REGISTRY=$(sed -n 's/^REGISTRY=//p' "$file") MQTT=$(sed -n 's/^MQTT=//p' "$file")
    else
        kind=embedded
        begin engines "$binaries/telltale" engines --kafka-port 0 --mqtt-port 0 --registry-port 0
        await_that "telltale engines listens" grep -q 'Ctrl-C stops it' "$work/logs/engines.log"
        MQTT=$(sed -n 's/^MQTT broker *//p' "$work/logs/engines.log")
        KAFKA=$(sed -n 's/^Kafka log *//p' "$work/logs/engines.log")
        REGISTRY=$(sed -n 's/^schema registry *//p' "$work/logs/engines.log")
    fi
    # The settings of Telltale's programs and of the examples alike.
    export KAFKA REGISTRY MQTT
    echo "$kind engines: Kafka $KAFKA, registry $REGISTRY, MQTT $MQTT"
}

has_model() {
    "$binaries/telltale" topics tail models --from beginning --no-follow --key "$MODEL" | grep -q .
}

# Starts bridge, preprocessor, trainer and scorer; a fleet sends 4,000 readings, of which the first model is made.
start_pipeline() {
    local keys=$work/keys port common=(--http off --log warn)
    "$binaries/telltale" topics create --partitions 4 >"$work/logs/topics.log" 2>&1 || die "making the topics failed: $work/logs/topics.log"
    rm -rf "$keys"
    "$binaries/telltale" keys generate --out "$keys" >/dev/null
    # A model of this run: real engines may hold others, signed with other keys.
    export MODEL=examples-$run VERIFYING_KEY=$keys/verifying-key.pem
    begin preprocessor "$binaries/telltale-preprocessor" "${common[@]}"
    begin trainer "$binaries/telltale-trainer" --signing-key "$keys/signing-key.pem" --first-rows 2000 --interval 1h --growth 1000 "${common[@]}"
    begin scorer "$binaries/telltale-scorer" --workers 2 --trusted-key "$VERIFYING_KEY" "${common[@]}"
    scorer=${started[-1]}
    port=$(free_port)
    begin bridge "$binaries/telltale-bridge" --http "127.0.0.1:$port" --mqtt-client-id "bridge-$run" --log warn
    await_that "the bridge is ready" curl --fail --silent "http://127.0.0.1:$port/readyz"
    echo "a fleet of 100 cars sends 4,000 readings"
    begin simulator "$binaries/telltale-simulator" --cars 100 --rate 10 --count 40 --failure-share 0.2 --failure-time 1s..2s \
        --mqtt-client-id "fleet-$run" "${common[@]}"
    wait "${started[-1]}" || die "the fleet failed: $work/logs/simulator.log"
    # The only model is made before the examples feed anything: what they feed is noise around one reading, and where a tenth
    # of what a model learns from is noise, noise is usual to it.
    await_that "the first model" has_model
}
