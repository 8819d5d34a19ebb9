#!/bin/bash
# Build the node's programs from the Go module proxy into the cache; prints the folder. Usage: build.sh
# About 8 minutes on two cores the first time, nothing when it is there already.
. "$(dirname "${BASH_SOURCE[0]}")/lab.sh"
[ -d "$cache/bin" ] && { echo "$cache/bin"; exit; }
need go buildah busybox

lock build                                           # a second build waits for the first, then finds its result
[ -d "$cache/bin" ] && { echo "$cache/bin"; exit; }
rm -rf "$cache_root"/building.*                      # of builds that were killed: this one holds the lock

work=$(mktemp -d "$cache_root/building.XXXXXX"); trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"
mark="-X k8s.io/component-base/version.git"            # without it the programs call themselves v0.0.0-master
flags="-s -w ${mark}Version=v$kubernetes ${mark}Major=1 ${mark}Minor=$(cut -d. -f2 <<<"$kubernetes")"
go_build() { nice go build -mod=readonly -trimpath -buildvcs=false -ldflags "$flags" -o "$work/bin/$1" "${@:2}"; }

cd "$lab/node"
go_build / k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-scheduler,kubelet,kube-proxy,kubectl}
go_build etcd go.etcd.io/etcd/server/v3
cd "$lab/dns"
go_build coredns .

lock images
# One image for the pause container and for tests that want no more than a shell.
mkdir -p "$work"/busybox/{bin,tmp,etc}
cp "$(command -v busybox)" "$work/busybox/bin/busybox"
for applet in $(busybox --list); do [ "$applet" = busybox ] || ln -s busybox "$work/busybox/bin/$applet"; done
chmod 1777 "$work/busybox/tmp"
buildah_alone build --quiet --tag localhost/busybox:1 --file - "$work/busybox" >/dev/null <<<'FROM scratch
COPY . /
CMD ["sleep", "2147483647"]'
buildah_alone push --quiet localhost/busybox:1 "oci-archive:$work/busybox.tar:localhost/busybox:1"
rm -rf "$work/busybox"

mv -T "$work" "$cache"                               # published whole or not at all
echo "$cache/bin"
