#!/usr/bin/env bash
# Builds the images of our programs with docker, podman or buildah, whichever is there; `make images`.
#
#   usage: images.sh [--registry PATH] [--tag TAG] [--push] [PROGRAM]... [-- WORD...]
#   Without PROGRAM all of them. IMAGE_TOOL=docker|podman|buildah chooses the tool; words after -- go to its build command.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=arguments.sh
. "$here/arguments.sh"
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
