# shellcheck shell=bash disable=SC2154 # here and folder are set by who sources this
# Engines of a test's own, ended with it. Sourced by test-*.sh with $here, this folder's parent, and $folder, where they are to be.
# JARS=FOLDER takes the jars of a folder where make up ran before.

mkdir -p "$folder"
if [[ -n ${JARS-} && ! -e $folder/jars ]]; then ln -s "$(realpath "$JARS")" "$folder/jars"; fi

finish() {
    local status=$?
    "$here/engines.sh" down --dir "$folder" >/dev/null
    # Who begins anew next time has no old passwords to fit.
    ((status != 0)) || rm -rf "$folder/data"
    exit "$status"
}
trap finish EXIT

# Ports below those that the system hands out by itself, from one that depends on the folder, each free now.
free_ports() {
    local port=$((20000 + $(printf '%s' "$folder" | cksum | cut -d ' ' -f 1) % 8000)) found=0
    while ((found < 12)); do
        if (: </dev/tcp/127.0.0.1/$port) 2>/dev/null; then found=0; else found=$((found + 1)); fi
        port=$((port + 1))
    done
    base=$((port - 12))
}

# Without the data of another time, unless they were started before: up [OPTION...] as `engines.sh up` takes them.
up() {
    if [[ -z ${base-} ]]; then
        "$here/engines.sh" down --dir "$folder" >/dev/null
        rm -rf "$folder/data"
        free_ports
    fi
    "$here/engines.sh" up --dir "$folder" --kafka-port "$base" --registry-port $((base + 6)) --mqtt-port $((base + 8)) \
        --websocket-port $((base + 9)) "$@"
}
