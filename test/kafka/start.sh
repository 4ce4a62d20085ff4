#!/usr/bin/env bash
# Copyright 2026 The dealiot-connect authors.
# SPDX-License-Identifier: Apache-2.0
#
# Runs a real Apache Kafka for tests, from its Maven artifacts: no container, no
# installation, only Java 17 or newer and Maven.
#
#   test/kafka/start.sh [start] [--brokers N] [--port P] [--dir DIR]
#       starts N brokers (default 1; each is broker and KRaft controller) and
#       prints their addresses, one line, with commas between them
#   test/kafka/start.sh stop [--dir DIR]
#       stops them and removes their data
#
#   --port   port of the first broker, the next ones follow on; default: free ones
#   --dir    where data, logs and process ids lie; default: test-kafka in the
#            folder for temporary files. Two clusters need two folders.
#
#   KAFKA_VERSION  another version than pom.xml names
#
# All listeners are on 127.0.0.1 without any security. The jars (45 MB) stay in
# ${XDG_CACHE_HOME:-~/.cache}/dealiot-connect/kafka.
#
# Exit codes: 0 done, 2 wrong usage, 3 Java, Maven or the artifacts are not to be
# had (tests skip then), 1 anything else.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
wait_seconds=90

say() { printf 'test kafka: %s\n' "$*" >&2; }
die() { local code=$1; shift; say "$*"; exit "$code"; }

command=start
brokers=1
port=0
dir=${TMPDIR:-/tmp}/test-kafka
case ${1:-} in start | stop) command=$1; shift ;; esac
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) sed -n '/^# Runs/,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    --brokers | --port | --dir) [ $# -ge 2 ] || die 2 "$1 needs a value" ;;
    *) die 2 "does not know $1; see --help" ;;
  esac
  case $1 in
    --brokers) brokers=$2 ;;
    --port) port=$2 ;;
    --dir) dir=$2 ;;
  esac
  shift 2
done
[[ $brokers =~ ^[1-9]$ ]] || die 2 "--brokers must be 1 to 9, got $brokers"
[[ $port =~ ^[0-9]+$ && $port -le 65000 ]] || die 2 "--port must be a number up to 65000, got $port"

# alive tells whether the broker of a node's folder runs. A process id alone does
# not say so: it may have been given to another process since.
alive() {
  local pid
  pid=$(cat "$1/pid" 2>/dev/null) && ps -o args= -p "$pid" 2>/dev/null | grep -qF "kafka.Kafka $1/server.properties"
}
listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# stop ends the brokers of the folder, waits for them and removes the folder. A
# folder that this script did not make is left alone.
stop() {
  [ -f "$dir/.test-kafka" ] || return 0
  local node deadline
  for node in "$dir"/node*; do
    if alive "$node"; then kill "$(cat "$node/pid")" || true; fi
  done
  deadline=$((SECONDS + 20))
  for node in "$dir"/node*; do
    while alive "$node"; do
      if [ $SECONDS -ge $deadline ]; then
        say "the broker in $node did not stop within 20 s, killing it"
        kill -9 "$(cat "$node/pid")" || true
        deadline=$((SECONDS + 5))
      fi
      sleep 0.1
    done
  done
  rm -rf -- "$dir"
}

if [ -d "$dir" ]; then dir=$(cd "$dir" && pwd); fi
if [ "$command" = stop ]; then
  stop
  exit 0
fi

# --- The jars ---------------------------------------------------------------

command -v java >/dev/null || die 3 "java is not installed"
command -v mvn >/dev/null || die 3 "mvn is not installed"
java_version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
[ "${java_version:-0}" -ge 17 ] || die 3 "Java 17 or newer is needed, found ${java_version:-none}"

version=${KAFKA_VERSION:-$(sed -n 's/.*<kafka.version>\(.*\)<.*/\1/p' "$here/pom.xml")}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/dealiot-connect/kafka
lib=$cache/$version
if [ ! -d "$lib" ]; then
  say "fetching Apache Kafka $version with Maven"
  mkdir -p "$cache"
  # Fetched beside and renamed when whole, so that an interrupted or a second
  # run never meets half of it.
  part=$(mktemp -d "$cache/part.XXXXXX")
  bound=""
  if command -v timeout >/dev/null; then bound="timeout 600"; fi
  # shellcheck disable=SC2086 # two words on purpose
  if ! $bound mvn -B -q -f "$here/pom.xml" -Dkafka.version="$version" \
    dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$part" >"$part/maven.log" 2>&1 </dev/null; then
    tail -n 20 "$part/maven.log" >&2
    rm -rf -- "$part"
    die 3 "Maven could not fetch Apache Kafka $version"
  fi
  rm -f "$part/maven.log"
  if [ -d "$lib" ]; then rm -rf -- "$part"; else mv "$part" "$lib"; fi # another run may have been faster
fi

# --- The cluster ------------------------------------------------------------

for node in "$dir"/node*; do
  if alive "$node"; then
    die 1 "a cluster runs in $dir already; stop it first, or give another --dir"
  fi
done
if [ -e "$dir" ] && [ ! -f "$dir/.test-kafka" ] && [ -n "$(ls -A "$dir")" ]; then
  die 1 "$dir is there, not empty, and not from this script; give another --dir"
fi
taken=" "
free_port() { # sets $found
  for _ in {1..200}; do
    found=$((20000 + RANDOM % 12000))
    if [[ $taken != *" $found "* ]] && ! listening "$found"; then
      taken+="$found "
      return
    fi
  done
  die 1 "found no free port between 20000 and 32000"
}

ports=() controllers=() voters="" addresses=""
for ((i = 0; i < brokers; i++)); do
  if [ "$port" -gt 0 ]; then
    found=$((port + i))
    listening "$found" && die 1 "port $found is taken; give another --port"
    taken+="$found "
  else
    free_port
  fi
  ports+=("$found")
  addresses+="${addresses:+,}127.0.0.1:$found"
  free_port
  controllers+=("$found")
  voters+="${voters:+,}$((i + 1))@127.0.0.1:$found"
done

rm -rf -- "$dir"
mkdir -p "$dir"
touch "$dir/.test-kafka"
dir=$(cd "$dir" && pwd)

cat >"$dir/log4j2.properties" <<'EOF'
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c)%n
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
EOF

java_run() { # heap, then class and arguments
  local heap=$1
  shift
  exec java -Xmx"$heap" -Xms64m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
    -Dlog4j2.configurationFile="$dir/log4j2.properties" -cp "$lib/*" "$@"
}

fail() { # message, log file
  say "$1; the end of its log:"
  tail -n 40 "$2" >&2 || true
  stop
  exit 1
}

cluster_id=dGVzdC1rYWZrYS1jbHVzdA # 16 bytes in base64, as Kafka writes them
copies=$((brokers < 3 ? brokers : 3))
in_step=$((copies < 2 ? copies : 2))
for ((i = 0; i < brokers; i++)); do
  node=$dir/node$((i + 1))
  mkdir -p "$node"
  # Defaults as the platform sets them on its brokers, as far as the number of
  # brokers allows; buffers small, for tests.
  cat >"$node/server.properties" <<EOF
process.roles=broker,controller
node.id=$((i + 1))
controller.quorum.voters=$voters
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:${ports[i]},CONTROLLER://127.0.0.1:${controllers[i]}
advertised.listeners=PLAINTEXT://127.0.0.1:${ports[i]}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs=$node/data
auto.create.topics.enable=false
num.partitions=12
default.replication.factor=$copies
min.insync.replicas=$in_step
offsets.topic.num.partitions=6
offsets.topic.replication.factor=$copies
transaction.state.log.num.partitions=6
transaction.state.log.replication.factor=$copies
transaction.state.log.min.isr=$in_step
share.coordinator.state.topic.num.partitions=6
share.coordinator.state.topic.replication.factor=$copies
share.coordinator.state.topic.min.isr=$in_step
group.initial.rebalance.delay.ms=0
log.index.size.max.bytes=1048576
log.cleaner.dedupe.buffer.size=16777216
EOF
  (java_run 128m kafka.tools.StorageTool format -t "$cluster_id" -c "$node/server.properties") \
    >"$node/format.log" 2>&1 </dev/null || fail "formatting the storage of broker $((i + 1)) did not work" "$node/format.log"
done
for ((i = 0; i < brokers; i++)); do
  node=$dir/node$((i + 1))
  (
    trap '' HUP # outlive the terminal; Ctrl-C does not reach what a script runs in the background
    java_run 384m kafka.Kafka "$node/server.properties"
  ) >"$node/server.log" 2>&1 </dev/null &
  echo $! >"$node/pid"
done

deadline=$((SECONDS + wait_seconds))
for ((i = 0; i < brokers; i++)); do
  node=$dir/node$((i + 1))
  until grep -q 'Kafka Server started' "$node/server.log" && listening "${ports[i]}"; do
    alive "$node" || fail "broker $((i + 1)) ended while starting" "$node/server.log"
    [ $SECONDS -lt $deadline ] || fail "broker $((i + 1)) was not up within $wait_seconds s" "$node/server.log"
    sleep 0.1
  done
done
say "Apache Kafka $version, $brokers broker(s), in $dir"
echo "$addresses"
