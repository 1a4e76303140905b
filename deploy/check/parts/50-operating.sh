# What people operate with: a runbook for each alert, and the scripts against stand-ins for helm and kubectl.
# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need python

alerts() { sed -nE 's/^ *- alert: (\w+)$/\1/p' helm/telltale/files/alerts.yaml | sort; }
runbooks() { sed -nE 's/^## (\w+)$/\1/p' deploy/runbooks.md | sort; }
same_names() { diff <(alerts) <(runbooks); }
[[ ! -e helm/telltale/files/alerts.yaml ]] || step "each alert has its runbook, and each runbook its alert" same_names

# Links between our pages, and the files and scripts that they name.
links() {
    local page target bad=0
    for page in deploy/README.md deploy/runbooks.md terraform/README.md helm/platform/README.md; do
        while read -r target; do
            [[ -e $(dirname "$page")/$target ]] || { echo "$page: $target is not there" && bad=1; }
        done < <(grep -oE '\]\([^)#]+' "$page" | cut -c3- | grep -v '^http')
        while read -r target; do
            [[ -e $target ]] || { echo "$page: $target is not there" && bad=1; }
        done < <(grep -oE '\bdeploy/[a-z-]+\.(sh|yaml|md)\b|\bhelm/(platform|telltale)/values-[a-z-]+\.yaml' "$page" | sort -u)
    done
    return "$bad"
}
step "links in the pages on operating" links

# The stand-ins remember releases, resources and disks in a folder, and write down every call.
export FAKE_CLUSTER=$scratch/cluster
export PATH="$check/fakes:$PATH"
fresh() { rm -rf "$FAKE_CLUSTER" && mkdir -p "$FAKE_CLUSTER"; }
calls() { cat "$FAKE_CLUSTER/calls"; }
compared() { golden "$1" "$check/golden/operating/$(basename "$1")"; }

installed_twice() {
    fresh
    deploy/install-operators.sh && deploy/install-operators.sh >/dev/null && calls >"$scratch/install.txt" && compared "$scratch/install.txt"
}
step "install-operators.sh, twice" installed_twice

all_others() { fresh && deploy/install-operators.sh strimzi mongodb keda; }
step "install-operators.sh of the others" all_others

# lived_in: a cluster with everything installed, with topics and disks.
lived_in() {
    fresh
    deploy/install-operators.sh >/dev/null
    helm upgrade --install platform helm/platform --namespace platform
    helm upgrade --install telltale helm/telltale --namespace telltale
    kubectl fake-data
}

kept() {
    lived_in && deploy/uninstall.sh --keep-data >"$scratch/keep-data.txt" && compared "$scratch/keep-data.txt" &&
        grep -q kafkatopics "$FAKE_CLUSTER/resources"
}
step "uninstall.sh --keep-data keeps topics and names the disks" kept

deleted() {
    lived_in && : >"$FAKE_CLUSTER/calls" && deploy/uninstall.sh --delete-data --operators >"$scratch/delete-data.txt" &&
        calls >>"$scratch/delete-data.txt" && compared "$scratch/delete-data.txt" &&
        [[ ! -s $FAKE_CLUSTER/resources && ! -s $FAKE_CLUSTER/releases && ! -s $FAKE_CLUSTER/volumes ]] &&
        deploy/uninstall.sh --delete-data --operators
}
step "uninstall.sh --delete-data --operators leaves nothing, and again is harmless" deleted

stuck() { lived_in && FAKE_STUCK=kafkatopics deploy/uninstall.sh --delete-data; }
refuses "topics that cannot be deleted" 'kafkatopics.* are still there after 5m.*operator cannot reach Kafka' stuck
refuses "uninstall.sh without a word on data" 'say --keep-data, or --delete-data' deploy/uninstall.sh
refuses "operators away, topics kept" '--operators goes with --delete-data only' deploy/uninstall.sh --keep-data --operators
refuses "an operator that is none" 'there is no operator nats, but: confluent hivemq' deploy/install-operators.sh nats
no_cluster() { FAKE_CONTEXT=none deploy/install-operators.sh; }
refuses "no cluster" 'kubectl has no cluster: .*get_credentials' no_cluster

# `kubectl run` gets whole JSON, with the words as they were given.
command_line() {
    fresh
    kubectl fake-scorer
    deploy/telltale.sh --signing-key models rollback 7 --signing-key '/keys/a "b".pem' >"$scratch/telltale.json" &&
        python -c 'import json, sys
spec = json.load(sys.stdin)["spec"]
container = spec["containers"][0]
assert container["args"] == ["models", "rollback", "7", "--signing-key", "/keys/a \"b\".pem"], container["args"]
assert container["image"] == "example.com/fleet/telltale:0.1.0", container["image"]
assert [it["mountPath"] for it in container["volumeMounts"]] == ["/etc/keys", "/keys"], container["volumeMounts"]
assert container["securityContext"]["readOnlyRootFilesystem"] and spec["securityContext"]["runAsNonRoot"]' <"$scratch/telltale.json"
}
step "telltale.sh hands its words on" command_line
no_scorer() { fresh && deploy/telltale.sh models list; }
refuses "telltale.sh before the services" 'there is no scorer in namespace telltale' no_scorer
