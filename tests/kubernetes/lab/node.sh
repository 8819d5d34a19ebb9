#!/bin/bash
# The node's process 1, in network, PID and mount namespaces of its own: when it ends, the kernel ends every process
# and drops every mount of the node with it. up.sh starts it. Usage: node.sh STATE_DIR
. "$(dirname "${BASH_SOURCE[0]}")/lab.sh"
use_state_dir "$1"
export PATH=$cache/bin:$PATH KUBECONFIG=$dir/kubeconfig

# Sockets, locks, CNI's state and the like go to fixed places outside STATE_DIR: give the node its own of those.
mount --make-rshared /                               # kubelet's volumes have to reach the containers
mount -t tmpfs node-run /run
mount -t tmpfs node-log /var/log
mkdir -p /run/var-lib/{upper,scratch}
mount -t overlay -o lowerdir=/var/lib,upperdir=/run/var-lib/upper,workdir=/run/var-lib/scratch node-var-lib /var/lib

ip link set lo up
ip link add node0 type bridge                        # the node's address; there is no way out of this network
ip addr add 172.30.0.1/24 dev node0
ip link set node0 up
ip route add default dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward

declare -A parts
ended() { echo "$1 ended, and the node with it; its last words:"; tail -n 5 "$dir/logs/$1.log"; exit 1; }
start() { "$@" >"$dir/logs/$1.log" 2>&1 </dev/null & parts[$!]=$1; }
wait_for() {
  until "$@" >/dev/null 2>&1; do
    for pid in "${!parts[@]}"; do kill -0 "$pid" 2>/dev/null || ended "${parts[$pid]}"; done
    sleep .1
  done
}

start etcd --data-dir "$dir/etcd" --unsafe-no-fsync --log-level warn
start containerd --config "$dir/containerd.toml"
certificates=$dir/certificates
start kube-apiserver --etcd-servers http://127.0.0.1:2379 --secure-port 6443 --advertise-address 172.30.0.1 \
  --tls-cert-file "$certificates/server.crt" --tls-private-key-file "$certificates/server.key" \
  --client-ca-file "$certificates/ca.crt" --authorization-mode RBAC --allow-privileged \
  --kubelet-client-certificate "$certificates/admin.crt" --kubelet-client-key "$certificates/admin.key" \
  --kubelet-preferred-address-types InternalIP \
  --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$certificates/service-accounts.pub" \
  --service-account-signing-key-file "$certificates/service-accounts.key" --service-cluster-ip-range 10.96.0.0/16
wait_for ctr_node version
ctr_node images import "$cache/busybox.tar" >/dev/null
wait_for kubectl get --raw /version                  # it answers; what is still missing is made while the others start
start kubelet --config "$dir/kubelet.yaml" --kubeconfig "$KUBECONFIG" --root-dir "$dir/kubelet" \
  --hostname-override node1 --node-ip 172.30.0.1
start kube-proxy --config "$dir/kube-proxy.yaml"
start kube-scheduler --kubeconfig "$KUBECONFIG" --leader-elect=false
start coredns -conf "$dir/Corefile"
wait_for kubectl get --raw /readyz
start kube-controller-manager --kubeconfig "$KUBECONFIG" --leader-elect=false --kube-api-qps 200 --kube-api-burst 400 \
  --service-account-private-key-file "$certificates/service-accounts.key" --root-ca-file "$certificates/ca.crt" \
  --flex-volume-plugin-dir "$dir/kubelet/volume-plugins"
wait_for kubectl wait --for=condition=Ready node/node1 --timeout=1s
wait_for kubectl get serviceaccount default          # without it the first pods are refused
touch "$dir/ready"

wait -n -p pid || true
ended "${parts[$pid]}"
