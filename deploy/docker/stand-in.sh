#!/usr/bin/env bash
# Makes an image with the name of our Dockerfile's base from the toolchain of this machine, so that the Dockerfile can be built
# where no registry of images can be reached; for checks, never for images that go anywhere.
#
#   this machine: /usr, Rust, cargo's registry (mounted, read-only) ─┐
#   cargo-chef, cargo-auditable at the Dockerfile's versions ────────┼─▶ docker.io/library/rust:…, and the words for images.sh
#   what was compiled so far (mounted): a build that is cut goes on ─┘
#
#   usage: unshare --net deploy/docker/images.sh … -- $(deploy/docker/stand-in.sh)
# Needs buildah, run by root, a machine of Debian 12 with the Dockerfile's version of Rust, and every crate of Cargo.lock fetched.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${TELLTALE_IMAGE_TOOLS:-$HOME/.cache/telltale/image-tools}
base=$(sed -n 's/^FROM \(docker\.io[^ ]*\) AS tools$/\1/p' "$here/Dockerfile")
read -ra crates <<<"$(sed -n 's/^RUN cargo install --locked //p' "$here/Dockerfile")"
toolchain=$(rustc --print sysroot)
registry=${CARGO_HOME:-$HOME/.cargo}/registry

die() { echo "stand-in.sh: $*" >&2 && exit 1; }
wanted=${base##*:} && wanted=${wanted%%-*}
[[ $(rustc --version) == "rustc $wanted."* ]] || die "$base has Rust $wanted, but here is $(rustc --version)"

cargo install --quiet --locked --root "$cache" "${crates[@]}" >&2
# Files in a layer have the commit's time, by which cargo cannot tell what has changed: our own crates begin anew.
mkdir -p "$cache/target"
rm -rf "$cache"/target/dist/.fingerprint/telltale-*

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{cargo/bin,cargo/registry,dev,etc/ssl/certs,proc,root,source,stand-in,sys,tmp,toolchain,usr}
for it in bin lib lib64 sbin; do ln -s "usr/$it" "$root/$it"; done
cp -a /etc/alternatives /etc/ld.so.cache /etc/ld.so.conf /etc/ld.so.conf.d "$root/etc/"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo 'root:x:0:0:root:/root:/bin/bash' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
cp "$cache"/bin/cargo-* "$root/cargo/bin/"
cp "$cache"/.crates* "$root/cargo/"
# What the Dockerfile would install is in the mounted /usr.
printf '#!/bin/sh\nexit 0\n' >"$root/stand-in/apt-get"
chmod 755 "$root/stand-in/apt-get"

container=$(buildah from scratch)
buildah add --quiet "$container" "$root" / >&2
buildah config --env PATH=/stand-in:/cargo/bin:/toolchain/bin:/usr/bin:/bin --env CARGO_HOME=/cargo \
    --env CARGO_NET_OFFLINE=true "$container" >&2
buildah commit --quiet --rm "$container" "$base" >&2

echo "--pull=never --isolation=chroot --volume=/usr:/usr:ro --volume=$toolchain:/toolchain:ro --volume=$registry:/cargo/registry:ro --volume=$cache/target:/source/target"
