"""Bursts: 1,000 commits over 100 indexes in 10 seconds, through the real function and webhook, as processes.

The cluster is the local one; for a hundred indexes to fit, an image's stand-in (`_IMAGE`) pulls nothing and serves
nothing, but is a process that becomes ready. After each burst the newest commit of every index must have been served,
by its receipt and by the webhook's status, and the memory of function and webhook is read.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local_stack.delivery import DeliveryPolicy
from local_stack.stack import LocalStack, StackOptions
from model_repository.bucket.gcs_store import GcsStore
from model_repository.documents.receipts.receipt import Outcome, parse_receipt
from model_repository.names import IndexPrefix, Target
from model_repository.repository import list_receipts
from tests.builds import publish_build, publish_model

INDEXES, COMMITS = 100, 1000
BURST_SECONDS = 10.0
GROWTH_MIB = 40
"""What the second burst may add to the function's and the webhook's memory."""
_SETTLED_WITHIN = 900.0
_IMAGE = """#!{python} -IS
import os, socket, sys
if "search_server" in sys.argv:
    server = socket.create_server((os.environ["HOST"], int(os.environ["PROBE_PORT"])))
    while True:
        connection, _ = server.accept()
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
        connection.close()
"""


@dataclass
class Bursts:
    """A stack with a good build of every index. uploaded: the commits' generations, the live one last."""

    stack: LocalStack
    store: GcsStore
    targets: list[Target]
    uploaded: dict[Target, list[int]] = field(default_factory=dict)

    def commit(self, target: Target) -> None:
        """Put the target's build live, again."""
        data = json.dumps({"index_prefix": f"indexes/{target.index}/b1"}).encode()
        info = self.store.write(target.commit_name, data, if_generation_match=None)
        self.uploaded.setdefault(target, []).append(info.generation)

    def burst(self, each: int, seconds: float) -> float:
        """Commit `each` times to every index, evenly over `seconds`; gives how long it took."""
        begun, pause = time.monotonic(), seconds / each
        with ThreadPoolExecutor(8) as pool:
            for number in range(each):
                time.sleep(max(0.0, begun + number * pause - time.monotonic()))
                list(pool.map(self.commit, self.targets))  # one at a time for each index: the last is the live one
        return time.monotonic() - begun

    def settle(self) -> list[str]:
        """Wait until the newest commit serves everywhere; what is wrong then."""
        until = time.monotonic() + _SETTLED_WITHIN
        while (waiting := self._not_serving()) and time.monotonic() < until:
            self.stack.check()
            time.sleep(0.5)
        return [*waiting, *(wrong for target in self.targets for wrong in self._false_receipts(target))]

    def _not_serving(self) -> list[str]:
        request = urllib.request.Request(f"{self.stack.webhook_url}/v1/deployments", headers=self.stack.webhook_headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = {one["index"]: one for one in json.load(answer)["deployments"]}
        return [
            f"{target}: {_served(found.get(target.index))}, and {generations[-1]} is live"
            for target, generations in self.uploaded.items()
            if _served(found.get(target.index)) != str(generations[-1])
        ]

    def receipts(self) -> Counter[str]:
        """How many commits ended how."""
        return Counter(outcome.value for target in self.targets for outcome in self._outcomes(target).values())

    def _outcomes(self, target: Target) -> dict[int, Outcome]:
        return {
            generation: parse_receipt(
                self.store.read(target.receipt_name(generation), limit=1 << 20).data, target, generation
            ).outcome
            for generation in list_receipts(self.store, target)
        }

    def _false_receipts(self, target: Target) -> list[str]:
        """The live commit was served, and no other one is called rejected or undone."""
        until = time.monotonic() + 30.0  # a receipt follows what it tells of
        live = self.uploaded[target][-1]
        while live not in (outcomes := self._outcomes(target)) and time.monotonic() < until:
            time.sleep(0.1)
        wrong = {it: said for it, said in outcomes.items() if said not in (Outcome.SERVED, Outcome.SUPERSEDED)}
        if outcomes.get(live) is not Outcome.SERVED:
            wrong[live] = outcomes.get(live, Outcome.UNDONE)
        return [f"{target}: the receipt of {it} says {said}" for it, said in wrong.items()]

    def memory(self) -> dict[str, int]:
        """MiB that the function and the webhook hold, with what they started."""
        return {part: _resident(self.stack.pid(part)) // 1024 for part in ("function", "cd-webhook")}


def _served(status: dict[str, Any] | None) -> str | None:
    if status is None or status["rollout"] != "served":
        return None
    return str(status["requested"]["generation"])


def _resident(session: int) -> int:
    """KiB that the processes of a session hold."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session:
                lines = (folder / "status").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
        except OSError:  # it ended meanwhile
            continue
    return total


def run(
    folder: Path, bursts: int, tell: Callable[[str], None], *, indexes: int = INDEXES, commits: int = COMMITS
) -> int:
    """Run bursts and tell of them; gives how many went wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / "image"
    image.write_text(_IMAGE.format(python=sys.executable))
    image.chmod(0o755)
    delivery = DeliveryPolicy(first_wait=1.0, longest_wait=10.0, give_up_after=_SETTLED_WITHIN)
    broken = 0
    with LocalStack(folder / "stack", StackOptions(images={"indexpush": str(image)}, delivery=delivery)) as stack:
        os.environ["STORAGE_EMULATOR_HOST"] = stack.bucket_url
        store = GcsStore(stack.options.bucket)
        model = publish_model(store)
        targets = [Target(stack.options.environment, f"index-{number:03}") for number in range(indexes)]
        for target in targets:
            publish_build(store, IndexPrefix(target.index, "b1"), model)
        made = Bursts(stack, store, targets)
        made.burst(1, BURST_SECONDS)
        wrong = made.settle()
        tell(f"bursts: a first commit of each of {indexes} indexes: {wrong or 'all serve'}; MiB {made.memory()}")
        broken += bool(wrong)
        for number in range(bursts):
            before, tried = made.memory(), len(stack.delivery.attempts())
            begun = time.monotonic()
            took = made.burst(commits // indexes, BURST_SECONDS)
            wrong = made.settle()
            after = made.memory()
            grown = [part for part, held in after.items() if number and held - before[part] > GROWTH_MIB]
            statuses = Counter(attempt.status for attempt in stack.delivery.attempts()[tried:])
            tell(
                f"bursts: {commits} commits over {indexes} indexes in {took:.1f} s: "
                f"{wrong or 'the newest serves everywhere'} after {time.monotonic() - begun:.0f} s; deliveries by "
                f"status {dict(statuses)}; receipts so far {dict(made.receipts())}; MiB before {before}, after {after}"
            )
            broken += bool(wrong or grown)
    return broken
