#!/usr/bin/env bash
# Installs the vendors' operators that helm/platform needs, at the versions of operators.yaml, and waits until they work.
#
#   namespaces ─▶ helm upgrade --install ─▶ pods ready ─▶ custom resource definitions there
#
# Again is harmless: what is there already at that version and with those values is left as it is.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=operators/list.sh
. "$here/operators/list.sh"

usage() {
    cat <<TEXT
usage: deploy/install-operators.sh [--timeout DURATION] [OPERATOR]...

Operators: $(operators | paste -sd ' '); without a name those that helm/platform's defaults need:
$(for it in $(operators); do [[ $(of "$it" default) == true ]] && echo "$it"; done | paste -sd ' ').
--timeout DURATION   how long to wait for each, such as 10m (default 5m)
TEXT
}

timeout=5m
wanted=()
while (($# > 0)); do
    case $1 in
        -h | --help) usage && exit ;;
        --timeout)
            [[ ${2-} =~ ^[0-9]+[smh]$ ]] || die "--timeout takes a duration such as 10m"
            timeout=$2
            shift
            ;;
        -*) die "there is no option $1; --help lists them" ;;
        *) wanted+=("$1") ;;
    esac
    shift
done
known "${wanted[@]}"
if ((${#wanted[@]} == 0)); then
    for it in $(operators); do [[ $(of "$it" default) != true ]] || wanted+=("$it"); done
fi

need helm kubectl awk
reach_cluster
kubectl apply --filename "$here/namespaces.yaml"

install() {
    local name=$1 chart repository source
    repository=$(of "$name" repository)
    chart=$(of "$name" chart)
    # A registry's charts are named whole; others are looked for in a repository.
    if [[ $repository == oci://* ]]; then source=("$repository/$chart"); else source=("$chart" --repo "$repository"); fi
    echo "$name: $chart $(of "$name" version) in namespace $(of "$name" namespace)"
    helm upgrade --install "$name" "${source[@]}" --version "$(of "$name" version)" \
        --namespace "$(of "$name" namespace)" --create-namespace \
        --values "$here/$(of "$name" values)" --wait --timeout "$timeout" >/dev/null ||
        die "$name was not installed; run this again once the reason above is mended"
    # Some operators bring their definitions when they start.
    kubectl wait --for=create "crd/$(of "$name" crd)" --timeout="$timeout" >/dev/null ||
        die "$name runs, but its definition $(of "$name" crd) is not there after $timeout"
    kubectl wait --for=condition=Established "crd/$(of "$name" crd)" --timeout="$timeout" >/dev/null
    echo "$name: ready"
}

for it in "${wanted[@]}"; do install "$it"; done
echo "next: helm upgrade --install platform helm/platform --namespace platform --values platform.yaml"
