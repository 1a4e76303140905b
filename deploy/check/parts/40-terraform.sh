# terraform/: format, validity, its own tests, and for each size what would be made, against a stand-in for Google's provider.
# shellcheck shell=bash
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
need python helm
command -v terraform >/dev/null || { echo "  missing: terraform 1.9 or newer" >&2 && exit 1; }

# A copy, so that neither a lock file nor a state can be left beside the module: the stand-in's hashes must never be locked.
module=$scratch/terraform
mkdir -p "$module"
git ls-files -z --cached --others --exclude-standard -- terraform | xargs -0 cp --parents -t "$scratch"

# Versions of the stand-in are beyond any that Google publishes.
mirror=$scratch/mirror/registry.terraform.io/hashicorp/google/7.999.0/$(terraform version -json 2>/dev/null | python -c 'import json, sys; print(json.load(sys.stdin)["platform"])')
mkdir -p "$mirror" "$scratch/sockets"
# terraform passes its own environment to a provider, but not every one: say everything here.
printf '#!/bin/sh\nTELLTALE_STUB_SOCKETS=%s exec %s %s\n' "$scratch/sockets" "$tools/python/bin/python" "$check/terraform/stub.py" \
    >"$mirror/terraform-provider-google_v7.999.0_x6"
chmod +x "$mirror/terraform-provider-google_v7.999.0_x6"
printf 'provider_installation {\n  filesystem_mirror {\n    path = "%s"\n  }\n}\n' "$scratch/mirror" >"$scratch/terraformrc"
export TF_CLI_CONFIG_FILE=$scratch/terraformrc CHECKPOINT_DISABLE=1 TF_IN_AUTOMATION=1 TF_INPUT=0

tf() { terraform -chdir="$module" "$@" -no-color; }

# What a plan makes; what it gives to a chart.
made() { tf show -json "$1" | python "$check/terraform/plan.py" made; }
output() { tf show -json "$1" | python "$check/terraform/plan.py" output "$2"; }

planned() {
    local size=$1 plan=$scratch/$1.plan
    tf plan -var project=my-fleet-4711 -var "size=$size" -out "$plan" && made "$plan" >"$scratch/$size.txt" &&
        golden "$scratch/$size.txt" "$check/golden/terraform/$size.txt"
}

# rendered SIZE CHART: the chart takes the values that the size gives, and what it renders is valid.
rendered() {
    local given=$scratch/$1-$2.yaml more=()
    output "$scratch/$1.plan" "helm_values_$2" >"$given"
    [[ $2 == platform && $1 != S ]] && more=(--set confluent.acceptTrial=true)
    helm template telltale "helm/$2" --namespace "$2" --values "$given" "${more[@]}" >"$scratch/$1-$2-rendered.yaml" &&
        python "$check/validate.py" "$scratch/$1-$2-rendered.yaml" && python "$check/policy.py" "$scratch/$1-$2-rendered.yaml"
}

# Made, found as it was made, and taken away again; nothing is left in the state.
round_trip() {
    local settings=(-var project=my-fleet-4711 -var size=S -var deletion_protection=false)
    tf apply -auto-approve "${settings[@]}" && tf plan -detailed-exitcode "${settings[@]}" &&
        tf output -raw get_credentials && tf destroy -auto-approve "${settings[@]}" && [[ -z $(tf state list) ]]
}

step "terraform fmt" terraform fmt -check -recursive -diff terraform
step "terraform init, offline" tf init
step "terraform validate" tf validate
step "terraform test" tf test
for size in S L XL XXL; do
    step "terraform plan of size $size: golden file" planned "$size"
    for it in platform telltale; do
        [[ ! -e helm/$it/Chart.yaml ]] || step "helm/$it takes the values of size $size" rendered "$size" "$it"
    done
done
step "terraform apply, plan without changes, destroy" round_trip
refuses "no project" 'variable "project" is not set' tf plan
refuses "a project's name" "project is the project's id" tf plan -var 'project=My Fleet'
refuses "a wrong size" 'size is one of S' tf plan -var project=my-fleet-4711 -var size=M
refuses "a zone as the region" 'region is the name of a region' tf plan -var project=my-fleet-4711 -var region=europe-west1-b
