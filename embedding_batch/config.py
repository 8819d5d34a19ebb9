"""One run of the batch: one frozen value, built from the command line and a mapping that is passed in."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from embedding_batch.method import Method
from embedding_batch.pictures.politeness import Politeness
from embedding_batch.steps.diff.gates import DEFAULT_GATES, Gates
from embedding_batch.steps.guards import DEFAULT_LIMITS, Limits
from model_repository.documents.build_diff import Gate
from model_repository.documents.commit import Commit, format_commit, parse_commit
from model_repository.documents.index_manifest import Engine, Storage
from model_repository.errors import DocumentMalformed, Misconfigured, NameRefused
from model_repository.names import IndexPrefix, ModelPrefix, Target
from model_repository.resources.processors import processors
from tools.make_model import NAMES

DEFAULT_MODEL = "efficientnet-lite0"
DEFAULT_METHOD = Method()
WORDS = {"run": "a catalogue of pictures", "index": "vectors that somebody else made"}
"""Besides `model publish`, which makes no index: see `publish_model`."""

Model = str | ModelPrefix
"""A built-in one by its name, or one that stands in the bucket."""

STEPS = ("fetch", "embed", "collect", "build", "publish", "diff", "commit", "report")
NUMBERED = {"fetch": "shard", "embed": "shard", "build": "part"}
"""Which number a step takes."""
LOCAL = ("repository", "cache", "workers", "check", "always")
"""Options of a machine, not of a run."""

DEVICES = ("cpu", "cuda")
"""By the names of `image_embedder.Device`, which costs more than a command line may."""
FRESH_SECONDS = 24 * 3600.0
SHARD_PICTURES = 4096
"""What a step that is killed loses at most."""
PART_ITEMS = 200_000
EXACT_ITEMS = 500
"""To here exact search is as fast as trees and graph (docs/benchmarks/small.md), and categories can share files."""
LEAST_SCORE = 0.3
"""Of a region: an item's picture shows what its category says, so a weak one is more likely right than wrong."""
DEFAULT_POLITENESS = Politeness()
_NO_REPOSITORY = "--repository: name the bucket, gs://<bucket>, or set MODEL_REPOSITORY"

GATE_OPTIONS: Mapping[str, str] = {
    "most_new": "items that are new, as a share of those that serve",
    "most_moved": "share of items that may change category",
    "most_changed": "share of items that may look different",
    "most_swapped": "share of items that may look as others did",
    "most_doubled": "share of items that may look exactly like another one, as they didn't before",
    "least_overlap": "of the ten neighbours before and after, in the mean",
}
"""Bounds of `Gates`, and what they are of."""
EVERYTHING = "everything"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a run that was begun. number: of its shard or part."""

    name: str
    number: int | None
    prefix: IndexPrefix
    repository: str


@dataclass(frozen=True, slots=True)
class Config:
    """What to index, where to, and when not to.

    repository: gs://bucket. catalogue, query: see `sources`. vectors: in place of that somebody's own, see
    `vectors`; ids: the file beside an array of them. target: what the commit decides about. prefix: of the new build.
    options: those of the command line that are the run's and no machine's, as JSON has them: what makes it.
    cache: folder for models, copies of embeddings, and what isn't whole yet, kept between runs.
    model: what embeds; method: how vectors are indexed; models, methods: of the categories that have one of their own.
    detector: what finds the thing of an item's category in its picture; regions: the category of each class of it that
        has one; least_score: of a region. None: all of a picture is embedded.
    workers: cores to use. device: what embeds.
    fresh_seconds: how long a picture elsewhere that has no version counts as unchanged.
    shard_pictures: most of a shard. part_items: most of a partition; a category with more has several. exact_items:
        most of a category that is searched exactly, in files that it shares with others; 0: none is.
    limits, gates: beyond which it stops, before the build is published and before it is committed.
    by, reason: of the commit, for people.
    commits: False: publish the build, and leave the commit to somebody else.
    unchanged_too: False: build nothing if what serves was made of the same.
    check: say what is misconfigured, and do nothing.
    """

    repository: str
    target: Target
    prefix: IndexPrefix
    cache: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    catalogue: str = ""
    query: str = ""
    vectors: str = ""
    ids: Path | None = None
    model: Model = DEFAULT_MODEL
    models: Mapping[str, Model] = field(default_factory=dict)
    detector: ModelPrefix | None = None
    regions: Mapping[str, str] = field(default_factory=dict)
    least_score: float = LEAST_SCORE
    method: Method = DEFAULT_METHOD
    methods: Mapping[str, Method] = field(default_factory=dict)
    workers: int = 1
    device: str = DEVICES[0]
    politeness: Politeness = DEFAULT_POLITENESS
    fresh_seconds: float = FRESH_SECONDS
    shard_pictures: int = SHARD_PICTURES
    part_items: int = PART_ITEMS
    exact_items: int = EXACT_ITEMS
    limits: Limits = DEFAULT_LIMITS
    gates: Gates = DEFAULT_GATES
    by: str = "embedding_batch"
    reason: str = ""
    commits: bool = True
    unchanged_too: bool = True
    check: bool = False

    @property
    def commit(self) -> Commit:
        """What puts the build live."""
        return Commit(self.prefix, self.by, self.reason)

    def model_of(self, category: str) -> Model:
        """What embeds the pictures of a category."""
        return self.models.get(category, self.model)

    def classes_of(self, category: str) -> tuple[str, ...]:
        """The detector's classes whose things are of a category."""
        return tuple(sorted(name for name, its in self.regions.items() if its == category))

    def model_named(self, name: str) -> Model:
        """A model as a record of the run names it."""
        return _model(name)

    def method_of(self, category: str) -> Method:
        """How the vectors of a category are indexed."""
        return self.methods.get(category, self.method)

    def shares(self, category: str, items: int) -> bool:
        """Whether a category of so many items goes into files that it shares with others.

        Whoever names another engine for just this category wants that.
        """
        exactly = self.method_of(category).engine is Engine.EXACT
        small = category not in self.methods and items <= self.exact_items
        return items <= self.part_items and (exactly or small)

    @property
    def model_cache(self) -> Path:
        """Where model files are kept."""
        return self.cache / "models"

    @property
    def feature_cache(self) -> Path:
        """Where embeddings are kept."""
        return self.cache / "features"


def build_name(now: datetime) -> str:
    """Return the build's name for a time in UTC, such as 20261121t120000.123456z.

    To the microsecond: of two runs in one second each has a build of its own, and only the commit is contended for.
    """
    return now.strftime("%Y%m%dt%H%M%S.%fz")


def read_command(arguments: Sequence[str], environment: Mapping[str, str], now: datetime) -> Config:
    """Read the command line of a run; raises Misconfigured naming the option. `--help` prints and exits.

    Its first word says what of: `run` a catalogue of pictures, also without a word; `index` somebody's own vectors.
    """
    word, rest = (arguments[0], arguments[1:]) if arguments and arguments[0] in WORDS else ("run", arguments)
    options = _parser(word, environment).parse_args(rest, argparse.Namespace(word=word))
    if word == "run":
        options.always = options.always or bool(options.build)
        options.query = _read_query(Path(options.query)) if options.query else ""
    options.build = options.build or build_name(now)
    return _config(options, environment)


def read_step(
    arguments: Sequence[str], environment: Mapping[str, str]
) -> tuple[Step, Callable[[Mapping[str, Any]], Config]]:
    """Read the command line of a step other than `list`; returns it, and what makes a configuration of a plan's.

    Raises Misconfigured naming the option.
    """
    options = _step_parser(environment).parse_args(arguments)
    if not options.repository:
        raise Misconfigured(_NO_REPOSITORY)
    needed = NUMBERED.get(options.step)
    for name in ("shard", "part"):
        if (getattr(options, name) is not None) != (name == needed):
            fault = "is needed for" if name == needed else "doesn't go with"
            raise Misconfigured(f"--{name}: {fault} the step {options.step!r}")
    try:
        prefix = IndexPrefix(options.index, options.build)
    except NameRefused as error:
        raise Misconfigured(str(error)) from None
    own = {name: getattr(options, name, False) for name in LOCAL}

    def config(planned: Mapping[str, Any]) -> Config:
        return _config(argparse.Namespace(**{**planned, **own, "build": options.build}), environment)

    return Step(options.step, getattr(options, needed) if needed else None, prefix, options.repository), config


def _read_query(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"--query: {path}: can't be read ({error}); name the file with the SQL") from error


def _config(options: argparse.Namespace, environment: Mapping[str, str]) -> Config:
    if not options.repository:
        raise Misconfigured(_NO_REPOSITORY)
    try:
        target = Target(options.environment, options.index)
        prefix = IndexPrefix(options.index, options.build)
    except NameRefused as error:
        raise Misconfigured(str(error)) from None
    method, methods = _methods(options)
    limits = Limits(most_dropped=options.most_dropped, least_recall=options.least_recall)
    config = Config(
        repository=options.repository,
        target=target,
        prefix=prefix,
        cache=options.cache or _default_cache(environment),
        options={name: value for name, value in vars(options).items() if name not in {*LOCAL, "build"}},
        method=method,
        methods=methods,
        workers=options.workers,
        limits=limits,
        gates=_gates(options),
        by=options.by,
        reason=options.reason,
        part_items=options.part_items,
        exact_items=getattr(options, "exact_items", 0),  # 0: the plan is of an earlier release
        commits=not options.no_commit,
        check=options.check,
    )
    if options.word == "index":
        config = replace(config, vectors=options.vectors, ids=None if options.ids is None else Path(options.ids))
    else:
        model, models = _by_category("--model", options.model, _model, _model(DEFAULT_MODEL))
        config = replace(
            config,
            catalogue=options.catalogue,
            query=options.query,
            model=model,
            models=models,
            **_detector(options),
            device=options.device,
            politeness=_politeness(options),
            fresh_seconds=options.fresh * 3600,
            shard_pictures=options.shard_pictures,
            unchanged_too=options.always,
            limits=replace(limits, most_broken=options.most_broken),
        )
    try:
        parse_commit(format_commit(config.commit), target)
    except (DocumentMalformed, UnicodeEncodeError) as error:  # before any work, not after it
        raise Misconfigured(f"--by, --reason: no commit can say this ({error})") from None
    return config


def _gates(options: argparse.Namespace) -> Gates:
    # the plan of a run that an earlier release began has none of these options
    said = {name: getattr(options, name, getattr(DEFAULT_GATES, name)) for name in GATE_OPTIONS}
    names = set(getattr(options, "expect_change", []))
    return Gates(**said, expects=frozenset(Gate if EVERYTHING in names else map(Gate, names)))


def _detector(options: argparse.Namespace) -> dict[str, Any]:
    """What the options say of a detector, as fields of `Config`."""
    if not options.detector:
        if options.region:
            raise Misconfigured("--region: needs --detector models/<model>/<version>")
        return {}
    try:
        prefix = ModelPrefix.parse(options.detector)
    except NameRefused as error:
        raise Misconfigured(f"--detector: {error}") from None
    regions: dict[str, str] = {}
    for text in options.region:
        name, found, category = text.partition("=")
        if not name or not found or not category or name in regions:
            raise Misconfigured(f"--region: expected CLASS=CATEGORY, a class once, found {text!r}")
        regions[name] = category
    if not regions:
        raise Misconfigured("--detector: name the category of at least one of its classes: --region CLASS=CATEGORY")
    return {"detector": prefix, "regions": regions, "least_score": options.least_score}


def _politeness(options: argparse.Namespace) -> Politeness:
    rates: dict[str, float] = {}
    for text in options.host_rate:
        host, _, rate = text.rpartition("=")
        try:
            rates[host.lower()] = float(rate)
        except ValueError:
            raise Misconfigured(f"--host-rate: expected N or HOST=N, found {text!r}") from None
    return Politeness(
        requests_a_second=rates.pop("", DEFAULT_POLITENESS.requests_a_second),
        rates=rates,
        connections_a_host=options.host_connections,
        connections=options.connections,
        robots=not options.ignore_robots,
    )


def _methods(options: argparse.Namespace) -> tuple[Method, dict[str, Method]]:
    """The method of an index, and those of the categories for which an option names another."""
    engine, engines = _by_category("--engine", options.engine, Engine, Engine.ANNOY)
    storage, storages = _by_category("--storage", options.storage, Storage, Storage.FLOAT32)
    method = Method(engine, storage, options.trees, options.seed)
    methods = {
        category: replace(method, engine=engines.get(category, engine), storage=storages.get(category, storage))
        for category in sorted({*engines, *storages})
    }
    for category, one in (("", method), *methods.items()):
        if not one.storage.suits(one.engine):
            of = f" (of {category!r})" if category else ""
            raise Misconfigured(
                f"--storage: {one.engine} can't keep vectors as {one.storage}{of}; add --engine {Engine.FAISS_HNSW}"
            )
    return method, methods


def _by_category(option: str, texts: Sequence[str], read: Callable[[str], T], default: T) -> tuple[T, dict[str, T]]:
    """Read ``VALUE`` and ``CATEGORY=VALUE``; raises Misconfigured naming the option."""
    chosen: dict[str, T] = {}
    for text in texts:
        category, _, value = text.rpartition("=")
        if category in chosen:
            raise Misconfigured(f"{option}: is given twice for {category or 'all categories'!r}")
        try:
            chosen[category] = read(value)
        except (NameRefused, ValueError) as error:
            raise Misconfigured(f"{option}: {error}; for one category, CATEGORY={value}") from None
    return chosen.pop("", default), chosen


def _model(text: str) -> Model:
    if "/" in text:
        return ModelPrefix.parse(text)
    if text not in NAMES:
        raise NameRefused(f"{text!r}: choose from {', '.join(NAMES)}, or name models/<model>/<version>")
    return text


def _default_cache(environment: Mapping[str, str]) -> Path:
    home = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME") or "~").expanduser() / ".cache")
    return Path(home) / "indexpush"


class Parser(argparse.ArgumentParser):
    """One whose failures are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage: a failure is one line."""
        raise Misconfigured(f"{message}; see {self.prog} --help")


def _parser(word: str, environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = Parser(
        prog=f"python -m embedding_batch {word}",
        description=f"Build an index from {WORDS[word]}, publish it, and commit it. (Other words: {', '.join(WORDS)})",
        epilog="exit status: 0 done (also on hold), 64 misconfigured, 65 the data is bad, 69 no such bucket, "
        "70 a defect, 73 somebody else committed first (the build is published; another try ends the same), "
        "76 differs too much from what serves (the build is published, and not committed), "
        "75 try again (the bucket didn't answer, the disk is full), 77 access denied, 130 interrupted",
    )
    limits, share, count, hours = DEFAULT_LIMITS, _number(float, 0, 1), _number(int, 1, 10**9), _number(float, 0, 10**6)
    add = parser.add_argument
    if word == "index":
        add(
            "--vectors",
            required=True,
            help="Parquet of id, category, vector: a file or pattern, here or gs://; or .npy",
        )
        add("--ids", help="beside an .npy: a line for each row, id, tab, category")
    else:
        add(
            "--catalogue",
            required=True,
            help="folder with catalogue.jsonl, or with a folder of pictures for each category; "
            ".jsonl, .csv or .parquet, a file or pattern, here or gs://; "
            "bigquery://PROJECT/DATASET/TABLE, or bigquery://PROJECT with --query",
        )
        add("--query", default="", help="file with the SQL that finds the catalogue in BigQuery")
        known = ", ".join(NAMES)
        add("--model", action="append", default=[], help=f"{known}; models/<model>/<version>; CATEGORY=... for one")
        add("--detector", default="", help="models/<model>/<version>, which cuts each picture to what it shows")
        add(
            "--region",
            action="append",
            default=[],
            help="CLASS=CATEGORY: a class of it, and the category of such items",
        )
        add("--least-score", type=share, default=LEAST_SCORE, help="of a region (%(default)s)")
        add("--device", choices=DEVICES, default=DEVICES[0], help="what embeds (%(default)s)")
        add(
            "--fresh",
            type=hours,
            default=FRESH_SECONDS / 3600,
            help="hours for which a URL without a version is not asked again (%(default)g)",
        )
        rate = DEFAULT_POLITENESS.requests_a_second
        add(
            "--host-rate",
            action="append",
            default=[],
            help=f"requests a second to a host ({rate:g}), or HOST=N for one",
        )
        add(
            "--host-connections",
            type=count,
            default=DEFAULT_POLITENESS.connections_a_host,
            help="at once (%(default)s)",
        )
        add(
            "--connections",
            type=count,
            default=DEFAULT_POLITENESS.connections,
            help="to all hosts (%(default)s; a NAT of Google Cloud gives 64 ports)",
        )
        add("--ignore-robots", action="store_true", help="of hosts that are one's own")
        add(
            "--always",
            action="store_true",
            help="build and commit what is the same as what serves, too; with --build it always is",
        )
        add("--shard-pictures", type=count, default=SHARD_PICTURES, help="pictures of a shard (%(default)s)")
        add("--most-broken", type=share, default=limits.most_broken, help="share of broken pictures (%(default)s)")
    add("--index", required=True, help="name of the index")
    add("--environment", required=True, help="where the build is to serve")
    _add_repository(parser, environment)
    add("--build", default="", help="name of the build (the time, as 20261121t120000.123456z)")
    engines, storages = ", ".join(Engine), ", ".join(Storage)
    add("--engine", action="append", default=[], help=f"what searches: {engines} (annoy), or CATEGORY=ENGINE for one")
    add("--storage", action="append", default=[], help=f"of vectors: {storages} (float32), or CATEGORY=STORAGE for one")
    add("--trees", type=_number(int, 1, 10_000), default=20, help="of each Annoy file (%(default)s)")
    add("--seed", type=_number(int, 0, 2**31 - 1), default=1, help="of Annoy (%(default)s)")
    add("--part-items", type=count, default=PART_ITEMS, help="items of a partition (%(default)s)")
    add(
        "--exact-items",
        type=_number(int, 0, 10**9),
        default=EXACT_ITEMS,
        help="items up to which a category without an --engine of its own is searched exactly, in files that such "
        "categories share (%(default)s; 0: none)",
    )
    _add_local(parser)
    add("--most-dropped", type=share, default=limits.most_dropped, help="share of items that may go (%(default)s)")
    add(
        "--least-recall",
        type=share,
        default=limits.least_recall,
        help="recall@10 of each category (%(default)s)",
    )
    for name, what in GATE_OPTIONS.items():
        shown = f"--{name.replace('_', '-')}"
        add(shown, type=share, default=getattr(DEFAULT_GATES, name), help=f"{what} (%(default)s)")
    add(
        "--expect-change",
        action="append",
        nargs="?",
        const=EVERYTHING,
        default=[],
        choices=[EVERYTHING, *Gate],
        help="commit the build though it differs from what serves in this; without a name, in whatever it does",
    )
    add("--by", default="embedding_batch", help="who commits, for people")
    add("--reason", default="", help="why, for people")
    add("--no-commit", action="store_true", help="publish the build, and don't commit it")
    add("--check", action="store_true", help="say what is misconfigured, and do nothing")
    return parser


def _step_parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    steps = ", ".join(("list", *STEPS))
    parser = Parser(
        prog="python -m embedding_batch step",
        description=f"Do one step of a run: {steps}. `list` takes the options of `run`, and --build.",
    )
    add = parser.add_argument
    add("step", choices=STEPS)
    add("--index", required=True, help="name of the index")
    add("--build", required=True, help="name of the build")
    _add_repository(parser, environment)
    add("--shard", type=_number(int, 0, 10**9), help="of fetch and embed, from 0")
    add("--part", type=_number(int, 0, 10**9), help="of build, from 0")
    _add_local(parser)
    return parser


def _add_repository(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    given = environment.get("MODEL_REPOSITORY", "")
    parser.add_argument("--repository", default=given, help="gs://<bucket> (MODEL_REPOSITORY)")


def _add_local(parser: argparse.ArgumentParser) -> None:
    """What a machine is told, and not a run."""
    cores = processors()
    parser.add_argument(
        "--workers", type=_number(int, 1, 1024), default=cores, help="cores to use (its container's: %(default)s)"
    )
    parser.add_argument("--cache", type=Path, help="folder for models and embeddings ($XDG_CACHE_HOME/indexpush)")


def _number(kind: Callable[[str], float], least: float, most: float) -> Callable[[str], float]:
    def number(text: str) -> float:  # argparse prints this name when it refuses
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected {least} to {most}, found {text}")
        return value

    return number
