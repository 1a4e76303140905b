#!/usr/bin/env bash
# Runs one of Apache Kafka's own tools from the jars that `make up` fetched: kafka-tool.sh topics --bootstrap-server ... --list
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=${ENGINES_DIR:-target/engines}
# shellcheck source=lib/process.sh
. "$here/lib/process.sh"
# shellcheck source=lib/java.sh
. "$here/lib/java.sh"

tool=${1:-}
(($# == 0)) || shift
case $tool in
    topics) class=org.apache.kafka.tools.TopicCommand ;;
    console-producer) class=org.apache.kafka.tools.ConsoleProducer ;;
    console-consumer) class=org.apache.kafka.tools.consumer.ConsoleConsumer ;;
    consumer-groups) class=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
    get-offsets) class=org.apache.kafka.tools.GetOffsetShell ;;
    dump-log) class=org.apache.kafka.tools.DumpLogSegments ;;
    transactions) class=org.apache.kafka.tools.TransactionsCommand ;;
    configs) class=kafka.admin.ConfigCommand ;;
    acls) class=org.apache.kafka.tools.AclCommand ;;
    producer-perf-test) class=org.apache.kafka.tools.ProducerPerformance ;;
    consumer-perf-test) class=org.apache.kafka.tools.ConsumerPerformance ;;
    *)
        echo "usage: kafka-tool.sh topics|console-producer|console-consumer|consumer-groups|get-offsets|dump-log|transactions|configs|acls|producer-perf-test|consumer-perf-test [ARGUMENT]..." >&2
        exit 2
        ;;
esac
[[ -d $dir/jars/kafka ]] || die "$dir/jars/kafka is missing: make up fetches it (ENGINES_DIR names another folder)"
java=$(java_home 17 "Kafka's tools")
# Brokers that run with SECURITY=on want to know who asks: admin, unless the caller says otherwise.
login=()
if [[ $tool != dump-log && " $* " != *' --command-config '* ]] && grep -q security=on "$dir"/run/kafka-1.settings 2>/dev/null; then
    login=(--command-config "$dir/data/security/admin.properties")
fi
exec "$java/bin/java" -Xmx256m -Dlog4j2.level=WARN -cp "$dir/jars/kafka/*" "$class" "$@" ${login[@]+"${login[@]}"}
