#!/usr/bin/env bash
# Takes down what deploy/README.md puts up inside a cluster, in the order in which nothing hangs, and says which disks stay.
#
#   services ─▶ topics and schemas (while Kafka can still delete them) ─▶ platform ─▶ disks ─▶ operators
#
# Again is harmless: what is gone already is passed over. The cluster itself is terraform's.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=operators/list.sh
. "$here/operators/list.sh"

usage() {
    cat <<'TEXT'
usage: deploy/uninstall.sh --keep-data|--delete-data [--operators] [--timeout DURATION]

--keep-data          keeps topics, schemas and every disk; a later install goes on with them
--delete-data        deletes them all: readings, models and sessions are gone for good
--operators          takes the operators and their definitions away as well, for the whole cluster; only with --delete-data
--timeout DURATION   how long to wait for each step, such as 10m (default 5m)
TEXT
}

data='' with_operators=false timeout=5m
while (($# > 0)); do
    case $1 in
        -h | --help) usage && exit ;;
        --keep-data | --delete-data)
            [[ -z $data || $data == "${1#--}" ]] || die "--keep-data and --delete-data exclude each other"
            data=${1#--}
            ;;
        --operators) with_operators=true ;;
        --timeout)
            [[ ${2-} =~ ^[0-9]+[smh]$ ]] || die "--timeout takes a duration such as 10m"
            timeout=$2
            shift
            ;;
        *) die "there is no option $1; --help lists them" ;;
    esac
    shift
done
[[ -n $data ]] || die "say --keep-data, or --delete-data to lose readings, models and sessions for good"
# Without its operator a topic that is kept could never be deleted again.
if $with_operators && [[ $data == keep-data ]]; then die "--operators goes with --delete-data only"; fi

need helm kubectl awk
reach_cluster
namespaces=(telltale platform)

uninstall() {
    local name=$1 namespace=$2
    release "$name" "$namespace" || return 0
    echo "release $name of namespace $namespace"
    helm uninstall "$name" --namespace "$namespace" --wait --timeout "$timeout" >/dev/null
}

# Kinds of the groups that this cluster knows, as kubectl names them.
kinds_of() { kubectl api-resources --api-group "$1" --namespaced --output name 2>/dev/null || true; }

# delete_all KIND...: in namespace platform; their finalizers ask the operator, which asks Kafka.
delete_all() {
    local kind
    for kind in "$@"; do
        [[ -n $(kubectl get "$kind" --namespace platform --output name 2>/dev/null) ]] || continue
        echo "$kind"
        kubectl delete "$kind" --all --namespace platform --timeout="$timeout" >/dev/null && continue
        die "some $kind are still there after $timeout: their operator cannot reach Kafka or the registry. If these are gone
already, drop the finalizers and run this again:
  kubectl --namespace platform get $kind --output name | xargs -n 1 kubectl --namespace platform patch --type merge --patch '{\"metadata\":{\"finalizers\":null}}'"
    done
}

# Volumes whose claims are, or were, in our namespaces.
volumes() {
    local namespace
    for namespace in "$@"; do
        kubectl get persistentvolumes --output \
            jsonpath="{range .items[?(@.spec.claimRef.namespace=='$namespace')]}{.metadata.name} {.spec.capacity.storage} {.spec.claimRef.namespace}/{.spec.claimRef.name}{'\n'}{end}"
    done
}

delete_disks() {
    local namespace deadline
    for namespace in "$@"; do
        [[ -n $(kubectl get persistentvolumeclaims --namespace "$namespace" --output name 2>/dev/null) ]] || continue
        echo "disks of namespace $namespace"
        # A claim stays until its last pod is gone.
        kubectl delete persistentvolumeclaims --all --namespace "$namespace" --timeout="$timeout" >/dev/null ||
            die "claims of namespace $namespace are still in use after $timeout: kubectl --namespace $namespace get pods"
    done
    deadline=$((SECONDS + 120))
    until [[ -z $(volumes "$@") ]] || ((SECONDS > deadline)); do sleep 2; done
}

uninstall telltale telltale
# Helm leaves what its hooks started: the pod of `helm test`, whose log is its result, and a Job for topics that failed.
kubectl delete jobs,pods --namespace telltale --selector app.kubernetes.io/instance=telltale --ignore-not-found --timeout="$timeout" >/dev/null
if [[ $data == delete-data ]]; then
    mapfile -t topics < <(for group in platform.confluent.io kafka.strimzi.io; do kinds_of "$group"; done |
        grep -E '^(kafkatopics|schemas|kafkarestclasses|kafkausers)\.' || true)
    delete_all "${topics[@]}"
fi
uninstall platform platform
if [[ $data == delete-data ]]; then delete_disks "${namespaces[@]}"; fi

if $with_operators; then
    for it in $(operators); do
        uninstall "$it" "$(of "$it" namespace)"
        namespaces+=("$(of "$it" namespace)")
    done
    delete_disks monitoring
    for it in $(operators); do
        mapfile -t definitions < <(kubectl get crds --output name | grep -E "\.$(of "$it" group | sed 's/\./\\./g')\$" || true)
        ((${#definitions[@]} == 0)) || { echo "definitions of $it" && kubectl delete "${definitions[@]}" --timeout="$timeout" >/dev/null; }
    done
    for it in $(printf '%s\n' "${namespaces[@]}" | sort -u); do
        kubectl delete namespace "$it" --ignore-not-found --timeout="$timeout" >/dev/null
    done
fi

mapfile -t namespaces < <({ printf '%s\n' telltale platform; for it in $(operators); do of "$it" namespace; done; } | sort -u)
left=$(volumes "${namespaces[@]}")
if [[ -z $left ]]; then
    echo "no disks are left"
else
    echo "disks left, paid for until they are deleted:"
    # shellcheck disable=SC2001 # every line, not the first
    sed 's/^/  /' <<<"$left"
    [[ $data == keep-data ]] || echo "their storage class retains them: kubectl delete persistentvolume NAME, then the disk in the cloud's console"
fi
