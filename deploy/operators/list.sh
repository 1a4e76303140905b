# shellcheck shell=bash disable=SC2154 # $here is set by the script that sources this
# Reads ../operators.yaml, and what the scripts beside it share.

die() {
    echo "error: $*" >&2
    exit 1
}

# need TOOL...: ends the script if one is missing.
need() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || die "$tool is not installed"
    done
}

# A cluster must answer; which one is said, since all that follows is done to it.
reach_cluster() {
    local context
    context=$(kubectl config current-context 2>/dev/null) ||
        die "kubectl has no cluster: \`terraform -chdir=terraform output -raw get_credentials\` prints the command that gives it one"
    kubectl version --request-timeout=15s >/dev/null 2>&1 || die "the cluster of context $context does not answer"
    echo "cluster: $context"
}

operators() { sed -nE 's/^([a-z]+):$/\1/p' "$here/operators.yaml"; }

# of OPERATOR KEY: the value below the operator's name.
of() {
    awk -v name="$1:" -v key="$2:" '/^[a-z]+:$/ { inside = ($0 == name) } inside && $1 == key { print $2 }' "$here/operators.yaml"
}

# known OPERATOR...: ends the script on a name that operators.yaml does not have.
known() {
    local it
    for it in "$@"; do
        [[ " $(operators | paste -sd ' ') " == *" $it "* ]] || die "there is no operator $it, but: $(operators | paste -sd ' ')"
    done
}

release() { helm status "$1" --namespace "$2" >/dev/null 2>&1; }
