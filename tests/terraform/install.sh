#!/bin/bash
# Builds terraform and the real providers from the Go module proxy into the cache; prints the folder. Usage: install.sh
# 9 minutes of a core or two and 3 GB of memory the first time, nothing when it is there already. Needs Go 1.21 or newer.
set -euo pipefail

terraform=v1.5.7                                                # the last one under an open licence
google=v1.20.1-0.20260828184646-f3721fb45fa3 google_is=8.0.0    # on the proxy releases have no tags: the commit, and what it is of
archive=v1.3.1-0.20260727144921-44050a6fd1aa archive_is=2.8.0

fail() { echo "${0##*/}: $*" >&2; exit 1; }

# The cache outlives checkouts.
cache_root=${XDG_CACHE_HOME:-${HOME:?set HOME or XDG_CACHE_HOME}/.cache}/indexpush
cache=$cache_root/terraform-$(sha256sum <<<"$terraform $google $google_is $archive $archive_is" | cut -c1-8)
[ -d "$cache" ] && { echo "$cache"; exit; }
command -v go >/dev/null || fail "no Go here: install Go 1.21 or newer"

mkdir -p "$cache_root"
exec {lock}>"$cache_root/terraform.lock"; flock "$lock"         # a second build waits for the first, then finds its result
[ -d "$cache" ] && { echo "$cache"; exit; }
rm -rf "$cache_root"/terraform-building.*                       # of builds that were killed: this one holds the lock
work=$(mktemp -d "$cache_root/terraform-building.XXXXXX"); trap 'rm -rf "$work"' EXIT

mkdir "$work/bin"
export GOFLAGS=-trimpath CGO_ENABLED=0
# In the module's own folder: its go.mod and go.sum say what it is built from.
build() {
  local folder
  folder=$(go mod download -json "github.com/hashicorp/$1" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  [ -d "$folder" ] || fail "the Go module proxy does not give github.com/hashicorp/$1"
  nice go build -C "$folder" -mod=readonly -buildvcs=false -p 2 -ldflags '-s -w' -o "$work/bin/${1%@*}" .
}
# Where `init` looks for a provider in a mirror: providers/<host>/<namespace>/<name>/<version>/<platform>/
mirror() {
  local place=$work/providers/registry.terraform.io/hashicorp/$1/$2/$(go env GOOS)_$(go env GOARCH)
  mkdir -p "$place" && mv "$work/bin/terraform-provider-$1" "$place/terraform-provider-$1_v$2"
}
build "terraform@$terraform"
build "terraform-provider-archive@$archive"
mirror archive "$archive_is"
build "terraform-provider-google@$google"
mirror google "$google_is"

mv -T "$work" "$cache"                                          # published whole or not at all
chmod 755 "$cache"
echo "$cache"
