"""Requests to a Kubernetes API server through the official client: its credentials and connections, plain dicts.

The client's typed models are left out: they would drop what this release of the client doesn't know.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config

from cd_webhook.cluster.interface import ClusterForbids, ClusterRefused, ClusterUnavailable, Conflict
from model_repository.errors import Misconfigured, reason_of

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"

_CONNECT_SECONDS = 5.0
_READ_SECONDS = 30.0
_REFUSALS = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY})
"""What Kubernetes says of an object that it understood and won't take."""


class Missing(ClusterUnavailable):
    """404: there is no such object, or no such namespace, which somebody may make again."""


class Expired(ClusterUnavailable):
    """410: that version is too long ago; list anew."""


class InternalFault(ClusterUnavailable):
    """500: something in the server failed, or it was asked to apply a field that it doesn't know."""


class KubernetesApi:
    """One API server, with this process's credentials. May be shared by threads."""

    def __init__(self, configuration: Any) -> None:  # noqa: ANN401 - the client is untyped
        """configuration: a kubernetes.client.Configuration."""
        # A second try of a write whose answer was lost would meet its own first one as a conflict: callers look again.
        configuration.retries = False
        configuration.connection_pool_maxsize = 32
        self._client = client.ApiClient(configuration)
        # From Python 3.13 on, authorities that lack some extension of RFC 5280 are refused, and those of many clusters
        # do: https://github.com/kubernetes-client/python/issues/2394. Chain, dates and name are checked as ever.
        context = urllib3.util.ssl_.create_urllib3_context()
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._client.rest_client.pool_manager.connection_pool_kw["ssl_context"] = context

    @classmethod
    def connect(cls, kubeconfig: Path | None) -> KubernetesApi:
        """Use the kubeconfig, or without one the pod's own service account; raises `Misconfigured`."""
        configuration = client.Configuration()
        try:
            if kubeconfig:
                config.load_kube_config(str(kubeconfig), client_configuration=configuration)
            else:
                config.load_incluster_config(client_configuration=configuration)
        except (config.ConfigException, OSError) as error:
            raise Misconfigured(
                f"KUBECONFIG: no credentials for Kubernetes ({error}); set it, or run in a pod"
            ) from error
        return cls(configuration)

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """GET; raises `Missing`, or what `cluster.Cluster` names, as all methods do."""
        return self._json("GET", path, query, None, "")

    def post(self, path: str, body: object, **query: str) -> dict[str, Any]:
        """POST an object; raises `Conflict` if it exists."""
        return self._json("POST", path, query, body, "application/json")

    def patch(self, path: str, body: object, content_type: str, **query: str) -> dict[str, Any]:
        """PATCH; raises `Conflict` if the version in the body isn't the live one."""
        return self._json("PATCH", path, query, body, content_type)

    def delete(self, path: str, options: object) -> None:
        """DELETE with these DeleteOptions; raises `Conflict` if their preconditions don't hold."""
        self._json("DELETE", path, {}, options, "application/json")

    def watch(self, path: str, *, read_seconds: float, **query: str) -> Iterator[dict[str, Any]]:
        """The events of a watch, until the server ends it; `read_seconds` without a byte end it with an error."""
        answer = self._send("GET", path, {**query, "watch": "true"}, None, "", read_seconds).response
        try:
            rest = b""
            for chunk in answer.stream(amt=None, decode_content=True):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        event: dict[str, Any] = json.loads(line)
                        yield event
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise ClusterUnavailable(f"GET {path}: the watch broke off ({error})") from error
        finally:
            answer.close()  # half read: not for reuse

    def _json(self, method: str, path: str, query: dict[str, str], body: object, content_type: str) -> dict[str, Any]:
        answer = self._send(method, path, query, body, content_type, _READ_SECONDS)
        try:
            found: dict[str, Any] = json.loads(answer.response.data)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise ClusterUnavailable(f"{method} {path}: the answer broke off ({error})") from error
        return found

    def _send(  # noqa: PLR0917 - one request
        self, method: str, path: str, query: dict[str, str], body: object, content_type: str, read_seconds: float
    ) -> Any:  # noqa: ANN401 - the client is untyped
        headers = {"Accept": "application/json"}
        if content_type:
            headers["Content-Type"] = content_type
        parameters = self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = self._client.call_api(*parameters, _request_timeout=(_CONNECT_SECONDS, read_seconds))
        except client.ApiException as error:  # the client's word for a failure of TLS
            raise ClusterUnavailable(
                f"{method} {path}: no TLS with Kubernetes ({' '.join(str(error.reason).split())}); "
                "check the cluster's certificate authority in KUBECONFIG, or it may pass"
            ) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ClusterUnavailable(
                f"{method} {path}: no answer from Kubernetes ({reason_of(error)}); it may pass"
            ) from error
        if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            raise error_of(answer.status, f"{method} {path}", answer.response.data)
        return answer


def error_of(status: int, what: str, body: bytes) -> Exception:
    """The error of one of the two families that an answer of the API server means.

    A verdict is only what Kubernetes itself says of the object: a proxy before it has 4xx and pages of its own.
    """
    try:
        found = json.loads(body)
        said, by_kubernetes = str(found["message"]), found.get("kind") == "Status"
    except (ValueError, KeyError, TypeError):
        said, by_kubernetes = body[:500].decode(errors="replace"), False
    sentence = f"{what}: Kubernetes answered {status}: {' '.join(said.split())[:2000]}"
    if status == HTTPStatus.CONFLICT:
        return Conflict(sentence)
    if status == HTTPStatus.NOT_FOUND and by_kubernetes:
        return Missing(sentence)
    if status == HTTPStatus.GONE:
        return Expired(sentence)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return ClusterForbids(f"{sentence}; compare the Role with manifests/webhook/role.yaml")
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return InternalFault(sentence)
    mended = f"{sentence}; mend what it names: the environment's values, or the cluster's policy"
    return ClusterRefused(mended) if by_kubernetes and status in _REFUSALS else ClusterUnavailable(sentence)
