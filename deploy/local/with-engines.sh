#!/usr/bin/env bash
# Runs a command with the settings that lead to the engines of `make up`: with-engines.sh FOLDER COMMAND...
set -euo pipefail

(($# > 1)) || { echo "usage: with-engines.sh FOLDER COMMAND..." >&2; exit 2; }
settings=$1/run/clients.env
shift
if [[ ! -f $settings ]]; then
    echo "error: no engines run in ${settings%/run/clients.env}: make up starts them (make up DIR=FOLDER in another folder)" >&2
    exit 1
fi
ENGINES_DIR=$(cd "${settings%/run/clients.env}" && pwd)
export ENGINES_DIR # for kafka-tool.sh
while IFS= read -r setting; do export "${setting?}"; done <"$settings"
exec "$@"
