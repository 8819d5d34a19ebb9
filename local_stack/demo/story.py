"""The steps of the demo, each checked as it goes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from local_stack.demo import checks, sabotage
from local_stack.demo.client import Client, Traffic
from local_stack.demo.console import Console
from local_stack.demo.programs import run_batch, run_indexpush
from local_stack.demo.search import Search
from local_stack.demo.searching import Searching
from local_stack.demo.shop.products import Product, catalogue_lines, kinds, pictures, product_ids
from local_stack.demo.shop.things import published_detector, room_photo
from local_stack.demo.timeline import stages
from local_stack.processes import ProgramFailed
from local_stack.stack import LocalStack
from model_repository.bucket.gcs_store import GcsStore
from model_repository.documents.receipts.receipt import Outcome, Receipt
from model_repository.errors import ObjectMissing
from model_repository.names import IndexPrefix, Target
from model_repository.repository import read_build, read_commit_object, read_receipt

INDEX = "home-store"
_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.02


@dataclass(slots=True)
class Story:
    """Tells the demo step by step. products: of both days, by id. days: yesterday's and today's catalogue."""

    stack: LocalStack
    store: GcsStore
    console: Console
    products: Mapping[str, Product]
    days: tuple[Path, Path]
    cache: Path
    target: Target
    ours: bool = True
    """Whether it is the home store, of which more is known than of another shop."""
    detector: tuple[str, ...] = ()
    """Options of the batch; none: there is no detector."""
    indexes: list[str] = field(default_factory=lambda: [INDEX])
    """All that were put live."""
    builds: list[IndexPrefix] = field(default_factory=list)
    ready: list[float] = field(default_factory=list)
    """Seconds from each good commit until it answered."""

    @property
    def _search(self) -> Search:
        return self._search_of(INDEX)

    def _search_of(self, index: str) -> Search:
        url = self.stack.service_url(index)
        if url is None:
            raise checks.Misbehaved(f"there should be a Service for {index}, but the cluster has none")
        return Search(url)

    def _generation(self) -> int:
        return read_commit_object(self.store, self.target).generation

    def _committed(self) -> float:
        """When the live commit was uploaded: by the bucket's word, since who uploads takes a moment to end."""
        info = self.store.stat(self.target.commit_name)
        if info is None:
            raise checks.Misbehaved(f"{self.target.commit_name} should be in the bucket, but isn't")
        return info.updated.timestamp()

    # 2 and 3

    def first_build(self) -> None:
        """The batch makes an index of yesterday's products, and its commit puts it live."""
        with self.console.step(
            2, "batch, over yesterday's catalogue: pictures -> embeddings -> Annoy -> bucket -> commit"
        ):
            self._tell_of_days()
            self._publish_detector()
            summary = self._batch(self.days[0])
            committed = self._committed()
        with self.console.step(3, "the commit's event puts the index live; nothing else triggers anything"):
            receipt = self._receipt(summary["generation"])
            answered = self._first_answer(receipt.generation)
            checks.went_live(receipt, self._search.status(), summary["index_prefix"])
            self._tell_timeline(receipt.generation, committed, answered)
            self.ready.append(answered - committed)
            self._says_where(INDEX)
            again = self._run_batch(self.days[0])
            checks.was_unchanged(again, receipt.generation)
            self.console.note(f"the batch again, over the same catalogue: {again['outcome']}, no build and no rollout")

    def _says_where(self, index: str) -> None:
        self.console.note(f"{index} answers at {self.stack.service_url(index)}/")

    def _tell_of_days(self) -> None:
        yesterday, today = (set(product_ids(day)) for day in self.days)
        self.console.note(
            f"the shop has {len(self.products)} products, of which {len(yesterday)} were for sale yesterday; "
            f"today {len(yesterday - today)} are gone, and {len(today - yesterday)} are new"
        )

    @property
    def room(self) -> Path:
        """The file with the photo of a room."""
        return self.days[0].parent / "room.jpg"

    def _publish_detector(self) -> None:
        if not self.ours:
            return
        self.room.write_bytes(room_photo(self.products))
        try:
            self.detector = published_detector(self.cache / "models", self.room, self.stack.variables())
        except ProgramFailed as error:
            self.console.note(f"without a detector, photos are searched whole: {error}")

    def _run_batch(self, catalogue: Path) -> dict[str, Any]:
        arguments = ["--catalogue", str(catalogue), "--index", INDEX, "--environment", self.target.environment]
        arguments += ["--by", "hourly-batch", *self.detector]
        with self.console.bar() as advance:
            return run_batch(arguments, self.stack.variables(), self.cache, advance)

    def _batch(self, catalogue: Path) -> dict[str, Any]:
        summary = self._run_batch(catalogue)
        self.builds.append(IndexPrefix.parse(summary["index_prefix"]))
        self.console.note(
            f"{summary['items']} products: {summary['embedded']} embedded, {summary['reused']} reused, "
            f"{len(summary['broken'])} broken; recall@10 {summary['recall']:.3f}; "
            f"{summary['bytes_to_pull'] / 1e6:.1f} MB to pull"
        )
        seconds = ", ".join(f"{step} {took:.1f}" for step, took in summary["seconds"].items())
        self.console.note(f"seconds: {seconds}")
        return summary

    def _tell_timeline(self, generation: int, committed: float, answered: float) -> None:
        came = min(
            attempt.began
            for attempt in self.stack.delivery.attempts()
            if attempt.message.attributes.get("objectGeneration") == str(generation)
        )
        events = [event for event in self.stack.cluster.events(INDEX) if event["time"] >= came]
        shares = stages(committed, came, events, answered)
        checks.add_up([stage.seconds for stage in shares], answered - committed)
        self.console.note(f"commit -> ready: {answered - committed:.2f} s")
        for stage in shares:
            self.console.note(f"  {stage.seconds:5.2f} s  {stage.name}")

    # 4

    def search(self) -> None:
        """Items, pictures and vectors find what they should, and better than colours would."""
        with self.console.step(4, "search by item, by picture, by vector; and how good it is"):
            searching = Searching(self._search, self.console, self.products, kinds(self.days[0]))
            searching.each_way(self._an_item)
            if self.detector:
                searching.in_a_room(self.room)
            if self.ours:
                searching.measure()

    @property
    def _an_item(self) -> str:
        """One that both days have: a chair, if that can be known."""
        today, labels = set(product_ids(self.days[1])), kinds(self.days[0])
        both = [item for item in product_ids(self.days[0]) if item in today]
        return next((item for item in both if labels.get(item) == "chair"), both[0])

    # 5 and 6

    def redeploy(self) -> None:
        """The same commit uploaded again is a new generation, and nobody notices."""
        with self.console.step(5, "redeploy: the same commit object uploaded again, while a client asks all the time"):
            before = self._generation()
            build = self.builds[-1]

            def upload_again() -> None:
                stored = read_commit_object(self.store, self.target)
                self.store.write(self.target.commit_name, stored.data, if_generation_match=stored.generation)

            with self._asking() as client:
                after = self._replaced(client, upload_again, build)
                self._until_alone(after)
            self._went_unnoticed(client.traffic, before, after)

    def second_build_and_rollback(self) -> None:
        """Today's catalogue goes live, and then yesterday's build again."""
        with self.console.step(6, "a second build, from today's catalogue, goes live; then rollback to the first"):
            before = self._generation()
            new = pictures(self.days[1]) - pictures(self.days[0])
            summaries: list[dict[str, Any]] = []
            with self._asking() as client:
                second = self._replaced(client, lambda: summaries.append(self._batch(self.days[1])), None)
                checks.embedded_only_new(summaries[0]["embedded"], len(new))
                self._says_status()
                third = self._replaced(
                    client, lambda: self._indexpush("rollback", INDEX, "--reason", "the demo"), self.builds[0]
                )
                self._says_status()
                self._until_alone(third)
            self._went_unnoticed(client.traffic, before, second, third)
            took = statistics.median(self.ready)
            self.console.note(f"from a commit to ready it took {took:.1f} s, the median of {len(self.ready)}")

    def _replaced(self, client: Client, act: Callable[[], object], build: IndexPrefix | None) -> int:
        """Do what uploads a commit, while `client` asks, until its generation answers; `build` None: the newest."""
        act()
        committed = self._committed()
        generation = self._generation()
        receipt = self._receipt(generation)
        if not client.wait_for(generation, _PATIENCE_SECONDS):
            raise checks.Misbehaved(f"generation {generation} should answer; its receipt says {receipt.outcome}")
        checks.went_live(receipt, self._search.status(), str(build or self.builds[-1]))
        self.ready.append(receipt.finished.timestamp() - committed)
        self.console.note(f"generation {generation} is live after {self.ready[-1]:.2f} s")
        return generation

    def _went_unnoticed(self, traffic: Traffic, *generations: int) -> None:
        checks.was_uninterrupted(traffic)
        checks.moved_on(traffic, *generations)
        self.console.note(f"{traffic.requests} requests meanwhile, {len(traffic.failures)} failed")

    @contextmanager
    def _asking(self) -> Iterator[Client]:
        url = self.stack.service_url(INDEX)
        today = set(product_ids(self.days[1]))
        both = [item for item in product_ids(self.days[0]) if item in today]
        with Client(url or "", both) as client:
            yield client

    def _until_alone(self, generation: int) -> None:
        """Wait until the older pods are gone: a drain is part of what a client must not notice."""
        self._wait(lambda: len(self.stack.cluster.pods(INDEX)) == 1, f"one pod, of generation {generation}")

    def _says_status(self) -> None:
        status = self._search.status()
        self.console.note(f"/v1/status: generation {status['generation']}, {status['index_prefix']}")

    def _indexpush(self, *arguments: str) -> None:
        said = run_indexpush(list(arguments), self.operator_variables())
        self.console.note(f"$ indexpush {' '.join(arguments[:2])}")
        self.console.note(f"    {said.splitlines()[0]}")

    def operator_variables(self) -> dict[str, str]:
        """What makes `indexpush` work against this stack."""
        variables = self.stack.variables()
        keep = {name: variables[name] for name in ("MODEL_REPOSITORY", "STORAGE_EMULATOR_HOST")}
        return keep | {"INDEXPUSH_ENVIRONMENT": self.target.environment}

    # 7

    def own_vectors(self) -> None:
        """Vectors from elsewhere become an index without a model, with either engine."""
        with self.console.step(7, "vectors of one's own, without a model: on two engines, side by side"):
            vectors = self._write_vectors()
            for engine, storage in (("annoy", "float32"), ("faiss-hnsw", "int8")):
                self._index_vectors(vectors, f"own-{engine}", engine, storage)
            for index in self.indexes[1:]:
                self._says_where(index)

    def _write_vectors(self) -> Path:
        """What a team's own job would write: here the vectors of the shop, as Parquet."""
        search, found = self._search, self.days[1] / "vectors.parquet"
        products = [item for item in catalogue_lines(self.days[0]) if item["id"] in set(product_ids(self.days[1]))]
        columns = {
            "id": [product["id"] for product in products],
            "category": [product["category"] for product in products],
            "vector": [search.vector(product["id"]) for product in products],
        }
        pq.write_table(pa.table(columns), found)
        return found

    def _index_vectors(self, vectors: Path, index: str, engine: str, storage: str) -> None:
        arguments = ["index", "--vectors", str(vectors), "--engine", engine, "--storage", storage]
        # so few of a category would be searched exactly
        arguments += ["--index", index, "--environment", self.target.environment, "--exact-items", "0"]
        with self.console.bar() as advance:
            summary = run_batch(arguments, self.stack.variables(), self.cache, advance)
        receipt = self._receipt(summary["generation"], index)
        checks.went_live(receipt, self._search_of(index).status(), summary["index_prefix"])
        manifest = read_build(self.store, IndexPrefix.parse(summary["index_prefix"])).manifest
        item = self._an_item
        found = self._search_of(index).similar(item, 3)
        checks.answered(found, 3, "item")
        self.indexes.append(index)
        rate = sum((each.queries_per_second or 0) * each.items for each in manifest.partitions) / manifest.items
        answer = ", ".join(f"{neighbor['id']} {neighbor['score']:.2f}" for neighbor in found)
        self.console.note(
            f"{engine:10} {storage:7} {manifest.bytes_to_pull / 1e6:4.1f} MB, recall@10 {manifest.recall.value:.3f} at "
            f"{rate:,.0f} queries/s of a core; {item}: {answer}"
        )

    # 8

    def sabotage(self) -> None:
        """Bad builds and bad commits never go live, and the operator is told why."""
        with self.console.step(8, "bad builds and commits never go live; the old index goes on answering"):
            serving = int(self._search.status()["generation"])
            with self._asking() as client:
                for title, commit, outcome, code in sabotage.bad_commits(self.store, self.builds[0]):
                    self._refused(title, commit, outcome, code)
            checks.was_uninterrupted(client.traffic)
            checks.stayed(client.traffic, serving)
            self.console.note(f"{client.traffic.requests} requests meanwhile, none failed, all of generation {serving}")

    def _refused(self, title: str, commit: bytes, outcome: Outcome, code: str) -> None:
        began = time.monotonic()
        generation = self.store.write(self.target.commit_name, commit, if_generation_match=None).generation
        receipt = self._receipt(generation)
        checks.was_refused(receipt, outcome, code)
        self.console.note(f"{title}: {receipt.outcome} after {time.monotonic() - began:.1f} s ({receipt.code})")
        self.console.note(f"    {receipt.detail}")
        if outcome is Outcome.REJECTED:
            checks.was_reported(self._reports(generation), generation)

    def _reports(self, generation: int) -> list[dict[str, Any]]:
        self.stack.wait_for_notification(lambda report: report.get("generation") == str(generation), 10.0)
        return self.stack.notifications()

    def recover(self) -> None:
        """Commit a good build again, so that what the demo leaves behind is in order."""
        generation = self.store.write(
            self.target.commit_name, sabotage.commit_of(self.builds[-1]), if_generation_match=None
        ).generation
        receipt = self._receipt(generation)
        self._first_answer(generation)
        checks.went_live(receipt, self._search.status(), str(self.builds[-1]))

    # waiting

    def _receipt(self, generation: int, index: str = INDEX) -> Receipt:
        found: list[Receipt] = []

        def there() -> bool:
            try:
                found.append(read_receipt(self.store, Target(self.target.environment, index), generation))
            except ObjectMissing:
                return False
            return True

        self._wait(there, f"a receipt of generation {generation}")
        return found[0]

    def _first_answer(self, generation: int) -> float:
        self._wait(lambda: int(self._search.status()["generation"]) == generation, f"generation {generation} to answer")
        return time.time()

    def _wait(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not holds():
            self.stack.check()
            if time.monotonic() > deadline:
                raise checks.Misbehaved(f"waited {_PATIENCE_SECONDS:.0f} s for {what}; see {self.stack.logs}")
            time.sleep(_POLL_SECONDS)
