#!/usr/bin/env bash
# Kafka Streams in the place of our preprocessor (convert) or scorer (score); crates/testkit/examples/bench gives the flags.
#
#   usage: streams.sh FOLDER convert|score --FLAG VALUE...      FOLDER is where install.sh has put the peers
set -euo pipefail

here=$(dirname "${BASH_SOURCE[0]}")
streams=$1/streams/target
shift
# In place of this shell: the bench counts the CPU time of the process that it started.
exec java -Xmx1g -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$streams/streams-1.jar:$streams/dependency/*" \
    telltale.peers.Streams "$@" --schemas "$here/../../../schemas"
