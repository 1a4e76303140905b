#!/usr/bin/env bash
# Installs inferno, which draws flame graphs, at a pinned version into ~/.cache/telltale/tools (TELLTALE_TOOLS), once, and runs
# what makes them; needs perf. `make flames`.
#
#   usage: flames.sh PROGRAM [ARGUMENT]...
set -euo pipefail

version=0.12.8
tools=${TELLTALE_TOOLS:-$HOME/.cache/telltale/tools}/inferno
(($#)) || { echo "usage: flames.sh PROGRAM [ARGUMENT]..." >&2 && exit 2; }
if ! grep -qF "\"inferno $version " "$tools/.crates.toml" 2>/dev/null; then
    echo "installing inferno $version with cargo"
    cargo install --quiet --locked --no-default-features --features cli --root "$tools" --version "$version" inferno
fi
exec "$@" --inferno "$tools/bin"
