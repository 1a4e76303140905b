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

kafka_settings() { echo "port=$(kafka_client_port "$1") brokers=$brokers"; }

kafka_voters() {
    local node voters=''
    for node in $(kafka_names); do
        voters+=",${node#kafka-}@127.0.0.1:$(($(kafka_client_port "$node") + 1))"
    done
    echo "${voters#,}"
}

# Copies and acknowledgements follow the number of nodes; internal topics are small, as is the cleaner's buffer, to spare memory.
kafka_properties() {
    local port copies=$brokers
    port=$(kafka_client_port "$1")
    cat <<TEXT
process.roles=broker,controller
node.id=${1#kafka-}
controller.quorum.voters=$(kafka_voters)
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$((port + 1))
advertised.listeners=PLAINTEXT://127.0.0.1:$port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
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
    claim_data "$1" "Apache Kafka $KAFKA_VERSION, $brokers node(s)"
    kafka_properties "$1" >"$data/server.properties"
    [[ ! -f $data/log/meta.properties ]] || return 0
    "$java/bin/java" -cp "$dir/jars/kafka/*" kafka.tools.StorageTool format \
        --cluster-id "$(kafka_cluster_id)" --config "$data/server.properties" >"$dir/logs/$1.format.log" 2>&1 ||
        die "formatting $data/log failed: $(tail -n 3 "$dir/logs/$1.format.log")"
}

kafka_start() {
    local java
    java=$(kafka_java)
    launch "$1" "$java/bin/java" "$(mark "$1")" -Xms256m -Xmx512m -XX:MaxDirectMemorySize=256m -XX:+ExitOnOutOfMemoryError \
        -Dlog4j2.configurationFile="$here/kafka/log4j2.xml" -cp "$dir/jars/kafka/*" kafka.Kafka "$dir/data/$1/server.properties"
}

kafka_ready() { grep -q 'Kafka Server started' "$dir/logs/$1.log" && answers "$(kafka_client_port "$1")"; }

kafka_settle() { :; }
