# shellcheck shell=bash disable=SC2154 # the settings (dir, here, mqtt_...) are set by engines.sh
# HiveMQ Community Edition, started by hivemq/Launcher.java; sessions and queues outlive a restart.

HIVEMQ_VERSION=2025.5

hivemq_ports() { printf '%s\n' "$mqtt_port" "$websocket_port"; }

hivemq_ports_of() { hivemq_ports; }

hivemq_settings() { echo "port=$mqtt_port websocket=$websocket_port user=${mqtt_user:--}"; }

hivemq_java() { java_home 17 "HiveMQ $HIVEMQ_VERSION"; }

hivemq_prepare() {
    local java conf=$dir/data/$1/conf classes=$dir/jars/hivemq-launcher
    java=$(hivemq_java)
    fetch hivemq
    claim_data "$1" "HiveMQ Community Edition $HIVEMQ_VERSION"
    mkdir -p "$conf" "$dir/data/$1/data" "$dir/data/$1/extensions"
    sed -e "s/@MQTT_PORT@/$mqtt_port/" -e "s/@WEBSOCKET_PORT@/$websocket_port/" "$here/hivemq/config.xml" >"$conf/config.xml"
    if [[ ! $classes/Launcher.class -nt $here/hivemq/Launcher.java ]]; then
        "$java/bin/javac" -Xlint:all --release 17 -cp "$dir/jars/hivemq/*" -d "$classes" "$here/hivemq/Launcher.java" ||
            die "compiling deploy/local/hivemq/Launcher.java failed"
    fi
}

# HiveMQ reads the JVM's insides for its memory figures; without the openings it warns at each start.
hivemq_start() {
    local java
    java=$(hivemq_java)
    launch "$1" "$java/bin/java" "$(mark "$1")" -Xmx512m -XX:+ExitOnOutOfMemoryError \
        --add-opens java.base/java.lang=ALL-UNNAMED --add-opens java.base/java.nio=ALL-UNNAMED \
        --add-opens java.base/sun.nio.ch=ALL-UNNAMED --add-opens jdk.management/com.sun.management.internal=ALL-UNNAMED \
        --add-exports java.base/jdk.internal.misc=ALL-UNNAMED \
        -cp "$dir/jars/hivemq-launcher:$dir/jars/hivemq/*" Launcher "$dir/data/$1" "$mqtt_user" "$mqtt_password_file"
}

hivemq_ready() { answers "$mqtt_port" && answers "$websocket_port"; }

hivemq_settle() { :; }
