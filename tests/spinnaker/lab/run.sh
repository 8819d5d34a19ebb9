#!/bin/bash
# Spinnaker's real orchestration engine (Orca) on 127.0.0.1:$ORCA_PORT, with the Redis on $REDIS_PORT and the stand-in for
# Clouddriver at $CLOUDDRIVER_URL. Usage: run.sh CACHE_DIR   (what build.sh made; runs until it is ended)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); cache=$(cd "$1" && pwd)
: "${ORCA_PORT:?}" "${REDIS_PORT:?}" "${CLOUDDRIVER_URL:?}"
# Its plugin loader would call out at start: that goes to a closed port.
exec java -Xmx256m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC --add-opens=java.base/java.util=ALL-UNNAMED \
  -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=9 -Dhttp.nonProxyHosts='localhost|127.0.0.1' -Duser.home="$cache" \
  -Dspring.config.additional-location="file:$here/" -cp "$cache/classes:$(cat "$cache/classpath")" lab.OrcaLab
