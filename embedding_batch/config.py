"""One run of the batch: one frozen value, built from the command line and a mapping that is passed in."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import NoReturn, TypeVar

from embedding_batch.steps.building import Method
from embedding_batch.steps.guards import DEFAULT_LIMITS, Limits
from model_repository.documents.commit import Commit, format_commit, parse_commit
from model_repository.documents.index_manifest import Engine, Storage
from model_repository.errors import DocumentMalformed, Misconfigured, NameRefused
from model_repository.names import IndexPrefix, ModelPrefix, Target
from model_repository.processors import processors
from tools.make_model import NAMES

DEFAULT_MODEL = "efficientnet-lite0"
DEFAULT_METHOD = Method()
WORDS = {"run": "a catalogue of pictures", "index": "vectors that somebody else made"}
"""Besides `model publish`, which makes no index: see `publish_model`."""

Model = str | ModelPrefix
"""A built-in one by its name, or one that stands in the bucket."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Config:
    """What to index, where to, and when not to.

    repository: gs://bucket. catalogue: folder, see `catalogue`. vectors: in place of that somebody's own, see
    `vectors`; ids: the file beside an array of them. target: what the commit decides about. prefix: of the new build.
    cache: folder for models and embeddings, kept between runs.
    model: what embeds; method: how vectors are indexed; models, methods: of the categories that have one of their own.
    workers: cores to use. by, reason: of the commit, for people.
    commits: False: publish the build, and leave the commit to somebody else.
    check: say what is misconfigured, and do nothing.
    """

    repository: str
    target: Target
    prefix: IndexPrefix
    cache: Path
    catalogue: Path = Path()
    vectors: str = ""
    ids: Path | None = None
    model: Model = DEFAULT_MODEL
    models: Mapping[str, Model] = field(default_factory=dict)
    method: Method = DEFAULT_METHOD
    methods: Mapping[str, Method] = field(default_factory=dict)
    workers: int = 1
    limits: Limits = DEFAULT_LIMITS
    by: str = "embedding_batch"
    reason: str = ""
    commits: bool = True
    check: bool = False

    @property
    def commit(self) -> Commit:
        """What puts the build live."""
        return Commit(self.prefix, self.by, self.reason)

    def model_of(self, category: str) -> Model:
        """What embeds the pictures of a category."""
        return self.models.get(category, self.model)

    def method_of(self, category: str) -> Method:
        """How the vectors of a category are indexed."""
        return self.methods.get(category, self.method)

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
    """Read the command line; raises Misconfigured naming the option. `--help` prints and exits.

    Its first word says what of: `run` a catalogue of pictures, also without a word; `index` somebody's own vectors.
    """
    word, rest = (arguments[0], arguments[1:]) if arguments and arguments[0] in WORDS else ("run", arguments)
    options = _parser(word, environment).parse_args(rest)
    if not options.repository:
        raise Misconfigured("--repository: name the bucket, gs://<bucket>, or set MODEL_REPOSITORY")
    try:
        target = Target(options.environment, options.index)
        prefix = IndexPrefix(options.index, options.build or build_name(now))
    except NameRefused as error:
        raise Misconfigured(str(error)) from None
    method, methods = _methods(options)
    limits = Limits(most_dropped=options.most_dropped, least_recall=options.least_recall)
    config = Config(
        repository=options.repository,
        target=target,
        prefix=prefix,
        cache=options.cache or _default_cache(environment),
        method=method,
        methods=methods,
        workers=options.workers,
        limits=limits,
        by=options.by,
        reason=options.reason,
        commits=not options.no_commit,
        check=options.check,
    )
    if word == "index":
        config = replace(config, vectors=options.vectors, ids=options.ids)
    else:
        limits = replace(limits, most_broken=options.most_broken)
        model, models = _by_category("--model", options.model, _model, _model(DEFAULT_MODEL))
        config = replace(config, catalogue=options.catalogue, model=model, models=models, limits=limits)
    try:
        parse_commit(format_commit(config.commit), target)
    except (DocumentMalformed, UnicodeEncodeError) as error:  # before any work, not after it
        raise Misconfigured(f"--by, --reason: no commit can say this ({error})") from None
    return config


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
        "70 a defect, 75 try again (the bucket didn't answer, somebody else committed first, the disk is full), "
        "77 access denied, 130 interrupted",
    )
    limits, share, cores = DEFAULT_LIMITS, _number(float, 0, 1), processors()
    add = parser.add_argument
    if word == "index":
        add(
            "--vectors",
            required=True,
            help="Parquet of id, category, vector: a file or pattern, here or gs://; or .npy",
        )
        add("--ids", type=Path, help="beside an .npy: a line for each row, id, tab, category")
    else:
        add("--catalogue", type=Path, required=True, help="folder with catalogue.jsonl and its pictures")
        known = ", ".join(NAMES)
        add("--model", action="append", default=[], help=f"{known}; models/<model>/<version>; CATEGORY=... for one")
        add("--most-broken", type=share, default=limits.most_broken, help="share of broken photos (%(default)s)")
    add("--index", required=True, help="name of the index")
    add("--environment", required=True, help="where the build is to serve")
    add("--repository", default=environment.get("MODEL_REPOSITORY", ""), help="gs://<bucket> (MODEL_REPOSITORY)")
    add("--build", default="", help="name of the build (the time, as 20261121t120000.123456z)")
    engines, storages = ", ".join(Engine), ", ".join(Storage)
    add("--engine", action="append", default=[], help=f"what searches: {engines} (annoy), or CATEGORY=ENGINE for one")
    add("--storage", action="append", default=[], help=f"of vectors: {storages} (float32), or CATEGORY=STORAGE for one")
    add("--trees", type=_number(int, 1, 10_000), default=20, help="of each Annoy file (%(default)s)")
    add("--seed", type=_number(int, 0, 2**31 - 1), default=1, help="of Annoy (%(default)s)")
    add(
        "--workers",
        type=_number(int, 1, 1024),
        default=cores,
        help="cores to use (its container's: %(default)s)",
    )
    add("--cache", type=Path, help="folder for models and embeddings ($XDG_CACHE_HOME/indexpush)")
    add("--most-dropped", type=share, default=limits.most_dropped, help="share of items that may go (%(default)s)")
    add(
        "--least-recall",
        type=share,
        default=limits.least_recall,
        help="recall@10 of each category (%(default)s)",
    )
    add("--by", default="embedding_batch", help="who commits, for people")
    add("--reason", default="", help="why, for people")
    add("--no-commit", action="store_true", help="publish the build, and don't commit it")
    add("--check", action="store_true", help="say what is misconfigured, and do nothing")
    return parser


def _number(kind: Callable[[str], float], least: float, most: float) -> Callable[[str], float]:
    def number(text: str) -> float:  # argparse prints this name when it refuses
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected {least} to {most}, found {text}")
        return value

    return number
