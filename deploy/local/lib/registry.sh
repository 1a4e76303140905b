# shellcheck shell=bash disable=SC2154 # the settings (dir, registry_port) are set by engines.sh
# Apicurio Registry; clients use its Confluent API. Schemas lie in a file beside the data of the other engines.

REGISTRY_VERSION=3.3.3
REGISTRY_PATH=/apis/ccompat/v7

registry_ports() { printf '%s\n' "$registry_port" $((registry_port + 1)); }

registry_ports_of() { registry_ports; }

registry_settings() { echo "port=$registry_port"; }

registry_java() { java_home 21 "Apicurio Registry $REGISTRY_VERSION"; }

registry_prepare() {
    local program=$dir/jars/registry-app
    registry_java >/dev/null
    need curl curl curl curl
    fetch registry
    claim_data "$1" "Apicurio Registry $REGISTRY_VERSION"
    if ! cmp -s "$dir/jars/registry.SHA256SUMS" "$program/SHA256SUMS"; then
        rm -rf "$program"
        mkdir -p "$program"
        tar -xzf "$dir"/jars/registry/*.tar.gz -C "$program"
        cp "$dir/jars/registry.SHA256SUMS" "$program/SHA256SUMS"
    fi
}

registry_start() {
    local java
    java=$(registry_java)
    launch "$1" "$java/bin/java" "$(mark "$1")" -Xmx512m -XX:+ExitOnOutOfMemoryError \
        -Dquarkus.http.host=127.0.0.1 -Dquarkus.http.port="$registry_port" \
        -Dquarkus.management.host=127.0.0.1 -Dquarkus.management.port=$((registry_port + 1)) \
        -Dapicurio.storage.kind=sql -Dapicurio.storage.sql.kind=h2 \
        -Dapicurio.datasource.url="jdbc:h2:file:$dir/data/$1/schemas" -jar "$dir/jars/registry-app/quarkus-run.jar"
}

registry_ready() { curl --silent --fail --max-time 5 "http://127.0.0.1:$registry_port$REGISTRY_PATH/subjects" >/dev/null 2>&1; }

# Apicurio checks nothing until told to; Confluent's default is BACKWARD. A level chosen later is kept: it is set once per data folder.
registry_settle() {
    local done=$dir/data/$1/compatibility-set
    [[ ! -f $done ]] || return 0
    curl --silent --show-error --fail --max-time 30 --request PUT --header 'Content-Type: application/json' \
        --data '{"compatibility":"BACKWARD"}' "http://127.0.0.1:$registry_port$REGISTRY_PATH/config" >/dev/null ||
        die "the registry answers, but its compatibility level could not be set to BACKWARD; log: $dir/logs/$1.log"
    touch "$done"
}
