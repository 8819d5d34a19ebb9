"""``indexpush argo-workflow``: what runs an index's batch on Argo Workflows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from manifests.argo.values import load_batch_values
from manifests.argo.workflow import workflow_objects
from model_repository.names import Target


def argo_workflow(target: Target, bucket: str, values: str, variables: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """The objects as one Kubernetes List, and as YAML; both are what `kubectl apply` takes.

    values: the file. variables: what its `pass_env` may take over.
    Raises `Misconfigured` where there is no such file, `DocumentMalformed` when its values don't do.
    """
    objects = workflow_objects(target, bucket, load_batch_values(Path(values), variables))
    together = {"apiVersion": "v1", "kind": "List", "items": objects}
    return together, yaml.safe_dump_all(objects, sort_keys=False, width=120, allow_unicode=True).rstrip()
