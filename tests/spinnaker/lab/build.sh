#!/bin/bash
# Fetches the jars of Spinnaker's orchestration engine (250 MB, once) and compiles the lab around it.
# Usage: build.sh CACHE_DIR   (afterwards CACHE_DIR/classpath and CACHE_DIR/classes fit this folder)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); mkdir -p "$1"; cache=$(cd "$1" && pwd)
exec 9>"$cache/lock"; flock 9
digest=$(cat "$here/pom.xml" "$here"/src/main/java/lab/*.java | sha256sum)
[ "$(cat "$cache/built" 2>/dev/null)" = "$digest" ] && exit 0
rm -f "$cache/built"
mvn -q -B -f "$here/pom.xml" dependency:build-classpath \
  -DincludeScope=runtime -Dmdep.outputFile="$cache/classpath"
rm -rf "$cache/classes"; mkdir "$cache/classes"
javac -parameters -nowarn -proc:none -d "$cache/classes" -cp "$(cat "$cache/classpath")" "$here"/src/main/java/lab/*.java
echo "$digest" > "$cache/built"
