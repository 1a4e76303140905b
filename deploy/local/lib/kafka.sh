# shellcheck shell=bash disable=SC2154 # the settings (dir, here, brokers, kafka_port) are set by engines.sh
# Apache Kafka in KRaft mode: one node, or three with replication 3 and min.insync 2; each is broker and controller.

KAFKA_VERSION=4.3.1

kafka_names() { seq -f 'kafka-%.0f' 1 "$brokers"; }

# Node n listens on the first port + 2 (n - 1) for clients, on the next one for controllers.
kafka_client_port() { echo $((kafka_port + 2 * (${1#kafka-} - 1))); }

kafka_ports_of() {
    kafka_client_port "$1"
    echo $(($(kafka_client_port "$1") + 1))
}

kafka_ports() {
    local node
    for node in $(kafka_names); do kafka_ports_of "$node"; done
}

kafka_settings() { echo "port=$(kafka_client_port "$1") brokers=$brokers$(security_on && echo ' security=on')"; }

# The bootstrap servers.
kafka_addresses() {
    local node addresses=''
    for node in $(kafka_names); do addresses+=",127.0.0.1:$(kafka_client_port "$node")"; done
    echo "${addresses#,}"
}

kafka_voters() {
    local node voters=''
    for node in $(kafka_names); do
        voters+=",${node#kafka-}@127.0.0.1:$(($(kafka_client_port "$node") + 1))"
    done
    echo "${voters#,}"
}

# Copies and acknowledgements follow the number of nodes; internal topics are small, as is the cleaner's buffer, to spare memory.
# Retention and compaction look every 5 s, not every 5 minutes, so that what a test waits for comes.
kafka_properties() {
    local port copies=$brokers protocol=PLAINTEXT controller=PLAINTEXT
    port=$(kafka_client_port "$1")
    if security_on; then protocol=SASL_SSL controller=SASL_SSL; fi
    cat <<TEXT
process.roles=broker,controller
node.id=${1#kafka-}
controller.quorum.voters=$(kafka_voters)
controller.listener.names=CONTROLLER
listeners=$protocol://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=$protocol://127.0.0.1:$port
listener.security.protocol.map=$protocol:$protocol,CONTROLLER:$controller
inter.broker.listener.name=$protocol
log.dirs=$dir/data/$1/log
auto.create.topics.enable=false
default.replication.factor=$copies
min.insync.replicas=$(((copies + 1) / 2))
num.partitions=4
offsets.topic.num.partitions=4
offsets.topic.replication.factor=$copies
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=$copies
transaction.state.log.min.isr=$(((copies + 1) / 2))
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=$copies
share.coordinator.state.topic.min.isr=$(((copies + 1) / 2))
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
log.initial.task.delay.ms=1000
log.retention.check.interval.ms=5000
log.cleaner.backoff.ms=5000
TEXT
    if security_on; then kafka_secured_properties; fi
}

# TLS everywhere, also between controllers; SCRAM or PLAIN for clients, and PLAIN between controllers, which have no SCRAM users
# before there is a quorum. Nobody may do anything without a right in kafka/acls.txt.
kafka_secured_properties() {
    local folder plain=org.apache.kafka.common.security.plain.PlainLoginModule user users=''
    local scram=org.apache.kafka.common.security.scram.ScramLoginModule
    folder=$(security_folder)
    for user in $SECURITY_USERS; do users+=" user_$user=\"$(password_of "$user")\""; done
    cat <<TEXT
ssl.keystore.type=PEM
ssl.keystore.location=$folder/engines.pem
ssl.truststore.type=PEM
ssl.truststore.location=$folder/authority.pem
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
sasl.mechanism.controller.protocol=PLAIN
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=$scram required username="broker" password="$(password_of broker)";
listener.name.sasl_ssl.plain.sasl.jaas.config=$plain required$users;
listener.name.controller.sasl.enabled.mechanisms=PLAIN
listener.name.controller.plain.sasl.jaas.config=$plain required username="broker" password="$(password_of broker)" user_broker="$(password_of broker)";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:broker;User:admin
allow.everyone.if.no.acl.found=false
TEXT
}

kafka_java() { java_home 17 "Apache Kafka $KAFKA_VERSION"; }

# One id for all nodes of the folder. 16 random bytes as Kafka writes them; a leading '-' would be taken for an option.
kafka_cluster_id() {
    local file=$dir/data/kafka.cluster
    [[ -s $file ]] || head -c 16 /dev/urandom | base64 | tr '+/' 'ab' | cut -c 1-22 >"$file"
    cat "$file"
}

kafka_prepare() {
    local java data=$dir/data/$1
    java=$(kafka_java)
    fetch kafka
    claim_data "$1" "Apache Kafka $KAFKA_VERSION, $brokers node(s)$(security_on && echo ', SECURITY=on')"
    if security_on; then compile kafka Grant "$java"; fi
    kafka_properties "$1" >"$data/server.properties"
    [[ ! -f $data/log/meta.properties ]] || return 0
    kafka_format_arguments "$1" >"$data/format.arguments"
    "$java/bin/java" -cp "$dir/jars/kafka/*" kafka.tools.StorageTool "@$data/format.arguments" >"$dir/logs/$1.format.log" 2>&1 ||
        die "formatting $data/log failed: $(tail -n 3 "$dir/logs/$1.format.log")"
    rm -f "$data/format.arguments"
}

# A line for each argument, in a file: among them are passwords, and everybody can see a process's arguments.
kafka_format_arguments() {
    local user
    printf '%s\n' format --cluster-id "$(kafka_cluster_id)" --config "$dir/data/$1/server.properties"
    security_on || return 0
    for user in $SECURITY_USERS; do
        printf '%s\n' --add-scram "SCRAM-SHA-512=[name=$user,password=$(password_of "$user")]"
    done
}

kafka_start() {
    local java
    java=$(kafka_java)
    if kafka_crashed "$1"; then kafka_fence "$1" "$java"; fi
    launch "$1" "$java/bin/java" "$(mark "$1")" -Xms256m -Xmx512m -XX:MaxDirectMemorySize=256m -XX:+ExitOnOutOfMemoryError \
        -Dlog4j2.configurationFile="$here/kafka/log4j2.xml" -cp "$dir/jars/kafka/*" kafka.Kafka "$dir/data/$1/server.properties"
}

# Whether it ran and did not end in order.
kafka_crashed() {
    local log=$dir/data/$1/log
    [[ ! -f $log/.kafka_cleanshutdown ]] && compgen -G "$log/__cluster_metadata-0/*.log" >/dev/null
}

# A lone node that starts again after a crash believes that it still leads every partition, until the session of its former self
# has ended; then nobody leads them for a moment. Kafka 4.3.1 takes a partition without a leader for a deleted one and calls
# transactions complete whose end it has not written there: what they wrote is never committed (docs/RELIABILITY.md, "One broker").
# So its controller runs alone first, until it knows that the broker was gone; three nodes see it at once.
kafka_fence() {
    ((brokers == 1)) || return 0
    local data=$dir/data/$1 log=$dir/logs/$1.fence.log pid deadline=$((SECONDS + patience))
    sed -e 's/^process.roles=.*/process.roles=controller/' -e 's/^listeners=.*,CONTROLLER:/listeners=CONTROLLER:/' \
        -e '/^advertised.listeners=/d' -e '/^inter.broker.listener.name=/d' "$data/server.properties" >"$data/fence.properties"
    printf '%s\n' broker.session.timeout.ms=1000 broker.heartbeat.interval.ms=500 >>"$data/fence.properties"
    rm -f "$dir/run/$1.settings" # if this is broken off, whoever comes next knows that what runs is not the engine
    : >"$log" # what was said after an earlier crash must not be read as said after this one
    nohup "$2/bin/java" "$(mark "$1")" -Xmx256m -XX:TieredStopAtLevel=1 -Dlog4j2.configurationFile="$here/kafka/log4j2.xml" \
        -cp "$dir/jars/kafka/*" kafka.Kafka "$data/fence.properties" </dev/null >"$log" 2>&1 &
    pid=$!
    echo "$pid" >"$dir/run/$1.pid"
    until kafka_is_fenced "$log"; do
        kill -0 "$pid" 2>/dev/null || die "$1 ended while it recovered from a crash: $(last_words "$log")"
        ((SECONDS < deadline)) || die "$1 did not recover from a crash in $patience s; log: $log"
        sleep 0.2
    done
    kill "$pid"
    wait "$pid" || true
}

# The last change of the broker's registration, once the controller has taken in all that happened before and is in charge: 1
# fences it, -1 ends that, 0 is another change.
kafka_is_fenced() {
    grep -q 'Performing controller activation' "$1" &&
        [[ $(grep -oE 'Replayed .*[( ]fenced=(1|-1|true|false)' "$1" | tail -n 1) =~ fenced=(1|true)$ ]]
}

kafka_ready() { grep -q 'Kafka Server started' "$dir/logs/$1.log" && answers "$(kafka_client_port "$1")"; }

# Gives the users their rights, once for each table of rights.
kafka_settle() {
    local java given=$dir/data/kafka.acls
    if ! security_on || cmp -s "$here/kafka/acls.txt" "$given"; then return; fi
    java=$(kafka_java)
    "$java/bin/java" -Xmx128m -Dlog4j2.level=WARN -cp "$dir/jars/kafka-classes:$dir/jars/kafka/*" Grant \
        "$(security_folder)/admin.properties" "$here/kafka/acls.txt" >"$dir/logs/grant.log" 2>&1 ||
        die "Kafka's users were not given their rights: $(last_words "$dir/logs/grant.log")"
    cp "$here/kafka/acls.txt" "$given"
}
