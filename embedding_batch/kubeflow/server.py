"""Kubeflow's API server: a pipeline's versions, and the recurring run of one of them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import urllib3

from embedding_batch.errors import PipelinesRefused, PipelinesUnavailable

_BUSY = frozenset({408, 429})
_SERVER_FAILED = 500


@dataclass(frozen=True, slots=True)
class Version:
    """An uploaded pipeline, by the IDs that Kubeflow gave."""

    pipeline_id: str
    version_id: str


class _Client(kfp.Client):  # type: ignore[misc] # it has no types
    """kfp's, less a question at each start (for 25 s where nobody answers) and a file that it keeps the answer in."""

    def get_kfp_healthz(self, _sleep_duration: int = 5) -> kfp_server_api.V2beta1GetHealthzResponse:
        """Say that there are no users: whose namespace is meant is said with each request."""
        return kfp_server_api.V2beta1GetHealthzResponse(multi_user=False)


class Server:
    """One API server. Every method raises PipelinesUnavailable and PipelinesRefused."""

    def __init__(self, host: str, namespace: str, token: str, ca: Path | None) -> None:
        """Reach it.

        host: its URL, or empty for the one of the cluster that this runs in. namespace: of a Kubeflow with several
        users; empty: it has none. token: sent as it is; empty: none, or the pod's own. ca: of its certificate.
        """
        self._host = host
        self._namespace = namespace or None
        with warnings.catch_warnings(), self._answering():
            warnings.simplefilter("ignore")  # kfp's, about servers of 2021
            self._client = _Client(
                host=host or None,
                namespace=namespace or "kubeflow",
                existing_token=token or None,
                ssl_ca_cert=None if ca is None else str(ca),
            )

    def upload(self, file: Path, name: str, version: str) -> Version:
        """Upload a pipeline, or a version of the one that has this name. version: a name that it has none of yet."""
        with self._answering():
            pipeline = self._pipeline(name)
            if pipeline is not None:
                made = self._client.upload_pipeline_version(str(file), version, pipeline_id=pipeline)
                return Version(made.pipeline_id, made.pipeline_version_id)
            pipeline = self._client.upload_pipeline(str(file), name, namespace=self._namespace).pipeline_id
            versions = self._client.list_pipeline_versions(pipeline, page_size=1, sort_by="created_at desc")
            return Version(pipeline, versions.pipeline_versions[0].pipeline_version_id)

    def schedule(self, version: Version, name: str, cron: str, service_account: str | None) -> str:
        """Have a version run again and again, in place of what ran under this name; returns the recurring run's ID.

        cron: six fields, of seconds first. A run that is due while one isn't done waits for it; of those that were
        missed, only the last is made up for. What ran before is deleted when the new one stands: none is lost if this
        fails in between, and the next call deletes what is left.
        """
        with self._answering():
            experiment = self._client.create_experiment(name, namespace=self._namespace).experiment_id
            before = [run for run in self._recurring_runs(experiment) if run.display_name == name]
            made = self._client.create_recurring_run(
                experiment_id=experiment,
                job_name=name,
                cron_expression=cron,
                max_concurrency=1,
                no_catchup=True,
                enable_caching=False,
                pipeline_id=version.pipeline_id,
                version_id=version.version_id,
                service_account=service_account,
            )
            for run in before:
                self._client.delete_recurring_run(run.recurring_run_id)
            return str(made.recurring_run_id)

    def _pipeline(self, name: str) -> str | None:
        wanted = {"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]}
        found = self._client.list_pipelines(namespace=self._namespace, filter=json.dumps(wanted)).pipelines
        return next((one.pipeline_id for one in found or [] if one.display_name == name), None)

    def _recurring_runs(self, experiment: str) -> Iterator[Any]:
        page = ""
        while True:
            found = self._client.list_recurring_runs(page_token=page, page_size=100, experiment_id=experiment)
            yield from found.recurring_runs or []
            page = found.next_page_token
            if not page:
                return

    @contextmanager
    def _answering(self) -> Iterator[None]:
        where = self._host or "Kubeflow's API server in this cluster"
        try:
            yield
        except kfp_server_api.ApiException as error:
            said = f"{where} answered {error.status} {error.reason}: {str(error.body)[:500]}"
            if error.status in _BUSY or (error.status or _SERVER_FAILED) >= _SERVER_FAILED:
                raise PipelinesUnavailable(f"{said}; try again") from None
            raise PipelinesRefused(f"{said}; check --namespace, KUBEFLOW_TOKEN and what it may do") from None
        except (urllib3.exceptions.HTTPError, TimeoutError) as error:
            reason = getattr(error, "reason", None) or error
            raise PipelinesUnavailable(f"{where} didn't answer: {reason}; check --host, or try again") from None
