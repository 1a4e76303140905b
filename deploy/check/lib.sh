# Sourced by every part of deploy/check.sh: the tools on the PATH, steps, and the checks that every chart gets.
# shellcheck shell=bash
set -euo pipefail

tools=${TELLTALE_TOOLS:-$HOME/.cache/telltale/tools}
check=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PATH="$tools/bin:$PATH"
# Helm keeps its settings and caches away from the user's, and looks at no cluster.
HELM_HOME=$(mktemp -d)
scratch=$HELM_HOME/scratch
mkdir -p "$scratch"
export HELM_CACHE_HOME=$HELM_HOME HELM_CONFIG_HOME=$HELM_HOME HELM_DATA_HOME=$HELM_HOME KUBECONFIG=/dev/null
failures=0
# How charts are rendered: as for the oldest Kubernetes that they are for.
render=(--namespace telltale --kube-version 1.33.0)
finish() {
    local status=$?
    rm -rf "$HELM_HOME"
    ((failures == 0)) || status=1
    exit "$status"
}
trap finish EXIT

# report OUTPUT: what a tool said, indented; the end of it if it is long.
report() {
    local text
    text=$(tail -n 60 <<<"$1")
    printf '          %s\n' "${text//$'\n'/$'\n'          }"
}

# need TOOL...: ends the part with what to do if one is missing.
need() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null && continue
        echo "  missing: $tool. Install the pinned tools once: deploy/check/tools.sh" >&2
        exit 1
    done
}

# step NAME COMMAND...: runs the command, prints one line, and its output only if it fails. The part goes on.
step() {
    local name=$1 output
    shift
    if output=$("$@" 2>&1); then
        printf '  ok      %s\n' "$name"
    else
        printf '  FAILED  %s\n' "$name"
        report "$output"
        failures=$((failures + 1))
    fi
}

# refuses NAME PATTERN COMMAND...: the command must fail, and say something that matches the pattern: what a user sees.
refuses() {
    local name=$1 pattern=$2 output
    shift 2
    if output=$("$@" 2>&1); then
        output="it was accepted"
    elif grep -qE -- "$pattern" <<<"$output"; then
        printf '  ok      refused: %s\n' "$name"
        return
    fi
    printf '  FAILED  refused: %s (expected: %s)\n' "$name" "$pattern"
    report "$output"
    failures=$((failures + 1))
}

# golden FILE EXPECTED: compares, or rewrites where UPDATE_GOLDEN=1.
golden() {
    if [[ ${UPDATE_GOLDEN-} == 1 ]]; then
        mkdir -p "$(dirname "$2")"
        cp "$1" "$2"
    fi
    diff -u "$2" "$1" || { echo "differs from $2; if it should: UPDATE_GOLDEN=1 make check-deploy" && return 1; }
}

# chart FOLDER: lints, renders every profile with Helm 4 and 3, compares with the golden files, validates against the
# schemas of Kubernetes and of the custom resources, and checks the policy. A profile is values-*.yaml of the chart, or
# a file of check/profiles/CHART/; "default" is none. A profile that begins with "# needs: FILE" goes on top of FILE.
# Further arguments go to helm template, such as --api-versions.
chart() {
    local folder=$1 name profile values base out
    shift
    name=$(basename "$folder")
    need helm helm3 kubernetes-validate python
    for profile in default "$folder"/values-*.yaml "$check/profiles/$name"/*.yaml; do
        values=() base=
        if [[ $profile != default ]]; then
            [[ -e $profile ]] || continue
            base=$(sed -n '1s/^# needs: //p' "$profile")
            [[ -z $base ]] || values+=(--values "$base")
            values+=(--values "$profile")
            profile=$(basename "$profile" .yaml)
            profile=${profile#values-}
        elif [[ -e $check/profiles/$name/no-default ]]; then
            continue # the chart asks for a value that has no default
        fi
        out=$scratch/$name-$profile
        step "$name $profile: lint" helm lint --strict --kube-version 1.33.0 "$folder" "${values[@]}"
        if ! helm template telltale "$folder" "${render[@]}" "$@" "${values[@]}" >"$out.yaml" 2>"$out.error"; then
            step "$name $profile: template" cat "$out.error" /nonexistent
            continue
        fi
        helm3 template telltale "$folder" "${render[@]}" "$@" "${values[@]}" >"$out-3.yaml" 2>&1 || true
        step "$name $profile: Helm 3 renders the same" diff -u --ignore-blank-lines "$out.yaml" "$out-3.yaml"
        step "$name $profile: golden file" golden "$out.yaml" "$check/golden/$name/$profile.yaml"
        step "$name $profile: schemas" python "$check/validate.py" "$out.yaml"
        step "$name $profile: policy" python "$check/policy.py" "$out.yaml"
    done
}
