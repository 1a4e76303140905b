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
# shellcheck source=lib/own.sh
. "$here/lib/own.sh"

up --security on --kafka "$brokers"
"${CARGO:-cargo}" build --release --workspace --bins
# The whole workspace, as everywhere: one package alone would select other features and compile its dependencies again.
TELLTALE_TEST_ENGINES=$folder "${CARGO:-cargo}" test --release --workspace --test secured -- --test-threads=1 "$@"
