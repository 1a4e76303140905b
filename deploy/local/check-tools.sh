#!/bin/sh
# Checks what a build needs and names the package that brings what is missing.
set -u
missing=0

need() { # command, what it is for, package
    command -v "$1" >/dev/null 2>&1 && return
    echo "missing: $1 ($2). Debian, Ubuntu: apt-get install $3. Fedora: dnf install $4. macOS: $5" >&2
    missing=1
}

need cc "compiles librdkafka, OpenSSL and zstd" build-essential gcc "xcode-select --install"
need c++ "compiles librdkafka's build checks" build-essential gcc-c++ "xcode-select --install"
need make "builds librdkafka and OpenSSL" build-essential make "xcode-select --install"
need perl "configures OpenSSL" perl perl "comes with the system"
need cargo "builds Telltale" "rustup, then: rustup toolchain install stable" rustup "brew install rustup"

if command -v cargo >/dev/null 2>&1; then
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    found=$(rustc --version | cut -d' ' -f2)
    oldest=$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)
    if [ "$oldest" != "$wanted" ]; then
        echo "rustc $found is older than $wanted, which Telltale needs: rustup update stable" >&2
        missing=1
    fi
fi
exit "$missing"
