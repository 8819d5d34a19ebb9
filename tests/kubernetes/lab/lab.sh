# What the lab's scripts share: names, places and a few words. Sourced, never run.
# shellcheck shell=bash disable=SC2034
set -euo pipefail

lab=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
kubernetes=1.34.4

fail() { echo "${0##*/}: $*" >&2; exit 1; }
need_root() { [ "$(id -u)" = 0 ] || fail "needs root: it makes namespaces and cgroups"; }
need() { for command in "$@"; do command -v "$command" >/dev/null || fail "no $command here: run $lab/install.sh"; done; }

# The cache outlives checkouts. The digest makes a changed go.mod, go.sum or build.sh a different build.
cache_root=${XDG_CACHE_HOME:-${HOME:?set HOME or XDG_CACHE_HOME}/.cache}/indexpush
build_digest=$(cat "$lab"/{node,dns}/{go.mod,go.sum} "$lab/dns/main.go" "$lab/build.sh" | sha256sum | cut -c1-8)
cache=$cache_root/kubernetes-$kubernetes-$build_digest

# One at a time, until the script ends; the second waits.
lock() { mkdir -p "$cache_root"; exec {lock_fd}>"$cache_root/$1.lock"; flock "$lock_fd"; }

# Sets dir and what is named after it. One state folder is one node; two nodes in two folders do not meet.
use_state_dir() {
  [ "${1:-}" ] || fail "name a state folder, for example /tmp/kubernetes"
  dir=$(realpath -m "$1")
  socket=$dir/containerd.sock   # the kernel allows 107 bytes, and containerd adds .ttrpc
  [[ $dir/ != /run/* && $dir/ != /var/lib/* && $dir/ != /var/log/* ]] || fail "not in $dir: the node covers /run, /var/lib and /var/log"
  [ ${#socket} -le 100 ] || fail "the path $dir is too long for a Unix socket: take a shorter one"
  cgroup=indexpush-$(printf %s "$dir" | sha256sum | cut -c1-8)
}

# Mount points of version 1's cgroup hierarchies, or version 2's only one.
cgroup_hierarchies() { awk '$3 == "cgroup" || $3 == "cgroup2" {print $2}' /proc/mounts; }

# A process is recorded as "pid start-time", so that a pid that was given out again is never taken for ours.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" {print $20}'; }
record_process() { echo "$1 $(start_time "$1")" >>"$dir/processes"; }
is_running() { [ "$2" ] && [ "$(start_time "$1")" = "$2" ]; }

# The first recorded process is unshare, which has the node's network and mount namespaces; the second is its init.
node_pid() {
  local pid started
  [ -e "$dir/processes" ] && read -r pid started <"$dir/processes" && is_running "$pid" "$started" && echo "$pid"
}
ctr_node() { ctr --address "$socket" --namespace k8s.io "$@"; }

# buildah with an image store of its own. Its mounts and what it remembers of them (runroot) are in a mount namespace
# that ends with it, so a killed build leaves neither behind.
buildah_alone() {
  mkdir -p "$cache_root"/images/{store,run}
  # shellcheck disable=SC2016
  unshare --mount --propagation private sh -c 'mount -t tmpfs run "$0" && exec buildah --runroot "$0" "$@"' \
    "$cache_root/images/run" --root "$cache_root/images/store" --storage-driver overlay "$@"
}
