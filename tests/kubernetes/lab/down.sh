#!/bin/bash
# Stop the node of STATE_DIR and remove all of it but its logs; nothing to do is success. Usage: down.sh STATE_DIR
. "$(dirname "${BASH_SOURCE[0]}")/lab.sh"
use_state_dir "${1:-}"
need_root

# Only what up.sh recorded is killed: the last recorded process is the init of the node's PID namespace, and the kernel
# kills all others of the namespace with it, and lets it go only when they are gone.
if [ -e "$dir/processes" ]; then
  read -r pid started < <(tail -n 1 "$dir/processes")
  if is_running "$pid" "$started"; then kill -KILL "$pid"; fi
  while read -r pid started; do
    for _ in $(seq 1200); do is_running "$pid" "$started" || continue 2; sleep .1; done
    fail "process $pid of the node in $dir does not end; try again"
  done <"$dir/processes"
fi
for hierarchy in $(cgroup_hierarchies); do
  [ ! -d "$hierarchy/$cgroup" ] || find "$hierarchy/$cgroup" -depth -type d -exec rmdir {} +
done
rm -rf "$dir"/{processes,ready,etcd,containerd,containerd.sock,containerd.sock.ttrpc,containerd.toml,kubelet,kubelet.yaml} \
  "$dir"/{kube-proxy.yaml,kubeconfig,Corefile,certificates,cni,argo}
