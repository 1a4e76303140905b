#!/usr/bin/env bash
# Builds the images of our programs with docker, podman or buildah, whichever is there; `make images`.
#
#   usage: images.sh [--registry PATH] [--tag TAG] [--push] [PROGRAM]... [-- WORD...]
#   Without PROGRAM all of them. IMAGE_TOOL=docker|podman|buildah chooses the tool; words after -- go to its build command.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
all=(simulator bridge preprocessor trainer scorer telltale)

die() { echo "images.sh: $*" >&2 && exit 2; }

registry=telltale push=no programs=() more=()
tag=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
while (($# > 0)); do
    case $1 in
        --registry | --tag)
            (($# > 1)) || die "$1 has no value"
            if [[ $1 == --registry ]]; then registry=${2%/}; else tag=$2; fi
            shift
            ;;
        --push) push=yes ;;
        --) shift && more=("$@") && break ;;
        -*) die "unknown option $1; there are --registry PATH, --tag TAG and --push" ;;
        *)
            [[ " ${all[*]} " == *" $1 "* ]] || die "there is no image $1, but: ${all[*]}"
            programs+=("$1")
            ;;
    esac
    shift
done
((${#programs[@]} > 0)) || programs=("${all[@]}")
compiled=("${programs[@]/#/--bin telltale-}")
compiled=("${compiled[@]/%telltale-telltale/telltale}")
[[ $tag != latest ]] || die "an image needs a version; the chart refuses latest"

# Docker is two programs: its client alone builds nothing.
usable() { command -v "$1" >/dev/null && { [[ $1 != docker ]] || docker info >/dev/null 2>&1; }; }

tool=${IMAGE_TOOL-}
for it in docker podman buildah; do
    [[ -n $tool ]] || ! usable "$it" || tool=$it
done
[[ -n $tool ]] || die "neither podman nor buildah is installed, nor docker with its daemon running"

revision=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)
# The commit's time, not the wall clock's: the same commit gives the same image.
seconds=$(git -C "$root" show -s --format=%ct HEAD 2>/dev/null || echo 0)
arguments=(
    --file "$here/Dockerfile"
    --build-arg "PROGRAMS=${compiled[*]}"
    --build-arg "VERSION=$tag"
    --build-arg "REVISION=$revision"
    --build-arg "CREATED=$(date --utc --date="@$seconds" +%Y-%m-%dT%H:%M:%SZ)"
)
case $tool in
    docker) build=(docker build) && export DOCKER_BUILDKIT=1 ;;
    *) build=("$tool" build --layers --timestamp "$seconds" --ignorefile "$here/Dockerfile.dockerignore") ;;
esac

for program in "${programs[@]}"; do
    image=$registry/$program:$tag
    echo "$tool: $image"
    "${build[@]}" "${arguments[@]}" "${more[@]}" --target "$program" --tag "$image" "$root"
    [[ $push == no ]] || "$tool" push "$image"
done
