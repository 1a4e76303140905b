#!/usr/bin/env bash
# Checks everything under helm/, terraform/ and deploy/ without a network, a cluster or a cloud; `make check-deploy`.
#
#   deploy/check/parts/NN-NAME.sh ─▶ steps ─▶ one line each: ok, or failed with what the tool said
#
# A part is a script that sources lib.sh and calls `step`; a new one is found by its name. The tools, each pinned, come
# from deploy/check/tools.sh, which is the only thing here that needs a network.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
parts=$here/check/parts

usage() {
    cat <<'TEXT'
usage: deploy/check.sh [PART]...       all parts, or those named
       deploy/check.sh --list          the parts
UPDATE_GOLDEN=1 rewrites the files that rendered charts are compared with (deploy/check/golden).
TEXT
}

list() { for it in "$parts"/*.sh; do basename "$it" .sh | cut -d- -f2-; done; }

wanted=("$@")
case ${1-} in
    -h | --help) usage && exit ;;
    --list) list && exit ;;
esac
known=$(list)
for it in "${wanted[@]}"; do
    grep -qxF -- "$it" <<<"$known" || { echo "deploy/check.sh: there is no part $it, but: ${known//$'\n'/ }" >&2 && exit 2; }
done

cd "$here/.."
failed=()
for part in "$parts"/*.sh; do
    name=$(basename "$part" .sh | cut -d- -f2-)
    if ((${#wanted[@]} > 0)) && [[ " ${wanted[*]} " != *" $name "* ]]; then continue; fi
    echo "$name"
    bash "$part" || failed+=("$name")
done
if ((${#failed[@]} > 0)); then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
echo "all checks passed"
