#!/usr/bin/env bash
# Checks the images that images.sh built with buildah, and starts each under runc as a cluster would.
#
#   image ─▶ size, user, labels, list of crates
#   telltale engines ─▶ every service: uid 65532, root read-only, no capabilities ─▶ SIGTERM ─▶ exit 0 within the grace period
#
#   usage: test-images.sh [--registry PATH] [--tag TAG] [PROGRAM]...       by root; needs buildah, runc, curl, python3 and objcopy
set -euo pipefail

# shellcheck source=arguments.sh
. "$(dirname "${BASH_SOURCE[0]}")/arguments.sh"
[[ $push == no && ${#more[@]} == 0 ]] || die "images are tested here, not built or pushed"
# Megabytes. The preprocessor holds a database engine, the command line holds everything.
declare -A most=([simulator]=40 [bridge]=40 [trainer]=40 [scorer]=40 [preprocessor]=150 [telltale]=200)
# The chart's: drainSeconds and ten more.
grace=30

((EUID == 0)) || die "runc needs root here"
for it in buildah runc curl python3 objcopy; do command -v "$it" >/dev/null || die "$it is not installed"; done

work=$(mktemp -d)
declare -A pids
containers=()
failures=0
end_all() {
    local name
    for name in "${!pids[@]}"; do runc --root "$work/runc" delete --force "$name" >/dev/null 2>&1 || true; done
    ((${#containers[@]} == 0)) || buildah rm "${containers[@]}" >/dev/null || true
    rm -rf "$work"
}
trap end_all EXIT

# is NAME WANTED FOUND: one line.
is() {
    if [[ $2 == "$3" ]]; then
        printf '  ok      %s: %s\n' "$1" "$3"
    else
        printf '  FAILED  %s: %s, wanted %s\n' "$1" "$3" "$2"
        failures=$((failures + 1))
    fi
}
no_more() {
    if (($2 <= $3)); then is "$1" "$2" "$2"; else is "$1" "at most $3" "$2"; fi
}

# mounted PROGRAM: the folder with the image's files.
mounted() {
    local program=$1 container
    container=$(buildah from --pull-never "$registry/$program:$tag") || die "there is no image $registry/$program:$tag: deploy/docker/images.sh"
    containers+=("$container")
    folder=$(buildah mount "$container")
}
of_image() { buildah inspect --type image --format "{{$2}}" "$registry/$1:$tag"; }
label() { of_image "$1" "index .OCIv1.Config.Labels \"org.opencontainers.image.$2\""; }

# What cargo-auditable wrote into the program: compressed JSON in a section of its own.
crates() {
    rm -f "$work/crates"
    objcopy --dump-section ".dep-v0=$work/crates" "$1" /dev/null 2>/dev/null || true
    [[ -s $work/crates ]] || { echo none && return; }
    python3 - "$work/crates" <<'PYTHON'
import json, sys, zlib
packages = json.loads(zlib.decompress(open(sys.argv[1], "rb").read()))["packages"]
names = {it["name"] for it in packages}
print("listed" if "tokio" in names and any(it.startswith("telltale") for it in names) else f"{len(packages)} without ours")
PYTHON
}

described() {
    local program=$1 folder entry
    mounted "$program"
    no_more "size, MB" "$((($(du --summarize --bytes "$folder" | cut -f1) + 999999) / 1000000))" "${most[$program]}"
    is "user" 65532:65532 "$(of_image "$program" .OCIv1.Config.User)"
    entry=$(of_image "$program" 'index .OCIv1.Config.Entrypoint 0')
    is "crates in the program" listed "$(crates "$folder$entry")"
    is "files that others may write" "" "$(find "$folder" -xdev -type f -perm /022)"
    is "files with the privileges of their owner" "" "$(find "$folder" -xdev -type f -perm /6000)"
    is "shells" "" "$(find "$folder" -xdev -name '*sh' -perm /111 -type f)"
    is "--version" "$version" "$(chroot --userspec=65532:65532 "$folder" "$entry" --version | awk '{ print $NF }')"
    is "label version" "$tag" "$(label "$program" version)"
    for it in title description vendor licenses revision created; do
        [[ -n $(label "$program" "$it") ]] || is "label $it" "a text" "none"
    done
}

# start NAME PROGRAM VARIABLE=VALUE... [-- ARGUMENT...]: in a container as the chart's pods are, but with this machine's network.
# /shared is a folder of this machine, read-only unless SHARED=rw.
start() {
    local name=$1 program=$2 folder environment=() arguments=()
    shift 2
    while (($# > 0)) && [[ $1 != -- ]]; do environment+=("$1") && shift; done
    (($# == 0)) || { shift && arguments=("$@"); }
    mounted "$program"
    mkdir -p "$work/$name"
    python3 - "$folder" "$(of_image "$program" 'index .OCIv1.Config.Entrypoint 0')" "$work/shared" "${SHARED:-ro}" "${#arguments[@]}" "${arguments[@]}" "${environment[@]}" \
        >"$work/$name/config.json" <<'PYTHON'
import json, sys
folder, entry, shared, how, count, *rest = sys.argv[1:]
arguments, environment = rest[: int(count)], rest[int(count) :]
mount = lambda to, kind, source, *options: {"destination": to, "type": kind, "source": source, "options": list(options)}
print(json.dumps({
    "ociVersion": "1.0.2",
    "root": {"path": folder, "readonly": True},
    "process": {
        "user": {"uid": 65532, "gid": 65532},
        "args": [entry, *arguments],
        "env": ["SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt", *environment],
        "cwd": "/",
        "noNewPrivileges": True,
        "capabilities": {},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 4096, "soft": 1024}],
    },
    "mounts": [
        mount("/proc", "proc", "proc"),
        mount("/dev", "tmpfs", "tmpfs", "nosuid", "mode=755"),
        mount("/shared", "bind", shared, "rbind", how),
    ],
    "linux": {"namespaces": [{"type": it} for it in ("pid", "ipc", "uts", "mount")], "maskedPaths": ["/proc/kcore"]},
}))
PYTHON
    : >"$work/$name.log"
    runc --root "$work/runc" run --bundle "$work/$name" "$name" >>"$work/$name.log" 2>&1 &
    pids[$name]=$!
}

fail() {
    echo "$*" >&2
    tail -n 10 "$work"/*.log >&2
    exit 1
}

# until_true NAME COMMAND...: as long as the container runs, for two minutes.
until_true() {
    local name=$1
    shift
    for _ in $(seq 480); do
        "$@" && return
        kill -0 "${pids[$name]}" 2>/dev/null || fail "$name has ended"
        sleep 0.25
    done
    fail "$name: not so within two minutes: $*"
}
plain() { sed 's/\x1b\[[0-9;]*m//g' "$work/$1.log"; }
address() { plain "$1" | sed -n 's/.*serving.*address=\([0-9.:]*\).*/\1/p' | tail -n 1; }
alive() { [[ -n $(address "$1") ]] && curl --silent --fail --max-time 5 "http://$(address "$1")/livez" >/dev/null; }

# ended NAME: after SIGTERM, with 0, within the grace period.
ended() {
    local name=$1 began=$SECONDS code=0 watchdog
    runc --root "$work/runc" kill "$name" TERM
    (sleep "$grace" && runc --root "$work/runc" kill "$name" KILL) >/dev/null 2>&1 &
    watchdog=$!
    wait "${pids[$name]}" || code=$?
    kill "$watchdog" 2>/dev/null || true
    wait "$watchdog" 2>/dev/null || true
    runc --root "$work/runc" delete --force "$name" >/dev/null 2>&1 || true
    unset "pids[$name]"
    is "after SIGTERM, in $((SECONDS - began)) of $grace s, exit code" 0 "$code"
    ((code == 0)) || tail -n 5 "$work/$name.log"
}

# What the kernel says of the container's first process.
confined() {
    local name=$1 pid status
    pid=$(runc --root "$work/runc" state "$name" | python3 -c 'import json, sys; print(json.load(sys.stdin)["pid"])')
    status=/proc/$pid/status
    is "user and group" "65532 65532" "$(awk '/^Uid:/ { uid = $3 } /^Gid:/ { print uid, $3 }' "$status")"
    is "capabilities" 0000000000000000 "$(awk '/^CapEff:/ { print $2 }' "$status")"
    is "new privileges" 1 "$(awk '/^NoNewPrivs:/ { print $2 }' "$status")"
    is "root" ro "$(awk '$5 == "/" { split($6, options, ","); print options[1] }' "/proc/$pid/mountinfo")"
}

for program in "${programs[@]}"; do
    echo "$registry/$program:$tag"
    described "$program"
done

# once NAME ARGUMENT...: the command line, which must end well.
once() {
    local name=$1 code=0
    shift
    start "$name" telltale "${connection[@]}" -- "$@"
    wait "${pids[$name]}" || code=$?
    unset "pids[$name]"
    ((code == 0)) || fail "telltale $1 ended with $code"
}

# The engines come out of an image as well; they and the services share this machine's loopback.
install --directory --owner 65532 --group 65532 "$work/shared"
start engines telltale -- engines --kafka-port 0 --mqtt-port 0 --registry-port 0
engine() { plain engines | sed -n "s/^$1 *\(http:..\)\?\(127\.0\.0\.1:[0-9]*\)$/\2/p"; }
engines_there() { [[ -n $(engine "schema registry") ]]; }
until_true engines engines_there
connection=("KAFKA=$(engine "Kafka log")" "REGISTRY=http://$(engine "schema registry")" "MQTT=$(engine "MQTT broker")")
once topics topics create --partitions 1
SHARED=rw once keys keys generate --out /shared/keys
keys=(SIGNING_KEY=/shared/keys/signing-key.pem TRUSTED_KEY=/shared/keys/verifying-key.pem)

for program in "${programs[@]}"; do
    [[ $program != telltale ]] || continue
    echo "$registry/$program:$tag, started"
    more=()
    case $program in
        simulator) more=(CARS=5) ;;
        bridge) more=(MQTT_CLIENT_ID=bridge-0) ;;
        trainer) more=("${keys[@]}") ;;
        scorer) more=("${keys[1]}" IDENTITY=scorer-0) ;;
        preprocessor) more=(IDENTITY=preprocessor-0) ;;
    esac
    start "$program" "$program" "${connection[@]}" HTTP_ADDRESS=127.0.0.1:0 DRAIN_TIMEOUT=20s "${more[@]}"
    until_true "$program" alive "$program"
    confined "$program"
    ended "$program"
done
if [[ " ${programs[*]} " == *" telltale "* ]]; then
    echo "$registry/telltale:$tag, started"
    confined engines
    ended engines
fi

if ((failures > 0)); then
    echo "$failures checks failed" >&2
    exit 1
fi
echo "all images are as they should be"
