#!/bin/bash
# Put Argo Workflows onto the node of STATE_DIR: its image, its kinds, and its controller as a pod, which ends with the node.
# Nothing to do when it is there. Usage: up.sh STATE_DIR
. "$(dirname "${BASH_SOURCE[0]}")/argo.sh"
use_state_dir "${1:-}"
[ -d "$argo_cache" ] || fail "Argo $argo_version is not built yet: run $argo/build.sh"
in_node() { "$lab/enter.sh" "$dir" "$@"; }
in_node kubectl -n argo get deployment workflow-controller >/dev/null 2>&1 && exit

"$lab/image.sh" "$dir" "$argo_cache" "$argo_image" -f "$argo/Dockerfile"
in_node kubectl apply --server-side -f "$argo_cache/crds" >/dev/null   # a plain apply can't: they are larger than an annotation may be
in_node kubectl wait --for=condition=Established --timeout=60s -f "$argo_cache/crds" >/dev/null
in_node kubectl create namespace argo >/dev/null
in_node kubectl apply -f "$argo_cache/role.yaml" >/dev/null
sed "s#IMAGE\$#$argo_image#; s#IMAGE,#$argo_image,#" "$argo/argo.yaml" | in_node kubectl apply -f - >/dev/null
in_node kubectl -n argo rollout status deployment/workflow-controller --timeout=120s
