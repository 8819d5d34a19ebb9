"""SIGKILL for the parts of the real local stack at random moments, round after round.

After each round every part runs again and a sweep was asked for; then the live commit must serve, or its receipt says
why it doesn't and the last good build serves. Receipts are read again after each round: none may ever change.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from local_stack.delivery import DeliveryPolicy
from local_stack.demo.programs import run_batch
from local_stack.demo.sabotage import copy_build
from local_stack.demo.search import Search
from local_stack.stack import LocalStack, StackOptions
from model_repository.bucket.gcs_store import GcsStore
from model_repository.documents.receipts.receipt import Outcome, parse_receipt
from model_repository.errors import DeliveryError, TransientError
from model_repository.names import IndexPrefix, Target
from model_repository.repository import list_receipts
from tests.running import running_for

TARGET = Target("local", "home-store")
PARTS = ("function", "cd-webhook", "bucket-server", "pods", "delivery")
MALFORMED = b"{not json"
ROUND_SECONDS = 120.0
"""Within this a round has settled, or something hangs."""
_SWEEP_SECONDS = 5.0
_TELL_EVERY = 20
_CATALOGUE = Path(__file__).resolve().parents[2] / "local_stack" / "demo" / "home_store"


class Broken(AssertionError):
    """A round ended otherwise than promised."""


@dataclass
class Chaos:
    """A stack with two good builds, and what was seen of it. uploaded: what each known generation holds."""

    stack: LocalStack
    store: GcsStore
    builds: tuple[IndexPrefix, IndexPrefix]
    uploaded: dict[int, bytes] = field(default_factory=dict)
    receipts: dict[int, bytes] = field(default_factory=dict)
    killed: Counter[str] = field(default_factory=Counter)
    """By part; `pods` counts processes."""
    slowest: float = 0.0
    """Seconds from the end of the faults to the right state, in the slowest round."""

    def round(self, name: str) -> None:
        """One round, made from its name alone. Raises `Broken`."""
        chance = random.Random(name)
        acts: list[tuple[float, Callable[[], None]]] = []
        for _ in range(chance.choice((1, 1, 2, 3))):
            data = self._commit(chance)
            acts.append((chance.uniform(0.0, 1.5), lambda data=data: self.upload(data)))  # type: ignore[misc]
        for part in chance.choices(PARTS, k=chance.choice((1, 2, 3))):
            moment = chance.uniform(0.0, 3.0)
            acts += [(moment, lambda part=part: self.kill(part))]  # type: ignore[misc]
            acts += [(moment + chance.uniform(0.0, 1.5), self.revive)]
        begun = time.monotonic()
        for moment, act in sorted(acts, key=lambda found: found[0]):
            time.sleep(max(0.0, begun + moment - time.monotonic()))
            act()
        self.revive()
        self._settle()

    def _commit(self, chance: random.Random) -> bytes:
        build = chance.choice((*self.builds * 4, IndexPrefix(TARGET.index, "missing"), None))
        return MALFORMED if build is None else json.dumps({"index_prefix": str(build)}).encode()

    def upload(self, data: bytes) -> None:
        """Put a commit live, as a batch does that is run again when the bucket doesn't answer."""
        while True:
            with contextlib.suppress(TransientError):
                info = self.store.write(TARGET.commit_name, data, if_generation_match=None)
                self.uploaded[info.generation] = data
                return
            self.revive()

    def kill(self, part: str) -> None:
        """SIGKILL a part; of the delivery, which is threads of ours, everything that isn't acknowledged is lost."""
        self.killed[part] += 1
        if part == "delivery":
            self.stack.delivery.forget()
        elif part == "pods":
            pids = self._pods()
            self.killed[part] += len(pids) - 1
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        else:
            self.stack.kill(part)

    def revive(self) -> None:
        """Every part runs again."""
        self.stack.revive()

    def _pods(self) -> list[int]:
        """Every process of this stack's pods: pullers and search servers."""
        return running_for(self.stack.work_dir / "cluster" / "pods")

    def _settle(self) -> None:
        begun, swept = time.monotonic(), -_SWEEP_SECONDS
        while (wrong := self._wrong()) is not None:
            now = time.monotonic() - begun
            if now > ROUND_SECONDS:
                raise Broken(f"after {now:.0f} s still: {wrong}")
            if now - swept > _SWEEP_SECONDS:
                swept = now
                self.stack.sweep()
            time.sleep(0.1)
        self.slowest = max(self.slowest, time.monotonic() - begun)

    def _wrong(self) -> str | None:
        """What isn't yet as it should be; None: all is. Raises `Broken` for what can't mend itself."""
        live = self.store.read(TARGET.commit_name, limit=1 << 20)
        self.uploaded.setdefault(live.generation, live.data)  # one whose upload was cut off
        outcomes = self._read_receipts()
        if live.generation not in outcomes:
            return f"no receipt of the live commit {live.generation}"
        if outcomes[live.generation] is Outcome.SUPERSEDED:
            raise Broken(f"the live commit {live.generation} is called superseded")
        serves = next((found for found, outcome in outcomes.items() if outcome is Outcome.SERVED), None)
        shown = self._served()
        return None if shown == serves else f"{serves} should be served, but {shown} is"

    def _read_receipts(self) -> dict[int, Outcome]:
        """What the receipts say, the newest first. Raises `Broken` where one changed, or isn't true."""
        outcomes = {}
        for generation in list_receipts(self.store, TARGET):
            data = self.store.read(TARGET.receipt_name(generation), limit=1 << 20).data
            if self.receipts.setdefault(generation, data) != data:
                raise Broken(f"the receipt of {generation} was {self.receipts[generation]!r} and is {data!r}")
            outcome = parse_receipt(data, TARGET, generation).outcome
            commit = self.uploaded.get(generation)  # None: it was cut off, and replaced since
            good = commit is None or any(str(build).encode() in commit for build in self.builds)
            if outcome is Outcome.UNDONE or (outcome is Outcome.REJECTED and commit and good):
                raise Broken(f"nothing is wrong with the commit {generation}, but: {data!r}")
            if outcome is Outcome.SERVED and not good:
                raise Broken(f"commit {generation} can't be served, but: {data!r}")
            outcomes[generation] = outcome
        return outcomes

    def counts(self) -> str:
        """What happened so far."""
        said = Counter(parse_receipt(data, TARGET, it).outcome.value for it, data in self.receipts.items())
        unseen = len(self.uploaded.keys() - self.receipts.keys())
        return (
            f"killed {dict(self.killed)}; {len(self.uploaded)} commits, receipts {dict(said)}, "
            f"{unseen} replaced before anybody looked; the slowest round settled in {self.slowest:.1f} s"
        )

    def _served(self) -> int | None:
        url = self.stack.service_url(TARGET.index)
        with contextlib.suppress(OSError, http.client.HTTPException):
            return int(Search(url).status()["generation"]) if url else None
        return None


@contextmanager
def chaos(folder: Path) -> Iterator[Chaos]:
    """A stack in `folder` with two builds of a few products."""
    catalogue = folder / "catalogue"
    catalogue.mkdir(parents=True)
    (catalogue / "images").symlink_to(_CATALOGUE / "images")
    lines = (_CATALOGUE / "catalogue.jsonl").read_text(encoding="utf-8").splitlines()[::20]
    (catalogue / "catalogue.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    options = StackOptions(delivery=DeliveryPolicy(first_wait=0.1, longest_wait=1.0, duplicates=0.25))
    with LocalStack(folder / "stack", options) as stack:
        os.environ["STORAGE_EMULATOR_HOST"] = stack.bucket_url
        arguments = ["--index", TARGET.index, "--build", "a", "--environment", TARGET.environment]
        first = run_batch(
            ["--catalogue", str(catalogue), *arguments], stack.variables(), folder / "cache", lambda *_: None
        )
        build = IndexPrefix.parse(first["index_prefix"])
        store = GcsStore(stack.options.bucket, patience=1.0)
        other = copy_build(store, build, IndexPrefix(TARGET.index, "b"), lambda *_: None)
        made = Chaos(stack, store, (build, other))
        made._settle()
        yield made


def run(folder: Path, rounds: int, seed: int, tell: Callable[[str], None]) -> int:
    """Run rounds and tell of them; gives how many broke a promise."""
    broken = 0
    begun = time.monotonic()
    with chaos(folder) as made:
        for number in range(rounds):
            try:
                made.round(f"{seed}/{number}")
            except (Broken, DeliveryError, OSError) as error:
                broken += 1
                tell(f"round {number} of seed {seed}: {type(error).__name__}: {error}")
            if (number + 1) % _TELL_EVERY == 0 or number + 1 == rounds:
                done = f"{number + 1 - broken} of {number + 1} rounds right in {time.monotonic() - begun:.0f} s"
                tell(f"kills: seed {seed}: {done}; {made.counts()}")
    return broken
