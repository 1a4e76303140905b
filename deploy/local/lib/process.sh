# shellcheck shell=bash disable=SC2154 # the settings (dir, patience) are set by engines.sh
# Processes we start: found again by pid, recognised by a mark on their command line, ended by that pid only.

die() {
    echo "error: $*" >&2
    exit 1
}

# One `up` or `down` at a time for a folder; a lock whose holder is gone is taken over.
lock() {
    local held=$dir/run/lock holder
    if ! mkdir "$held" 2>/dev/null; then
        holder=$(cat "$held/pid" 2>/dev/null || true)
        if [[ -n $holder ]] && [[ $(command_line "$holder") == *engines.sh* ]]; then
            die "another make up or make down works on $dir (process $holder): wait for it"
        fi
    fi
    echo $$ >"$held/pid"
    # shellcheck disable=SC2064 # the path is that of now
    trap "rm -rf '$held'" EXIT
}

command_line() { ps -ww -o args= -p "$1" 2>/dev/null || true; }

# The mark names the engine's data folder, so that a pid used again by a stranger is never taken for ours.
mark() { printf -- '-Dtelltale.engine=%s' "$dir/data/$1"; }

# Prints the pid of engine $1 if it runs. A zombie has no command line, so it counts as ended.
owned() {
    local pid
    [[ -f $dir/run/$1.pid ]] || return 1
    pid=$(<"$dir/run/$1.pid")
    [[ $pid =~ ^[0-9]+$ && " $(command_line "$pid") " == *" $(mark "$1") "* ]] || return 1
    echo "$pid"
}

# Whether engine $1 runs, and with settings $2; other settings end the command, nothing is restarted in silence. What has none
# was left by a start that was broken off, and is ended.
runs_as_asked() {
    local found
    owned "$1" >/dev/null || return 1
    if [[ ! -f $dir/run/$1.settings ]]; then
        ask_to_end "$1"
        await_end "$1"
        return 1
    fi
    found=$(<"$dir/run/$1.settings")
    [[ $found == "$2" ]] || die "$1 runs with other settings ($found) than asked for ($2): make down first"
}

# Starts engine $1 with the rest as its command; it outlives this shell and its terminal.
launch() {
    local engine=$1 log=$dir/logs/$1.log
    shift
    [[ ! -f $log ]] || mv "$log" "$log.old"
    nohup "$@" </dev/null >"$log" 2>&1 &
    echo $! >"$dir/run/$engine.pid"
}

answers() { (: </dev/tcp/127.0.0.1/"$1") 2>/dev/null; }

memory_of() {
    local kilobytes
    kilobytes=$(ps -o rss= -p "$1" 2>/dev/null) || kilobytes=0
    echo "$((kilobytes / 1024)) MB"
}

# Waits until `$2 engine` succeeds; an engine that ended or is too slow is named with the end of its log.
await_ready() {
    local engine=$1 ready=$2 pid deadline=$((SECONDS + patience)) log=$dir/logs/$1.log
    pid=$(<"$dir/run/$engine.pid")
    until "$ready" "$engine"; do
        if ! kill -0 "$pid" 2>/dev/null; then
            rm -f "$dir/run/$engine.pid" "$dir/run/$engine.settings"
            last_words "$log" >&2
            die "$engine ended while it started (above: from $log); what else was started still runs, make down ends it"
        fi
        ((SECONDS < deadline)) || die "$engine does not answer after $patience s (make up TIMEOUT=SECONDS waits longer); log: $log"
        sleep 0.5
    done
    echo "$engine answers after $SECONDS s"
}

# The first errors of a log, without stack traces; its end if it has none.
last_words() { grep -E '(ERROR|FATAL|Exception|Caused by|^Error)' "$1" | grep -v '^[[:space:]]*at ' | cut -c 1-300 | head -n 6 | grep . || tail -n 15 "$1"; }

ask_to_end() {
    local pid
    ! pid=$(owned "$1") || kill -TERM "$pid" 2>/dev/null || true
}

# Waits for engine $1 to end; one that does not is killed. The last of three Kafka nodes has no quorum to end in order with and
# seldom does, so it gets less time.
await_end() {
    local pid limit=45 deadline how="ended"
    if grep -q brokers=3 "$dir/run/$1.settings" 2>/dev/null; then limit=20; fi
    deadline=$((SECONDS + limit))
    while pid=$(owned "$1"); do
        if ((SECONDS >= deadline)); then
            kill -KILL "$pid" 2>/dev/null || true
            how="killed: it did not end in $limit s"
            deadline=$((SECONDS + limit))
        fi
        sleep 0.2
    done
    rm -f "$dir/run/$1.pid" "$dir/run/$1.settings"
    echo "$1 $how"
}
