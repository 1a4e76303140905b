# shellcheck shell=bash disable=SC2154 # the settings (dir, registry_port) are set by engines.sh
# Apicurio Registry; clients use its Confluent API. Schemas lie in a file beside the data of the other engines.

REGISTRY_VERSION=3.3.3
REGISTRY_PATH=/apis/ccompat/v7

registry_ports() { printf '%s\n' "$registry_port" $((registry_port + 1)); }

registry_ports_of() { registry_ports; }

registry_settings() { echo "port=$registry_port$(security_on && echo ' security=on')"; }

registry_url() {
    local scheme=http
    if security_on; then scheme=https; fi
    echo "$scheme://127.0.0.1:$registry_port$REGISTRY_PATH"
}

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
    registry_properties "$1" >"$dir/data/$1/registry.properties"
}

registry_properties() {
    cat <<TEXT
quarkus.http.host=127.0.0.1
quarkus.management.host=127.0.0.1
quarkus.management.port=$((registry_port + 1))
apicurio.storage.kind=sql
apicurio.storage.sql.kind=h2
apicurio.datasource.url=jdbc:h2:file:$dir/data/$1/schemas
# Blamed for requests that are never answered (github.com/Apicurio/apicurio-registry/issues/9894); without it they are rare, not gone.
quarkus.http.access-log.enabled=false
TEXT
    if security_on; then
        registry_secured_properties
    else
        echo "quarkus.http.port=$registry_port"
    fi
}

# TLS only; users and passwords by Quarkus itself, so no identity server is needed. Who only reads may only GET. The management
# port stays plain: it tells health and metrics, and answers on this machine only.
registry_secured_properties() {
    local folder user
    folder=$(security_folder)
    cat <<TEXT
quarkus.http.insecure-requests=disabled
quarkus.http.ssl-port=$registry_port
quarkus.http.ssl.certificate.files=$folder/engines.crt
quarkus.http.ssl.certificate.key-files=$folder/engines.key
quarkus.http.auth.basic=true
quarkus.http.auth.proactive=true
quarkus.security.users.embedded.plain-text=true
quarkus.http.auth.policy.readers.roles-allowed=reader,writer
quarkus.http.auth.policy.writers.roles-allowed=writer
quarkus.http.auth.permission.read.paths=/*
quarkus.http.auth.permission.read.methods=GET,HEAD
quarkus.http.auth.permission.read.policy=readers
quarkus.http.auth.permission.write.paths=/*
quarkus.http.auth.permission.write.methods=POST,PUT,PATCH,DELETE
quarkus.http.auth.permission.write.policy=writers
TEXT
    for user in admin preprocessor scorer cli; do registry_login "$user" writer; done
    for user in trainer verifier; do registry_login "$user" reader; done
}

registry_login() {
    echo "quarkus.security.users.embedded.users.$1=$(password_of "$1")"
    echo "quarkus.security.users.embedded.roles.$1=$2"
}

registry_start() {
    local java
    java=$(registry_java)
    launch "$1" "$java/bin/java" "$(mark "$1")" -Xmx512m -XX:+ExitOnOutOfMemoryError \
        -Dquarkus.config.locations="$dir/data/$1/registry.properties" -jar "$dir/jars/registry-app/quarkus-run.jar"
}

# Calls the registry as admin, where it asks who calls.
registry_call() {
    local login=()
    if security_on; then login=(--config "$(security_folder)/registry.curl"); fi
    curl --silent --fail ${login[@]+"${login[@]}"} "$@"
}

registry_ready() { registry_call --max-time 5 "$(registry_url)/subjects" >/dev/null 2>&1; }

# Apicurio checks nothing until told to; Confluent's default is BACKWARD. A level chosen later is kept: it is set once per data folder.
registry_settle() {
    local done=$dir/data/$1/compatibility-set
    [[ ! -f $done ]] || return 0
    registry_call --show-error --max-time 30 --request PUT --header 'Content-Type: application/json' \
        --data '{"compatibility":"BACKWARD"}' "$(registry_url)/config" >/dev/null ||
        die "the registry answers, but its compatibility level could not be set to BACKWARD; log: $dir/logs/$1.log"
    touch "$done"
}
