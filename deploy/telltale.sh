#!/usr/bin/env bash
# Runs a command of `telltale` inside the cluster, with the settings of the scorer there, and prints what it prints.
#
#   usage: deploy/telltale.sh [--signing-key] COMMAND [ARGUMENT]...
#          deploy/telltale.sh models list
#          deploy/telltale.sh --signing-key models rollback 7 --signing-key /keys/signing-key.pem
#
# --signing-key mounts the Secret with the key that signs models below /keys: only for a rollback.
set -euo pipefail

namespace=${NAMESPACE:-telltale}
release=${RELEASE:-telltale}

die() {
    echo "error: $*" >&2
    exit 1
}

with_key=false
if [[ ${1-} == --signing-key ]]; then with_key=true && shift; fi
(($# > 0)) || die "say a command, such as: deploy/telltale.sh models list"
command -v kubectl >/dev/null || die "kubectl is not installed"

# Arrays and objects come out of kubectl as JSON, so nothing has to be parsed here.
scorer() { kubectl --namespace "$namespace" get statefulset "$release-scorer" --output "jsonpath={.spec.template.spec.$1}"; }

image=$(scorer 'containers[0].image') || die "there is no scorer in namespace $namespace: install helm/telltale first"
image=$(sed -E 's,/scorer([:@]),/telltale\1,' <<<"$image")
[[ $image != *@* ]] || die "the chart names images by digest: run the image of telltale by hand, its digest is another one"
mounts=$(scorer 'containers[0].volumeMounts')
volumes=$(scorer volumes)
mounts=${mounts:-[]} volumes=${volumes:-[]}
if $with_key; then
    secret=${MODEL_KEYS:-telltale-model-keys}
    mounts="${mounts%]}$([[ $mounts == "[]" ]] || echo ,){\"name\":\"keys-that-sign\",\"mountPath\":\"/keys\",\"readOnly\":true}]"
    volumes="${volumes%]}$([[ $volumes == "[]" ]] || echo ,){\"name\":\"keys-that-sign\",\"secret\":{\"secretName\":\"$secret\",\"defaultMode\":288}}]"
fi
arguments=
for it in "$@"; do
    it=${it//\\/\\\\}
    arguments+="${arguments:+,}\"${it//\"/\\\"}\""
done

name=telltale-$(date +%s)
# The labels are those of the probe, which may reach Kafka and the registry.
labels="app.kubernetes.io/name=probe,app.kubernetes.io/instance=$release"
exec kubectl --namespace "$namespace" run "$name" --rm --stdin --quiet --restart=Never \
    --image="$image" --labels="$labels" --override-type=strategic --overrides="{\"spec\":{
        \"automountServiceAccountToken\":false,\"enableServiceLinks\":false,
        \"securityContext\":$(scorer securityContext),\"volumes\":$volumes,
        \"containers\":[{\"name\":\"$name\",\"image\":\"$image\",\"stdin\":true,\"args\":[$arguments],
            \"env\":$(scorer 'containers[0].env'),\"volumeMounts\":$mounts,
            \"resources\":{\"requests\":{\"cpu\":\"50m\",\"memory\":\"64Mi\"},\"limits\":{\"memory\":\"512Mi\"}},
            \"securityContext\":$(scorer 'containers[0].securityContext')}]}}"
