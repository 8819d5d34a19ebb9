"""An OCI layout to a registry: the image by its tag, and what refers to it.

oras speaks the registry's protocol, and signs in with what `docker login` and credential helpers left. A manifest goes
up as the very bytes that are on disk, as its digest is of them.
"""

from __future__ import annotations

import json
import os
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests
from oras.auth import AuthenticationException
from oras.container import Container
from oras.decorator import retry
from oras.provider import Registry

from tools.images.errors import PushFailed
from tools.images.layout import INDEX, MANIFEST, Layout

_TAKEN = (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.ACCEPTED)
_ON_THIS_MACHINE = ("localhost", "127.0.0.1")
_PATIENCE = 20.0
"""Seconds for the first answer."""


class _Registry(Registry):  # type: ignore[misc]
    """oras's, which tries thrice where nobody answers, and says at once that it isn't let in; its own takes minutes."""

    @retry(attempts=2, timeout=0)  # type: ignore[untyped-decorator]
    def do_request(self, *arguments: Any, **options: Any) -> requests.Response:  # noqa: ANN401 - oras's own
        try:
            answer: requests.Response = Registry.do_request.__wrapped__(self, *arguments, **options)
        except ValueError as error:  # asked to sign in, it has nothing to show
            raise AuthenticationException(str(error)) from error
        if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise AuthenticationException(f"it answers {answer.status_code} {answer.text[:500]}")
        return answer


def push(layout: Layout, repository: str, tag: str) -> str:
    """Push; returns the image as one pulls it for sure, repository@digest. Raises `PushFailed`."""
    container, here = Container(f"{repository}:{tag}"), f"{repository}:{tag}"
    try:
        registry = _sign_in(container)
        _push_manifest(registry, container, layout, layout.digest, tag)
        unknown = [digest for digest in layout.referrers if not _push_referrer(registry, container, layout, digest)]
        if unknown:
            _push_by_tag(registry, container, layout, unknown)
    except AuthenticationException as error:
        raise PushFailed(f"{here}: {error}; sign in (docker login, or gcloud auth configure-docker)") from error
    except (requests.RequestException, ValueError) as error:
        raise PushFailed(f"{here}: {error}; push again, which goes on where this ended") from error
    return f"{repository}@{layout.digest}"


def _sign_in(container: Container) -> Registry:
    """As the registry asks for it: with a password in each request, or for a token."""
    insecure = container.registry.partition(":")[0] in _ON_THIS_MACHINE
    answer = requests.get(f"{'http' if insecure else 'https'}://{container.registry}/v2/", timeout=_PATIENCE)
    by_password = answer.headers.get("WWW-Authenticate", "").lower().startswith("basic")
    registry = _Registry(insecure=insecure, auth_backend="basic" if by_password else "token")
    moved = os.environ.get("DOCKER_CONFIG")
    registry.auth.load_configs(container, [str(Path(moved) / "config.json")] if moved else None)
    if by_password and not hasattr(registry.auth, "_basic_auth"):
        raise AuthenticationException(f"nobody is signed in at {container.registry}")
    return registry


def _push_manifest(
    registry: Registry, container: Container, layout: Layout, digest: str, name: str
) -> requests.Response:
    manifest = layout.json(digest)
    for blob in (*manifest["layers"], manifest["config"]):
        _took(registry.upload_blob(str(layout.blob(blob["digest"])), container, blob), f"{container} {blob['digest']}")
    return _put(registry, container, name, layout.blob(digest).read_bytes(), MANIFEST)


def _push_referrer(registry: Registry, container: Container, layout: Layout, digest: str) -> bool:
    """Whether the registry noticed by itself that it refers (distribution-spec, "Pushing Manifests with Subject")."""
    answer = _push_manifest(registry, container, layout, digest, digest)
    return "OCI-Subject" in answer.headers


def _push_by_tag(registry: Registry, container: Container, layout: Layout, referrers: list[str]) -> None:
    """Name them in the index that clients look for where a registry knows no referrers ("Referrers Tag Schema")."""
    entries = [layout.entry(digest) for digest in referrers]
    index: dict[str, Any] = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    _put(registry, container, layout.digest.replace(":", "-"), json.dumps(index).encode(), INDEX)


def _put(registry: Registry, container: Container, name: str, data: bytes, media_type: str) -> requests.Response:
    url = f"{registry.prefix}://{container.manifest_url(name)}"
    return _took(
        registry.do_request(url, "PUT", data=data, headers={"Content-Type": media_type}), f"{container} {name}"
    )


def _took(answer: requests.Response, what: str) -> requests.Response:
    if answer.status_code not in _TAKEN:
        raise requests.HTTPError(f"{what}: {answer.status_code} {answer.text[:500]}", response=answer)
    return answer
