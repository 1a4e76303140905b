# helm/platform: every profile, what it refuses, and that its topics and schemas are those of the code.
# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need helm untt python

chart helm/platform --namespace platform
step "helm/platform: README says what values.yaml says" python "$check/readme.py" --check helm/platform
step "helm/platform: unit tests" untt --strict helm/platform

render() { helm template platform helm/platform --namespace platform "$@"; }
refuses "a misspelt value" "additional properties 'broker' not allowed" render --set kafka.broker=3
refuses "a provider that is none" "must be one of 'confluent', 'strimzi', 'external'" render --set provider=redpanda
refuses "three brokers without a word on the trial" "3 brokers start Confluent's 30-day trial" render --set kafka.brokers=3
refuses "two brokers" "2 brokers keep less than one does" render --set kafka.brokers=2
refuses "external without servers" "needs external.bootstrap" render --set provider=external
# The API that says that there is a cluster, and nothing of the vendors.
refuses "a missing CRD" "does not know Kafka of platform.confluent.io/v1beta1.*install-operators.sh confluent" \
    render --api-versions apiregistration.k8s.io/v1/APIService
