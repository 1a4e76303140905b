#!/usr/bin/env bash
# RUSTC_WRAPPER of run.sh: compiles our crates with the coverage that libFuzzer follows, and all others as they are.
set -euo pipefail

rustc=$1
shift
case " $* " in
    *" --crate-name telltale_"*)
        coverage=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Ccodegen-units=1 -Cdebug-assertions=on)
        for it in inline-8bit-counters pc-table trace-compares; do coverage+=("-Cllvm-args=-sanitizer-coverage-$it"); done
        exec "$rustc" "$@" "${coverage[@]}" -Cllvm-args=-simplifycfg-branch-fold-threshold=0
        ;;
    *) exec "$rustc" "$@" ;;
esac
