#!/bin/bash
# Start a one-node Kubernetes; prints its kubeconfig's path. Usage: up.sh STATE_DIR
# A node that is already up in STATE_DIR (a killed run's) is taken down first.
. "$(dirname "${BASH_SOURCE[0]}")/lab.sh"
use_state_dir "${1:-}"
need_root
need containerd runc ip nft openssl unshare nsenter
[ -d "$cache/bin" ] || fail "Kubernetes $kubernetes is not built yet: run $lab/build.sh"
"$lab/down.sh" "$dir"

rm -rf "$dir/logs"; mkdir -p "$dir"/{logs,certificates,cni}

# --- who may do what: one authority signs for the server, for the administrator and for server -> kubelet ---
cd "$dir/certificates"
new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }
new_certificate() {  # name, subject, extensions
  new_key "$1.key"
  openssl req -new -key "$1.key" -subj "$2" |
    openssl x509 -req -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile <(echo "$3") -out "$1.crt" 2>/dev/null
}
(
  umask 077
  # without a key usage, as the authorities of many clusters: clients must get along with that
  new_key ca.key; openssl req -x509 -new -key ca.key -subj /CN=lab -days 30 -out ca.crt
  new_key service-accounts.key; openssl ec -in service-accounts.key -pubout -out service-accounts.pub 2>/dev/null
  new_certificate server /CN=kube-apiserver \
    subjectAltName=IP:127.0.0.1,IP:172.30.0.1,IP:10.96.0.1,DNS:localhost,DNS:kubernetes.default.svc
  new_certificate admin /O=system:masters/CN=admin extendedKeyUsage=clientAuth
)
encoded() { base64 -w0 <"$1"; }
(umask 077; cat >"$dir/kubeconfig") <<Y
apiVersion: v1
kind: Config
clusters: [{name: lab, cluster: {server: "https://127.0.0.1:6443", certificate-authority-data: $(encoded ca.crt)}}]
users: [{name: admin, user: {client-certificate-data: $(encoded admin.crt), client-key-data: $(encoded admin.key)}}]
contexts: [{name: lab, context: {cluster: lab, user: admin}}]
current-context: lab
Y

# --- what the parts are told ---
cat >"$dir/cni/10-pods.conflist" <<Y
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "pods0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}
Y
# No CAP_SYS_RESOURCE (a sandboxed machine) means that no process may lower its OOM score: restrict_oom_score_adj.
cat >"$dir/containerd.toml" <<Y
version = 2
root = "$dir/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "$socket"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/busybox:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
Y
# The image store is filled by hand, so nothing may be thrown out of it for want of disk: imageGC 100.
cat >"$dir/kubelet.yaml" <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, x509: {clientCAFile: "$dir/certificates/ca.crt"}, webhook: {enabled: true}}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
enforceNodeAllocatable: [pods]
failSwapOn: false
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
clusterDNS: [172.30.0.1]
clusterDomain: cluster.local
resolvConf: ""
containerRuntimeEndpoint: "unix://$socket"
podLogsDir: "$dir/logs/pods"
volumePluginDir: "$dir/kubelet/volume-plugins"
Y
cat >"$dir/kube-proxy.yaml" <<Y
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: "$dir/kubeconfig"}
clusterCIDR: 10.88.0.0/16
hostnameOverride: node1
conntrack: {maxPerCore: 0}
Y
cat >"$dir/Corefile" <<Y
cluster.local 10.in-addr.arpa {
  errors
  kubernetes cluster.local 10.in-addr.arpa {
    kubeconfig $dir/kubeconfig lab
  }
}
Y

for hierarchy in $(cgroup_hierarchies); do
  mkdir -p "$hierarchy/$cgroup"
  [ -e "$hierarchy/cgroup.subtree_control" ] || continue   # version 1
  for controller in cpu cpuset memory hugetlb pids; do     # kubelet wants each of them that the kernel has
    { echo "+$controller" >"$hierarchy/cgroup.subtree_control"; } 2>/dev/null || true
  done
done

# --- start, and wait until it serves ---
setsid unshare --net --pid --mount --propagation private --fork --kill-child --mount-proc \
  "$lab/node.sh" "$dir" >"$dir/logs/node.log" 2>&1 </dev/null &
record_process $!
until init=$(cat "/proc/$!/task/$!/children" 2>/dev/null) && [ "$init" ]; do
  kill -0 $! 2>/dev/null || fail "the node could not be started: $(cat "$dir/logs/node.log")"
  sleep .05
done
record_process "${init% }"

for _ in $(seq 600); do
  [ -e "$dir/ready" ] && { echo "$dir/kubeconfig"; exit; }
  node_pid >/dev/null || break
  sleep .2
done
cat "$dir/logs/node.log" >&2
"$lab/down.sh" "$dir"
fail "the node did not become ready: see $dir/logs"
