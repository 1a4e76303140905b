#!/usr/bin/env bash
# Runs the examples as tests: other people's clients feed a pipeline of ours and read what it makes.
#
#   engines ─▶ our services, a fleet, a model ─▶ each part: an example, then a check of its exact outcome
#
# examples/README.md says what each part shows. Nothing runs on after the end, but real engines, which were there before.
set -euo pipefail

examples=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$examples")
here=$root/deploy/local # where the files below look for pinned lists
# shellcheck source=../deploy/local/lib/process.sh
. "$here/lib/process.sh"
# shellcheck source=../deploy/local/lib/java.sh
. "$here/lib/java.sh"
# shellcheck source=lib/setup.sh
. "$examples/lib/setup.sh"
# shellcheck source=lib/parts.sh
. "$examples/lib/parts.sh"

usage() {
    cat <<'TEXT'
usage: examples/run.sh --engines FOLDER | --embedded [OPTION]... [PART]...
  --engines FOLDER   the engines that `make up` started there (plain ones: not SECURITY=on)
  --embedded         engines of our own in memory: telltale engines
  --work FOLDER      where Python packages, jars and logs lie (target/examples)
parts, all if none is named: python mqtt kafka-tools kafka-streams kafka-connect notebook
TEXT
}

read_arguments() {
    engines='' work=${CARGO_TARGET_DIR:-$root/target}/examples parts=()
    local embedded=
    while (($# > 0)); do
        case $1 in
            --engines | --work)
                (($# > 1)) || die "option $1 has no value; see: examples/run.sh help"
                if [[ $1 == --work ]]; then work=$2; else engines=$2; fi
                shift
                ;;
            --embedded) embedded=1 ;;
            help | --help) usage && exit ;;
            python | mqtt | kafka-tools | kafka-streams | kafka-connect | notebook) parts+=("$1") ;;
            *) die "unknown argument $1; see: examples/run.sh help" ;;
        esac
        shift
    done
    [[ -n $engines || -n $embedded ]] || die "which engines: --engines FOLDER of make up, or --embedded?"
    [[ -z $engines || -z $embedded ]] || die "--engines and --embedded are one too many"
    ((${#parts[@]} > 0)) || parts=(python mqtt kafka-tools kafka-streams kafka-connect notebook)
    binaries=${CARGO_TARGET_DIR:-$root/target}/release
    [[ -x $binaries/telltale ]] || die "$binaries/telltale is not there: make build"
    mkdir -p "$work/logs"
    work=$(cd "$work" && pwd)
    run=$(date +%s)-$$ # names of this run: groups, model, cars
}

# Each part's steps ran without error, or the first that did not ends it; the others go on.
run_parts() {
    local part failed=() held=()
    for part in "${parts[@]}"; do
        echo "=== $part"
        # A subshell of its own, so that errexit holds inside: after `if` or `||` bash switches it off.
        set +e
        (
            set -e
            started=()
            trap end_all EXIT
            "part_${part//-/_}"
        )
        local code=$?
        set -e
        if ((code == 0)); then held+=("$part"); else failed+=("$part"); fi
    done
    echo
    echo "examples: ${#held[@]} of ${#parts[@]} hold on the $kind engines (${held[*]})"
    ((${#failed[@]} == 0)) || die "failed: ${failed[*]}; logs: $work/logs"
}

read_arguments "$@"
trap end_all EXIT
trap 'exit 130' INT TERM
export PYTHONDONTWRITEBYTECODE=1
prepare_python
find_engines
start_pipeline
run_parts
