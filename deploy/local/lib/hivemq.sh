# shellcheck shell=bash disable=SC2154 # the settings (dir, here, mqtt_...) are set by engines.sh
# HiveMQ Community Edition, started by hivemq/Launcher.java; sessions and queues outlive a restart.

HIVEMQ_VERSION=2025.5

hivemq_ports() { printf '%s\n' "$mqtt_port" "$websocket_port"; }

hivemq_ports_of() { hivemq_ports; }

hivemq_settings() { echo "port=$mqtt_port websocket=$websocket_port user=${mqtt_user:--}$(security_on && echo ' security=on')"; }

hivemq_java() { java_home 17 "HiveMQ $HIVEMQ_VERSION"; }

hivemq_prepare() {
    local java conf=$dir/data/$1/conf listeners='listeners.xml' folder
    java=$(hivemq_java)
    folder=$(security_folder)
    fetch hivemq
    claim_data "$1" "HiveMQ Community Edition $HIVEMQ_VERSION"
    mkdir -p "$conf" "$dir/data/$1/data" "$dir/data/$1/extensions"
    if security_on; then listeners='listeners-tls.xml'; fi
    sed -e "/@LISTENERS@/{r $here/hivemq/$listeners" -e 'd;}' "$here/hivemq/config.xml" |
        sed -e "s/@MQTT_PORT@/$mqtt_port/" -e "s/@WEBSOCKET_PORT@/$websocket_port/" -e "s|@KEYSTORE@|$folder/engines.p12|" \
            -e "s/@KEYSTORE_PASSWORD@/$(! security_on || password_of keystore)/" >"$conf/config.xml"
    hivemq_logins >"$conf/logins.txt"
    compile hivemq Launcher "$java"
}

# A line `user role password-file` for each who may log in; none where everybody may.
hivemq_logins() {
    local user
    if security_on; then
        for user in admin bridge scorer cli; do echo "$user $user $(password_file "$user")"; done
        echo "simulator car $(password_file simulator)"
    elif [[ -n $mqtt_user ]]; then
        echo "$mqtt_user admin $mqtt_password_file"
    fi
}

# HiveMQ reads the JVM's insides for its memory figures; without the openings it warns at each start.
hivemq_start() {
    local java logins=()
    java=$(hivemq_java)
    if [[ -s $dir/data/$1/conf/logins.txt ]]; then logins=("$dir/data/$1/conf/logins.txt" "$here/hivemq/permissions.txt"); fi
    launch "$1" "$java/bin/java" "$(mark "$1")" -Xmx512m -XX:+ExitOnOutOfMemoryError \
        --add-opens java.base/java.lang=ALL-UNNAMED --add-opens java.base/java.nio=ALL-UNNAMED \
        --add-opens java.base/sun.nio.ch=ALL-UNNAMED --add-opens jdk.management/com.sun.management.internal=ALL-UNNAMED \
        --add-exports java.base/jdk.internal.misc=ALL-UNNAMED \
        -cp "$dir/jars/hivemq-classes:$dir/jars/hivemq/*" Launcher "$dir/data/$1" ${logins[@]+"${logins[@]}"}
}

hivemq_ready() { answers "$mqtt_port" && answers "$websocket_port"; }

hivemq_settle() { :; }
