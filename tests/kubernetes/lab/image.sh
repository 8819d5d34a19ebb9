#!/bin/bash
# Build CONTEXT's Dockerfile and put it on the node of STATE_DIR as TAG (localhost/name:version, never :latest, which
# Kubernetes would try to pull). Usage: image.sh STATE_DIR CONTEXT TAG [BUILDAH_BUILD_OPTIONS...]
# The Dockerfile names its parent as ARG BASE: for people an official Python image, here a Debian with Python.
. "$(dirname "${BASH_SOURCE[0]}")/lab.sh"
use_state_dir "${1:-}"
[ $# -ge 3 ] || fail "say what to build and its name: image.sh STATE_DIR CONTEXT TAG"
context=$2 tag=$3; shift 3
[[ $tag == localhost/*:* && $tag != *:latest ]] || fail "$tag is not localhost/NAME:VERSION with a version other than latest"
need_root
need buildah mmdebstrap ctr
node_pid >/dev/null || fail "no node is up in $dir: run $lab/up.sh $dir"

# --- the base: Debian 13 has Python 3.13; python, pip and PATH are as in the official image ---
lock images
buildah_alone rm --all >/dev/null                    # working containers of builds that were killed
# shellcheck disable=SC2016,SC2054
recipe=(--variant=minbase --include=ca-certificates,python3-pip,python3-venv,python-is-python3
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*'
  --dpkgopt='path-exclude=/usr/share/locale/*' --customize-hook='rm "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' trixie)
base=localhost/debian-python:$(sha256sum <<<"${recipe[*]}" | cut -c1-8)
if ! buildah_alone inspect --type image "$base" >/dev/null 2>&1; then
  rm -rf "$cache_root"/images/base.*                 # of runs that were killed: this one holds the lock
  work=$(mktemp -d "$cache_root/images/base.XXXXXX"); trap 'rm -rf "$work"' EXIT
  TMPDIR=$work unshare --mount --propagation private mmdebstrap --quiet "${recipe[@]}" "$work/base.tar" ||
    fail "mmdebstrap could not make the base image"
  buildah_alone build --quiet --tag "$base" --file - "$work" >/dev/null <<<'FROM scratch
ADD base.tar /
ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin LANG=C.UTF-8
CMD ["python"]'
fi

# --- the image; the machine's way to its package registries is lent to the build, and not left in the image ---
lent=()
for file in /etc/ssl/certs/ca-certificates.crt /etc/pip.conf; do [ ! -e "$file" ] || lent+=(--volume "$file:$file:ro"); done
archive=$cache_root/images/archive.tar               # uncompressed, unlike what buildah push writes: seconds saved
rm -f "$archive"
buildah_alone build --layers --isolation chroot --build-arg BASE="$base" "${lent[@]}" "$@" \
  --tag "oci-archive:$archive:$tag" "$context" >&2
ctr_node images import "$archive" >&2
rm -f "$archive"
