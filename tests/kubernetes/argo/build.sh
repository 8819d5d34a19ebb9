#!/bin/bash
# Build Argo's controller and executor from the Go module proxy into the cache; prints the folder. Usage: build.sh
# About 6 minutes on two cores the first time, nothing when it is there already.
. "$(dirname "${BASH_SOURCE[0]}")/argo.sh"
[ -d "$argo_cache" ] && { echo "$argo_cache"; exit; }
need go

lock build                                           # after the node's own: two at once would need twice the memory
[ -d "$argo_cache" ] && { echo "$argo_cache"; exit; }
rm -rf "$cache_root"/argo-building.*                 # of builds that were killed: this one holds the lock

work=$(mktemp -d "$cache_root/argo-building.XXXXXX"); trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{source/argo,out/bin}

# The executor's signals on Linux are, upstream, a link to the file for Darwin, and a module's archive holds no links:
# without it the package compiles on no Linux. So the module, checked against go.sum, is copied and the link put back.
cd "$argo"
source=$(go mod download -json "$module@v$argo_version" | sed -nE 's/.*"Dir": "(.*)",?/\1/p')
cp -r --no-preserve=mode "$source"/{go.mod,go.sum,*.go,api,cmd,config,errors,persist,pkg,server,util,workflow} "$work/source/argo/"
cp --no-clobber "$work"/source/argo/workflow/executor/osspecific/signal_{darwin,linux}.go
cp go.mod go.sum "$work/source/"
cd "$work/source"                                    # a relative path: the programs record it, and are the same bytes each time
go mod edit -replace "$module=./argo"

# Without these the controller calls itself v0.0.0, and looks for an executor of that version.
flags="-s -w -X $module.version=v$argo_version -X $module.gitTag=v$argo_version -X $module.gitTreeState=clean"
for name in workflow-controller argoexec; do         # one after the other: linking takes the memory
  CGO_ENABLED=0 nice go build -mod=readonly -trimpath -buildvcs=false -ldflags "$flags" -o "$work/out/bin/$name" "$module/cmd/$name"
done

# The kinds, with their whole schemas for those that the project writes, so that a misspelt field is refused; and what the
# controller may do.
cp -r --no-preserve=mode "$source/manifests/base/crds/minimal" "$work/out/crds"
cp --no-preserve=mode "$source"/manifests/base/crds/full/argoproj.io_{workflows,workflowtemplates,cronworkflows}.yaml "$work/out/crds/"
rm "$work"/out/crds/{kustomization.yaml,README.md}
cp --no-preserve=mode "$source/manifests/cluster-install-no-crds/workflow-controller-rbac/workflow-controller-clusterrole.yaml" "$work/out/role.yaml"

mv -T "$work/out" "$argo_cache"                      # published whole or not at all
echo "$argo_cache"
