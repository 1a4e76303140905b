#!/usr/bin/env bash
# Runs a fuzz target: fuzz/run.sh TARGET [--for 60s]; without a target it lists them. See README.md beside this file.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here"

# name and feature of each target
targets() { awk -F'"' '/^name = /{ name = $2 } /^required-features/{ print name, $2 }' Cargo.toml; }

usage() {
    echo "usage: make fuzz ARGS=\"TARGET [--for DURATION]\"; targets:" >&2
    targets | sed 's/ .*//; s/^/    /' >&2
    exit 2
}

target=${1:-}
feature=$(targets | awk -v target="$target" '$1 == target { print $2 }')
[[ -n $feature ]] || usage
seconds=60
case "${2:-}" in
    "") ;;
    --for)
        [[ ${3:-} =~ ^([0-9]+)(s|m|h)$ ]] || usage
        case ${BASH_REMATCH[2]} in s) unit=1 ;; m) unit=60 ;; h) unit=3600 ;; esac
        seconds=$((BASH_REMATCH[1] * unit))
        ;;
    *) usage ;;
esac

command -v c++ >/dev/null || { echo "a C++ compiler is missing: libFuzzer is compiled with it" >&2; exit 2; }
export CARGO_TARGET_DIR=$here/target RUSTC_WRAPPER=$here/rustc.sh
cargo build --release --features "$feature" --bin "$target"
seeds=../testdata/fuzz/$target
mkdir -p "corpus/$target" "artifacts/$target" "$seeds"
# A target that takes 10 s for an input hangs.
exec "target/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="artifacts/$target/" "corpus/$target" "$seeds"
