# helm/telltale: our services.
# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need helm python untt
folder=helm/telltale
chart "$folder"

step "telltale: policy and schemas find what is broken" python "$check/self_test.py" "$scratch/telltale-secured.yaml"
step "telltale: README says what values.yaml says" python "$check/readme.py" --check "$folder"
step "telltale: unit tests" untt --strict "$folder"

# The alerts fire and do not fire as alerts_test.yaml says; the dashboard's queries are PromQL.
if command -v promtool >/dev/null; then
    python "$check/rules.py" "$scratch/telltale-secured.yaml" >"$scratch/rules.yaml"
    cp "$check/alerts_test.yaml" "$scratch/"
    step "telltale: alerts" promtool check rules "$scratch/rules.yaml"
    step "telltale: unit tests of the alerts" promtool test rules "$scratch/alerts_test.yaml"
    python "$check/rules.py" --dashboard "$folder/files/dashboard.json" >"$scratch/dashboard.yaml"
    step "telltale: queries of the dashboard" promtool check rules "$scratch/dashboard.yaml"
else
    echo "  left out: alerts and dashboard were not checked as PromQL, since promtool is not there (deploy/check/tools.sh)"
fi

# What the programs are started with; crates/telltale/tests/chart.rs starts them on it.
environments() {
    local rendered=() it
    for it in "$scratch"/telltale-*.yaml; do
        [[ $it == *-3.yaml ]] || rendered+=("$(basename "$it" .yaml | cut -d- -f2-)=$it")
    done
    python "$check/environments.py" "${rendered[@]}" >"$scratch/environments.json"
    golden "$scratch/environments.json" "$check/golden/telltale/environments.json"
}
step "telltale: what the programs are started with" environments

render() { helm template telltale "$folder" "${render[@]}" "$@"; }
refuses "a misspelt value" "additional properties 'replica' not allowed" render --set components.scorer.replica=2
refuses "a setting that the program does not have" "additional properties 'WORKER' not allowed" render --set components.scorer.settings.WORKER=2
refuses "a value of the wrong type" "got string, want boolean" render --set-string mqtt.tls=yes
refuses "a quantity that is none" "does not match pattern" render --set components.scorer.resources.limits.memory=1GB
refuses "no limit of memory" "missing property 'memory'" render --set components.scorer.resources.limits.memory=null
refuses "the tag latest" "'not' failed" render --set image.tag=latest
refuses "SASL without a Secret" "set kafka.user, and kafka.passwordSecret.name to an existing Secret" render --set kafka.security=sasl-tls
refuses "certificates without TLS" "kafka.security is plaintext, which takes no certificates" render --set kafka.caSecret.name=ca
refuses "a user of the broker without a Secret" "set mqtt.passwordSecret.name" render --set mqtt.user=me
refuses "several bridges that each move every message" "each bridge would move every message" render --set components.bridge.replicas=2
refuses "more pods than partitions" "components.scorer may have 7 pods, but topics.partitions is 6" render --set components.scorer.replicas=7
refuses "two trainers" "maximum" render --set components.trainer.replicas=2
cluster=(--api-versions apiregistration.k8s.io/v1)
refuses "KEDA where it is not installed" "the cluster has no keda.sh/v1alpha1" render "${cluster[@]}" --set components.scorer.autoscaling.mode=keda
refuses "a ServiceMonitor without the operator" "the cluster has no monitoring.coreos.com/v1" render "${cluster[@]}" --set monitoring.serviceMonitor.enabled=true

# Secrets are looked up where there is a cluster: here a stub of one, with one key of the two.
stub=$scratch/kubeconfig
python "$check/api_stub.py" "$stub" telltale-model-keys=signing-key.pem &
stub_pid=$!
for _ in $(seq 600); do
    [[ ! -s $stub ]] || break
    sleep 0.1
done
against_cluster() {
    local helm=$1
    shift
    "$helm" template telltale "$folder" "${render[@]}" --kubeconfig "$stub" --dry-run=server --disable-openapi-validation "$@"
}
for helm in helm helm3; do
    refuses "a missing Secret ($helm)" "Secret telltale-model-keys of namespace telltale is missing or has no key verifying-key.pem; make it: telltale keys generate" \
        against_cluster "$helm"
    refuses "a missing password ($helm)" "Secret broker of namespace telltale is missing or has no key password" \
        against_cluster "$helm" --set mqtt.user=me,mqtt.passwordSecret.name=broker
    step "telltale: with all Secrets ($helm)" against_cluster "$helm" --set 'models.verifyingKeys={signing-key.pem}'
    step "telltale: checkSecrets=false asks for none ($helm)" against_cluster "$helm" --set checkSecrets=false
done
kill "$stub_pid"
