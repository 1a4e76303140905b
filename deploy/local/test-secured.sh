#!/usr/bin/env bash
# Runs our programs against engines of `make up SECURITY=on`, started for this and ended afterwards. A part of `make test-engines`.
#
#   test-secured.sh [--kafka 3] [TEST...]      JARS=FOLDER takes the jars of a folder where make up ran before
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../.."
brokers=1
if [[ ${1-} == --kafka ]]; then
    brokers=$2
    shift 2
fi
folder=$PWD/target/test-secured
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

"$here/engines.sh" down --dir "$folder" >/dev/null
rm -rf "$folder/data"
# Ports below those that the system hands out by itself, from one that depends on the folder, each free now.
port=$((20000 + $(printf '%s' "$folder" | cksum | cut -d ' ' -f 1) % 8000)) found=0
while ((found < 12)); do
    if (: </dev/tcp/127.0.0.1/$port) 2>/dev/null; then found=0; else found=$((found + 1)); fi
    port=$((port + 1))
done
base=$((port - 12))
"$here/engines.sh" up --dir "$folder" --security on --kafka "$brokers" --kafka-port "$base" --registry-port $((base + 6)) \
    --mqtt-port $((base + 8)) --websocket-port $((base + 9))
"${CARGO:-cargo}" build --release --workspace --bins
# The whole workspace, as everywhere: one package alone would select other features and compile its dependencies again.
TELLTALE_TEST_ENGINES=$folder "${CARGO:-cargo}" test --release --workspace --test secured -- --test-threads=1 "$@"
