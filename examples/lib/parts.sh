# shellcheck shell=bash disable=SC2154,SC2034 # run.sh, setup.sh and parts.sh are one program
# The parts: each runs an example as a user would, and checks exactly what came of it.

part_python() {
    local sent=$work/fed.jsonl
    "$python" "$examples/python/feed.py" --prefix "py-$run" --cars 5 --readings 40 --sent "$sent"
    "$python" "$examples/python/check_fed.py" "$sent"
    "$python" "$examples/python/read.py" --anomalies >"$work/logs/read.log"
    echo "read.py prints $(grep -c ANOMALY "$work/logs/read.log") anomalies, such as"
    tail -n 1 "$work/logs/read.log"
}

part_mqtt() {
    local sent=$work/device
    "$python" "$examples/python/device.py" --car "paho-$run-5" --sent "$sent-5.jsonl"
    "$python" "$examples/python/device.py" --car "paho-$run-3" --sent "$sent-3.jsonl" --v3
    "$examples/mosquitto/publish.sh" "mosquitto-$run" "$sent-mosquitto.jsonl"
    "$python" "$examples/python/check_fed.py" "$sent-5.jsonl" "$sent-3.jsonl" "$sent-mosquitto.jsonl"
}

part_kafka_tools() {
    local jars
    jars=$(kafka_jars)
    # kafka-tool.sh looks for jars/kafka in it.
    export ENGINES_DIR=${jars%/jars/kafka}
    "$examples/kafka-tools/check.sh" 2
    # While the scorer stands still its lag grows by what is fed; then it goes on, and nothing is missing.
    signal "$scorer" STOP
    "$python" "$examples/python/feed.py" --prefix "lag-$run" --cars 5 --readings 20 --sent "$work/lag.jsonl"
    "$examples/kafka-tools/check.sh" --behind 200
    signal "$scorer" CONT
    "$python" "$examples/python/check_fed.py" "$work/lag.jsonl"
    "$examples/kafka-tools/check.sh" 2 >"$work/logs/kafka-tools.log"
    tail -n 1 "$work/logs/kafka-tools.log"
}

part_kafka_streams() {
    local jars java classes=$work/classes/kafka-streams state=$work/kafka-streams program
    jars=$(bring "$examples/kafka-streams")
    java=$(java_home 17 "Kafka Streams")
    rm -rf "$classes" "$state"
    "$java/bin/javac" -Xlint:all -Werror -d "$classes" -cp "$jars/*" "$examples"/kafka-streams/src/main/java/telltale/*.java
    program=("$java/bin/java" -Xmx256m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$classes:$jars/*" telltale.AnomaliesPerMinute
        "$KAFKA" "$REGISTRY" "$state")
    begin kafka-streams-killed "${program[@]}"
    "$python" "$examples/kafka-streams/check.py" --begun
    signal "${started[-1]}" KILL
    # So that bash tells it here, where nobody reads it.
    { wait "${started[-1]}" || true; } 2>/dev/null
    # While it is away readings go on; what it had not committed, it counts again, and nothing twice.
    "$python" "$examples/python/feed.py" --prefix "streams-$run" --cars 5 --readings 20 --sent "$work/streams.jsonl"
    "$python" "$examples/python/check_fed.py" "$work/streams.jsonl"
    begin kafka-streams "${program[@]}"
    "$python" "$examples/kafka-streams/check.py"
}

part_kafka_connect() {
    local java kafka plugins mongo_jars classes=$work/classes worker_port mongo_port
    java=$(java_home 17 "Kafka Connect")
    kafka=$(kafka_jars)
    plugins=$(bring "$examples/kafka-connect/plugins")
    mongo_jars=$(bring "$examples/kafka-connect/mongo")
    rm -rf "$classes/mongo" "$work/connect.offsets" "$work/plugin-path"
    "$java/bin/javac" -Xlint:all -Werror -d "$classes/mongo" -cp "$mongo_jars/*" "$examples"/kafka-connect/mongo/src/main/java/telltale/*.java
    mongo_port=$(free_port)
    begin mongo "$java/bin/java" -Xmx256m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$classes/mongo:$mongo_jars/*" \
        telltale.MongoStandIn "$mongo_port"
    await_that "the MongoDB stand-in listens" answers "$mongo_port"
    # Each folder of the path is one plug-in, with its own classes.
    mkdir -p "$work/plugin-path"
    ln -s "$plugins" "$work/plugin-path/mongodb"
    export AVRO_CONVERTER=io.apicurio.registry.utils.converter.AvroConverter REGISTRY_API=${REGISTRY%/ccompat/*}/registry/v2
    if [[ $kind == embedded ]]; then
        # Apicurio's converter asks by Apicurio's own API, which this registry has not.
        AVRO_CONVERTER=telltale.AvroConverter
        pack_converter "$java" "$kafka" "$work/plugin-path/avro"
    fi
    worker_port=$(free_port)
    export MONGODB=mongodb://127.0.0.1:$mongo_port SINK=predictions-$run
    export CONNECT_OFFSETS=$work/connect.offsets CONNECT_LISTENER=http://127.0.0.1:$worker_port
    { cat "$examples/kafka-connect/worker.properties" && echo "plugin.path=$work/plugin-path"; } >"$work/worker.properties"
    begin kafka-connect "$java/bin/java" -Xmx384m -Dlog4j2.level=WARN -cp "$kafka/*" org.apache.kafka.connect.cli.ConnectStandalone \
        "$work/worker.properties" "$examples/kafka-connect/mongodb-sink.properties"
    "$python" "$examples/kafka-connect/check.py"
    echo "by the converter $AVRO_CONVERTER"
}

# pack_converter JDK KAFKA-JARS FOLDER: our converter as a plug-in, beside the jars that it needs.
pack_converter() {
    local jars classes=$work/classes/converter
    jars=$(bring "$examples/kafka-streams")
    rm -rf "$classes"
    "$1/bin/javac" -Xlint:all -Werror -d "$classes" -cp "$jars/*:$2/*" "$examples"/kafka-connect/converter/src/main/java/telltale/*.java \
        "$examples/kafka-streams/src/main/java/telltale/AvroDeserializer.java"
    mkdir -p "$3"
    "$1/bin/jar" --create --file "$3/converter.jar" -C "$classes" .
    ln -s "$jars"/avro-*.jar "$jars"/jackson-*.jar "$jars"/commons-*.jar "$3"
}

# Prints the folder of Apache Kafka's jars: those of the engines, or our own.
kafka_jars() {
    if [[ -d $engines/jars/kafka ]]; then echo "$engines/jars/kafka"; else bring "$here/kafka"; fi
}

part_notebook() {
    "$python" "$examples/notebook/check_golden.py"
    "$python" "$examples/notebook/model_from_the_log.py"
}
