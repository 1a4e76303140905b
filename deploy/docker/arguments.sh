# Sourced by images.sh and test-images.sh: the programs that have an image, and what both scripts are told.
#
#   [--registry PATH] [--tag TAG] [--push] [PROGRAM]... [-- WORD...] ─▶ registry, tag, push, programs, more
#
# shellcheck shell=bash disable=SC2034 # the variables are read by who sources this

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
all=(simulator bridge preprocessor trainer scorer telltale)

die() { echo "$(basename "$0"): $*" >&2 && exit 2; }

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
registry=telltale tag=$version push=no programs=() more=()
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
