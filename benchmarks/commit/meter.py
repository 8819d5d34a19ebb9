"""Who spends the processor time of a commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.commit.node import Node


class Meter:
    """Counts from when it is made. parts: name -> uids of the pods that take part."""

    def __init__(self, node: Node, parts: Mapping[str, Sequence[str]]) -> None:
        self._node = node
        self._parts = parts
        self._began = self._read()

    def spent(self, serving: str) -> dict[str, float]:
        """CPU seconds by part; `serving`: the uid of the new pod, all of whose time counts."""
        now = self._read()
        return {name: now[name] - began for name, began in self._began.items()} | {
            "serving pod": self._node.pod_cpu(serving)
        }

    def _read(self) -> dict[str, float]:
        pods = {name: sum(self._node.pod_cpu(uid) for uid in uids) for name, uids in self._parts.items()}
        return pods | self._node.daemons_cpu()
