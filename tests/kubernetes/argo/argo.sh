# What this folder's scripts share with the lab's, and where the built Argo stands. Sourced, never run.
# shellcheck shell=bash disable=SC2034
argo=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$argo/../lab/lab.sh"

module=github.com/argoproj/argo-workflows/v4
argo_version=$(sed -nE "s#^\s*$module v([^ ]+).*#\1#p" "$argo/go.mod")
argo_cache=$cache_root/argo-$argo_version-$(cat "$argo"/{go.mod,go.sum,build.sh} | sha256sum | cut -c1-8)
argo_image=localhost/argo:$argo_version
