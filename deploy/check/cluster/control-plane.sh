# Sourced: a real Kubernetes control plane on loopback, with simulated nodes; `cluster_up FOLDER NODES`, `cluster_down`.
#
#   etcd ◀─ kube-apiserver ◀─┬─ kube-controller-manager
#                            ├─ kube-scheduler
#                            └─ kwok: plays the kubelets of the nodes (stages.yaml)
#
# The programs are Kubernetes' own (deploy/check/tools.sh cluster). Ports are free ones, everything is in FOLDER.
# shellcheck shell=bash

cluster_pids=()
cluster_sources=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# run NAME COMMAND...: in the background, its output in FOLDER/NAME.log.
run() {
    local name=$1
    shift
    "$@" >"$cluster_folder/$name.log" 2>&1 &
    cluster_pids+=("$!")
}

# until_true SECONDS COMMAND...: waits for a state.
until_true() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || return 1
        sleep 0.3
    done
}

free_ports() {
    python -c 'import socket, sys
sockets = [socket.socket() for _ in range(int(sys.argv[1]))]
for it in sockets: it.bind(("127.0.0.1", 0))
print(*(it.getsockname()[1] for it in sockets))' "$1"
}

# The simulated nodes: 16 cores and 64 GiB each, in three zones; the second half are a pool that takes only who tolerates it, as
# terraform/ makes it.
nodes() {
    local number pool taints
    for number in $(seq "$1"); do
        pool=system taints='[]'
        ((number <= $1 / 2)) || pool=stateless taints='[{key: telltale.io/pool, value: stateless, effect: NoSchedule}]'
        cat <<NODE
---
apiVersion: v1
kind: Node
metadata:
  name: node-$number
  labels: {kubernetes.io/hostname: node-$number, kubernetes.io/os: linux, topology.kubernetes.io/zone: zone-$((number % 3)), telltale.io/pool: $pool}
spec:
  taints: $taints
status:
  allocatable: &has {cpu: "16", memory: 64Gi, pods: "110", ephemeral-storage: 100Gi}
  capacity: *has
NODE
    done
}

cluster_up() {
    local etcd peer port token api pki
    cluster_folder=$1
    pki=$cluster_folder/pki
    mkdir -p "$pki"
    read -r etcd peer port <<<"$(free_ports 3)"
    token=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
    echo "$token,admin,admin,system:masters" >"$cluster_folder/tokens.csv"
    openssl genrsa -out "$pki/service-accounts.key" 2048 2>/dev/null
    api=https://127.0.0.1:$port
    # The API server makes its certificate itself; kubeconfig names it once it is there.
    cat >"$cluster_folder/kubeconfig" <<CONFIG
apiVersion: v1
kind: Config
current-context: check
clusters: [{name: check, cluster: {server: "$api", certificate-authority: "$pki/apiserver.crt"}}]
users: [{name: admin, user: {token: "$token"}}]
contexts: [{name: check, context: {cluster: check, user: admin}}]
CONFIG
    export KUBECONFIG=$cluster_folder/kubeconfig KUBECACHEDIR=$cluster_folder/cache

    # Nothing of this outlives the check: no fsync.
    run etcd etcd --unsafe-no-fsync --data-dir "$cluster_folder/etcd" --initial-cluster "default=http://127.0.0.1:$peer" \
        --listen-client-urls "http://127.0.0.1:$etcd" --advertise-client-urls "http://127.0.0.1:$etcd" \
        --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer"
    run apiserver kube-apiserver --etcd-servers "http://127.0.0.1:$etcd" --bind-address 127.0.0.1 --advertise-address 127.0.0.1 \
        --secure-port "$port" --cert-dir "$pki" --endpoint-reconciler-type none --service-cluster-ip-range 10.96.0.0/16 \
        --authorization-mode RBAC --token-auth-file "$cluster_folder/tokens.csv" --service-account-issuer "$api" \
        --service-account-key-file "$pki/service-accounts.key" --service-account-signing-key-file "$pki/service-accounts.key"
    until_true 300 kubectl get --raw /readyz || { tail -n 20 "$cluster_folder"/{etcd,apiserver}.log && return 1; }
    run controllers kube-controller-manager --kubeconfig "$KUBECONFIG" --secure-port 0 --leader-elect=false \
        --use-service-account-credentials --root-ca-file "$pki/apiserver.crt" \
        --service-account-private-key-file "$pki/service-accounts.key"
    run scheduler kube-scheduler --kubeconfig "$KUBECONFIG" --secure-port 0 --leader-elect=false
    run kwok kwok --kubeconfig "$KUBECONFIG" --manage-all-nodes --config "$cluster_sources/stages.yaml" --node-lease-duration-seconds 40
    if nodes "$2" | kubectl apply --filename - && kubectl wait --for=condition=Ready node --all --timeout=300s; then
        until_true 300 kubectl get serviceaccount default && return
    fi
    tail -n 20 "$cluster_folder"/{controllers,kwok}.log
    return 1
}

# In the order in which nobody waits for who has gone.
cluster_down() {
    local index
    for ((index = ${#cluster_pids[@]} - 1; index >= 0; index--)); do
        kill "${cluster_pids[index]}" 2>/dev/null || true
        wait "${cluster_pids[index]}" 2>/dev/null || true
    done
    cluster_pids=()
}
