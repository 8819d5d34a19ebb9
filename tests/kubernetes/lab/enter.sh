#!/bin/bash
# Run a command where the node's addresses are reachable, with KUBECONFIG and PATH set for it. Usage: enter.sh STATE_DIR COMMAND...
. "$(dirname "${BASH_SOURCE[0]}")/lab.sh"
use_state_dir "${1:-}"
[ $# -ge 2 ] || fail "say what to run, for example: enter.sh $dir kubectl get nodes"
shift
pid=$(node_pid) || fail "no node is up in $dir: run $lab/up.sh $dir"
export KUBECONFIG=$dir/kubeconfig PATH=$cache/bin:$PATH
exec nsenter --net="/proc/$pid/ns/net" -- "$@"
