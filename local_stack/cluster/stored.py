"""What every object of the API has."""

from __future__ import annotations

from uuid import uuid4

from local_stack.cluster.manifest import Json
from local_stack.cluster.node import Node, timestamp


class Stored:
    """A Deployment, a Service or a pod: a name, a version, and the facts of its beginning."""

    def __init__(self, node: Node, metadata: Json) -> None:
        """metadata: its name, namespace, labels and annotations."""
        self.node = node
        self.metadata = metadata
        self.name: str = metadata["name"]
        self.namespace: str = metadata["namespace"]
        self.uid = str(uuid4())
        self.created = timestamp()
        self.version = node.next_version()

    def touch(self) -> None:
        """It changed: whoever waits for that is told."""
        self.version = self.node.next_version()

    def shown_metadata(self) -> Json:
        """Its metadata as the API shows them."""
        facts = {"uid": self.uid, "resourceVersion": self.version, "creationTimestamp": self.created}
        return {**self.metadata, **facts}
