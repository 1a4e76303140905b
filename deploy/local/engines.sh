#!/usr/bin/env bash
# Starts, ends and shows Apache Kafka, HiveMQ and Apicurio Registry on this machine; `make up`, `make down`, `make status`.
#
#   pom.xml + SHA256SUMS ─▶ jars ─▶ launch ─▶ pid, settings, log ─▶ wait until it answers
#
# Everything lies under one folder (target/engines): jars/, data/, logs/, run/. All ports are bound to 127.0.0.1.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=lib/process.sh
. "$here/lib/process.sh"
# shellcheck source=lib/java.sh
. "$here/lib/java.sh"
# shellcheck source=lib/security.sh
. "$here/lib/security.sh"
# shellcheck source=lib/kafka.sh
. "$here/lib/kafka.sh"
# shellcheck source=lib/hivemq.sh
. "$here/lib/hivemq.sh"
# shellcheck source=lib/registry.sh
. "$here/lib/registry.sh"

usage() {
    cat <<'TEXT'
usage: engines.sh up|again|down|status [OPTION VALUE]...
  again starts what is missing with the options of the last up
  --dir FOLDER              where jars, data, logs and pids lie (target/engines)
  --kafka 1|3               brokers; three mean replication 3 and min.insync 2 (1)
  --kafka-port PORT         first broker; the others and the controllers take the ports that follow (9092)
  --registry-port PORT      registry; its management takes the port that follows (8081)
  --mqtt-port PORT          MQTT over TCP (1883; with --security on over TLS, 8883)
  --websocket-port PORT     MQTT over WebSocket, path /mqtt (8000)
  --mqtt-user NAME          asks MQTT clients for this user (nobody is asked)
  --mqtt-password-file FILE the user's password, first line of FILE
  --security on|off         TLS, users and passwords, least rights; a test authority is made (off)
  --timeout SECONDS         longest wait for an engine to answer (300)
TEXT
}

# Sets the variables the other files read; they are settings from here on.
read_settings() {
    dir=target/engines brokers=1 kafka_port=9092 registry_port=8081 mqtt_port='' websocket_port=8000
    mqtt_user='' mqtt_password_file='' security=off patience=300
    while (($# > 0)); do
        (($# > 1)) || die "option $1 has no value; see: engines.sh help"
        case $1 in
            --dir) dir=$2 ;;
            --kafka) brokers=$2 ;;
            --kafka-port) kafka_port=$2 ;;
            --registry-port) registry_port=$2 ;;
            --mqtt-port) mqtt_port=$2 ;;
            --websocket-port) websocket_port=$2 ;;
            --mqtt-user) mqtt_user=$2 ;;
            --mqtt-password-file) mqtt_password_file=$2 ;;
            --security) security=$2 ;;
            --timeout) patience=$2 ;;
            *) die "unknown option $1; see: engines.sh help" ;;
        esac
        shift 2
    done
    # Keys, passwords and what holds them are for their owner only.
    if security_on; then umask 077; fi
    if [[ -z $mqtt_port ]]; then mqtt_port=$(security_on && echo 8883 || echo 1883); fi
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
}

check_settings() {
    [[ $brokers == 1 || $brokers == 3 ]] || die "$brokers Kafka brokers were asked for: 1 and 3 are possible (make up KAFKA=3)"
    [[ $patience =~ ^[1-9][0-9]{0,4}$ ]] || die "--timeout $patience is not a number of seconds from 1 to 99999"
    local port
    for port in "$kafka_port" "$registry_port" "$mqtt_port" "$websocket_port"; do
        if ! [[ $port =~ ^[1-9][0-9]{0,4}$ ]] || ((port > 65530)); then die "port $port is not a number from 1 to 65530"; fi
    done
    [[ $security == on || $security == off ]] || die "--security $security is neither on nor off (make up SECURITY=on)"
    if security_on && [[ -n $mqtt_user ]]; then
        die "--mqtt-user is for engines without TLS: with SECURITY=on every program has a user of its own, see make status"
    fi
    if [[ -n $mqtt_user ]]; then
        [[ -s $mqtt_password_file ]] || die "user $mqtt_user has no password: --mqtt-password-file '$mqtt_password_file' is no file with one"
    elif [[ -n $mqtt_password_file ]]; then
        die "--mqtt-password-file is given without --mqtt-user"
    fi
    ports_differ
}

ports_differ() {
    local twice
    twice=$( (kafka_ports; registry_ports; hivemq_ports) | sort | uniq -d | tr '\n' ' ')
    [[ -z $twice ]] || die "two engines were given the same port: ${twice% }; see the ports in deploy/local/README.md"
}

up() {
    check_settings
    lock
    : >"$dir/run/options"
    (($# == 0)) || printf '%s\n' "$@" >"$dir/run/options"
    local missing=()
    local engine
    for engine in $(kafka_names) hivemq registry; do
        runs_as_asked "$engine" "$(settings_of "$engine")" || missing+=("$engine")
    done
    if ((${#missing[@]} == 0)); then
        echo "all engines run already"
    else
        if security_on; then security_prepare; fi
        for engine in "${missing[@]}"; do prepare "$engine"; done
        for engine in "${missing[@]}"; do start "$engine"; done
        for engine in "${missing[@]}"; do await "$engine"; done
    fi
    clients >"$dir/run/clients.env"
    status
}

# Brings back what has ended since the last up.
again() {
    local option options=()
    [[ -f $dir/run/clients.env ]] || die "no engines were started in $dir: make up starts them"
    while IFS= read -r option; do options+=("$option"); done <"$dir/run/options"
    read_settings ${options[@]+"${options[@]}"} --dir "$dir"
    up ${options[@]+"${options[@]}"}
}

# Each engine's file has these parts: what it runs with, its ports, its start, and when it is ready.
settings_of() { "${1%-[0-9]}_settings" "$1"; }

prepare() {
    "${1%-[0-9]}_prepare" "$1"
    local port
    for port in $("${1%-[0-9]}_ports_of" "$1"); do
        ! answers "$port" || die "port $port, wanted by $1, is taken by a process that is not ours: end it (make engines? a broker of the system?) or choose another port, see deploy/local/README.md"
    done
}

start() {
    "${1%-[0-9]}_start" "$1"
    settings_of "$1" >"$dir/run/$1.settings"
}

await() {
    await_ready "$1" "${1%-[0-9]}_ready"
    "${1%-[0-9]}_settle" "$1"
}

status() {
    local file engine pid port state failed=0 found=0
    for file in "$dir"/run/*.pid; do
        [[ -f $file ]] || continue
        ((found)) || printf '%-9s %-8s %-9s %-7s %s\n' ENGINE PID PORT MEMORY STATE
        found=1
        engine=$(basename "$file" .pid)
        port=$(sed -n 's/.*port=\([0-9]*\).*/\1/p' "$dir/run/$engine.settings" 2>/dev/null | head -n 1)
        if ! pid=$(owned "$engine"); then
            pid=- state="ended by itself; log: $dir/logs/$engine.log"
            failed=1
        elif answers "$port"; then
            state="answers"
        else
            state="does not answer; log: $dir/logs/$engine.log"
            failed=1
        fi
        printf '%-9s %-8s %-9s %-7s %s\n' "$engine" "$pid" "$port" "$(memory_of "$pid")" "$state"
    done
    if ((!found)); then
        echo "no engine runs (make up starts them)"
    elif ((!failed)) && [[ -f $dir/run/clients.env ]]; then
        addresses
    fi
    return "$failed"
}

# The settings of our programs for these engines, as environment variables; of secured ones, those of admin.
clients() {
    if security_on; then
        program_settings admin
        return
    fi
    printf '%s\n' "KAFKA=$(kafka_addresses)" "REGISTRY=$(registry_url)" "MQTT=127.0.0.1:$mqtt_port"
    if [[ -n $mqtt_user ]]; then printf '%s\n' "MQTT_USER=$mqtt_user" "MQTT_PASSWORD_FILE=$(realpath "$mqtt_password_file")"; fi
}

# The same as flags: KAFKA_CA=x is --kafka-ca x. Of secured engines, the file of each program.
addresses() {
    local name value flags='' file
    if grep -q KAFKA_SECURITY "$dir/run/clients.env"; then
        echo "for our programs, their settings as environment variables (set -a; . FILE; set +a):"
        for file in "$dir"/data/security/*.env; do echo "  $file"; done
        return
    fi
    while IFS='=' read -r name value; do
        flags+=" --$(tr 'A-Z_' 'a-z-' <<<"$name")"
        [[ $value == true ]] || flags+=" $value"
    done <"$dir/run/clients.env"
    echo "for our programs:$flags"
}

down() {
    lock
    rm -f "$dir/run/clients.env"
    local file engines=()
    for file in "$dir"/run/*.pid; do
        [[ -f $file ]] && engines+=("$(basename "$file" .pid)")
    done
    if ((${#engines[@]} == 0)); then
        echo "no engine runs"
        return
    fi
    # The registry and the MQTT broker need nobody's help to end; several Kafka nodes need each other, so they are asked together.
    local engine
    for engine in "${engines[@]}"; do ask_to_end "$engine"; done
    for engine in "${engines[@]}"; do await_end "$engine"; done
}

main() {
    local command=${1:-help}
    (($# == 0)) || shift
    case $command in
        up | again | down | status)
            read_settings "$@"
            mkdir -p "$dir"/{jars,data,logs,run}
            "$command" "$@"
            ;;
        help | --help) usage ;;
        *)
            usage >&2
            exit 2
            ;;
    esac
}

main "$@"
