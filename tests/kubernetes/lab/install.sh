#!/bin/bash
# Install what the lab takes from Debian (or Ubuntu). Needs root; does nothing when all of it is there. Usage: install.sh
. "$(dirname "${BASH_SOURCE[0]}")/lab.sh"
need_root

missing=()
want() { [ -e "$1" ] || command -v "$1" >/dev/null || missing+=("$2"); }   # by program: a machine may have it from elsewhere
want containerd containerd
want runc runc
want /usr/lib/cni/bridge containernetworking-plugins
want buildah buildah
want mmdebstrap mmdebstrap
want /usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
want /bin/busybox busybox-static
want ip iproute2
want nft nftables
want openssl openssl
want nsenter util-linux

if [ ${#missing[@]} -gt 0 ]; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq || echo "install.sh: apt-get update failed in part; going on with the lists there are" >&2
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || fail "apt-get could not install: ${missing[*]}"
fi

# Go fetches by itself the exact version that go.mod names, from 1.21 on.
go_version=$(go env GOVERSION 2>/dev/null) || fail "no Go here: install Go 1.21 or newer (Debian 12's own is older)"
case $go_version in go1.[0-9] | go1.[0-9].* | go1.1[0-9]* | go1.20*) fail "$go_version is too old: install Go 1.21 or newer" ;; esac
