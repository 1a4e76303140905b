# Both charts on a real API server with the real scheduler and controllers, Helm 4 and 3: accepted, scheduled, scaled, upgraded, rolled
# back, drained, uninstalled, and nothing left behind. Pods are simulated: what runs in them is not shown here.
# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need kubectl helm helm3 python openssl
for it in etcd kube-apiserver kube-controller-manager kube-scheduler kwok; do
    command -v "$it" >/dev/null && continue
    echo "  missing: $it. Build the control plane once: deploy/check/tools.sh cluster" >&2
    exit 1
done
# shellcheck source=../cluster/control-plane.sh
. "$check/cluster/control-plane.sh"
trap 'status=$?; cluster_down; (exit "$status"); finish' EXIT

in_platform() { kubectl --namespace platform "$@"; }
in_telltale() { kubectl --namespace telltale "$@"; }

# Not within a step, whose processes and variables are its own.
cluster_up "$scratch/cluster" 6 >"$scratch/cluster.log" 2>&1 || started=no
step "a control plane with 6 nodes" test "${started-yes}" = yes
((failures == 0)) || { cat "$scratch/cluster.log" && exit 1; }

# As deploy/README.md has it; what the check enforces is stricter: no namespace of ours takes a pod that is not "restricted".
namespaces() {
    kubectl apply --filename deploy/namespaces.yaml &&
        kubectl label --overwrite namespace telltale platform pod-security.kubernetes.io/enforce=restricted
}
step "namespaces" namespaces
privileged() {
    in_telltale run intruder --image=intruder:1 --overrides='{"spec":{"hostNetwork":true}}'
}
refuses "a pod that is not restricted" 'violates PodSecurity "restricted' privileged

# What a user without operators and Secrets sees, before they are there.
for helm in helm helm3; do
    refuses "helm/platform without operators ($helm)" 'does not know Kafka of platform.confluent.io/v1beta1.*install-operators.sh confluent' \
        "$helm" install platform helm/platform --namespace platform
    refuses "helm/telltale without Secrets ($helm)" 'Secret telltale-model-keys of namespace telltale is missing' \
        "$helm" install telltale helm/telltale --namespace telltale
    refuses "monitoring without its operator ($helm)" 'the cluster has no monitoring.coreos.com/v1: install the Prometheus operator' \
        "$helm" install telltale helm/telltale --namespace telltale --set checkSecrets=false,monitoring.rules.enabled=true
done

definitions() {
    python "$check/cluster/crds.py" "$check"/golden/*/*.yaml >"$scratch/crds.json" &&
        kubectl apply --server-side --filename "$scratch/crds.json" &&
        kubectl wait --for=condition=Established --all crd --timeout=300s || return 1
    # The names that install-operators.sh waits for.
    sed -n 's/^  crd: //p' deploy/operators.yaml | xargs kubectl get crd
}
step "the vendors' definitions" definitions

# secret NAME KEY...: content does not matter here.
secret() {
    local name=$1 keys=() key
    shift
    for key in "$@"; do keys+=(--from-literal="$key=x"); done
    in_telltale create secret generic "$name" "${keys[@]}"
}
secrets() {
    secret telltale-model-keys signing-key.pem verifying-key.pem earlier-key.pem && secret kafka-user password &&
        secret kafka-ca ca.crt && secret kafka-client tls.crt tls.key && secret registry-user token &&
        secret registry-ca ca.crt && secret mqtt-user password && secret mqtt-ca ca.crt
}
step "Secrets" secrets
# That profile asks for one.
step "a priority class" kubectl create priorityclass telltale --value=1000

# objects NAMESPACE: all that is there, but what the cluster itself keeps and what is not the chart's.
namespaced=$(kubectl api-resources --namespaced --verbs=list --output=name | grep -vE '^(events|endpoints|podmetrics|replicationcontrollers)' | paste -sd ,)
objects() {
    kubectl --namespace "$1" get "$namespaced" --output name --ignore-not-found |
        grep -vxE 'configmap/kube-root-ca.crt|serviceaccount/default|secret/(telltale-model-keys|(kafka|registry|mqtt)-[a-z]+)'
}
empty() { ! objects "$1"; }
# empties NAMESPACE: soon nothing is left there; if not, says what.
empties() { until_true 120 empty "$1" || ! objects "$1"; }

# scaled COUNT: the scorers that are wanted, and there.
scaled() {
    [[ $(in_telltale get statefulset telltale-scorer --output 'jsonpath={.spec.replicas}/{.status.readyReplicas}') == "$1/$1" ]]
}
# Every pod has a node, and those of a service are spread over the zones.
scheduled() {
    local zones
    in_telltale wait --for=condition=PodScheduled pods --all --timeout=120s || return 1
    zones=$(in_telltale get pods --selector app.kubernetes.io/name=scorer --output 'jsonpath={range .items[*]}{.spec.nodeName}{"\n"}{end}' |
        while read -r node; do kubectl get node "$node" --output 'jsonpath={.metadata.labels.topology\.kubernetes\.io/zone}{"\n"}'; done | sort -u)
    [[ $(wc -l <<<"$zones") == 3 ]] || { echo "scorers are in zones: $zones" && return 1; }
}

# uninstall HELM ARGUMENT...: the script, with that helm.
mkdir -p "$scratch/helm" "$scratch/helm3"
for it in helm helm3; do ln -s "$(command -v "$it")" "$scratch/$it/helm"; done
uninstall() { PATH=$scratch/$1:$PATH deploy/uninstall.sh "${@:2}"; }

# services HELM PROFILE ARGUMENT...: the life of a release of helm/telltale.
services() {
    local helm=$1 name="helm/telltale $2 ($1)"
    shift 2
    local release=("$helm" upgrade --install telltale helm/telltale --namespace telltale --wait --timeout 5m "$@")
    up() { "${release[@]}" && in_telltale rollout status statefulset/telltale-scorer --timeout=120s; }
    step "$name: installed, every pod ready" up
    scale() { in_telltale scale statefulset telltale-scorer --replicas="$1" && until_true 120 scaled "$1"; }
    step "$name: kubectl scale to 5" scale 5
    step "$name: pods have nodes, in every zone" scheduled
    upgrade() { "${release[@]}" --set-string podAnnotations.change=yes && until_true 120 scaled 5; }
    step "$name: an upgrade keeps the 5" upgrade
    back() { "$helm" rollback telltale --namespace telltale --wait --timeout 5m && until_true 120 scaled 5; }
    step "$name: a rollback keeps the 5" back
    step "$name: helm test" "$helm" test telltale --namespace telltale --timeout 2m
    drained() {
        local node
        node=$(in_telltale get pod telltale-scorer-4 --output 'jsonpath={.spec.nodeName}') &&
            kubectl drain "$node" --ignore-daemonsets --delete-emptydir-data --force --timeout=10m && until_true 120 scaled 5 &&
            kubectl uncordon "$node"
    }
    step "$name: a drained node's pods come back elsewhere" drained
    gone() { uninstall "$helm" --keep-data && empties telltale; }
    step "$name: uninstall.sh leaves nothing of it" gone
}

# platform HELM PROFILE ARGUMENT...: of helm/platform, whose pods are the operators' to make.
platform() {
    local helm=$1 name="helm/platform $2 ($1)"
    shift 2
    local release=("$helm" upgrade --install platform helm/platform --namespace platform "$@")
    up() { "${release[@]}" && [[ -n $(objects platform) ]]; }
    step "$name: accepted" up
    upgrade() { "${release[@]}" --set hivemq.version=4.99.0 && in_platform get hivemq-platforms --output yaml | grep -q 4.99.0; }
    step "$name: upgraded" upgrade
    back() { "$helm" rollback platform --namespace platform && ! in_platform get hivemq-platforms --output yaml | grep -q 4.99.0; }
    step "$name: rolled back" back
    gone() { uninstall "$helm" --delete-data && empties platform; }
    step "$name: uninstall.sh --delete-data leaves nothing" gone
}

# numbered HELM: an upgrade after kubectl scale, where the values name a number.
numbered() {
    local helm=$1 name="helm/telltale with a number in the values ($1)"
    local release=("$helm" upgrade --install telltale helm/telltale --namespace telltale --set components.scorer.replicas=2)
    up() { "${release[@]}" --wait --timeout 5m && in_telltale scale statefulset telltale-scorer --replicas=3; }
    step "$name: installed, scaled by hand" up
    again() { "${release[@]}" --set-string podAnnotations.change=yes; }
    # Helm 4 leaves the decision to a person, Helm 3 takes the number of the values.
    if [[ $helm == helm ]]; then
        refuses "$name" 'conflict with "kubectl" .*\.spec\.replicas' again
    else
        back() { again && until_true 120 scaled 2; }
        step "$name: set back" back
    fi
    gone() { uninstall "$helm" --keep-data && empties telltale; }
    step "$name: uninstall.sh leaves nothing of it" gone
}

# Both versions of Helm live through the same; that both render the same manifests is for the other parts.
services helm default
services helm evaluation --values helm/telltale/values-evaluation.yaml
services helm full --values helm/telltale/values-full.yaml
# The profile names a number, which would be Helm's: see numbered.
services helm secured --values "$check/profiles/telltale/secured.yaml" --set components.scorer.replicas=null
services helm3 default
services helm3 full --values helm/telltale/values-full.yaml
platform helm default
for profile in helm/platform/values-*.yaml "$check"/profiles/platform/*.yaml; do
    platform helm "$(basename "$profile" .yaml)" --values "$profile"
done
platform helm3 default
for helm in helm helm3; do numbered "$helm"; done
