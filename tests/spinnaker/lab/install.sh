#!/bin/sh
# What the session needs from Debian. The jars come from Maven Central with the first run.
set -eu
exec apt-get install -y --no-install-recommends redis-server maven openjdk-17-jdk-headless
