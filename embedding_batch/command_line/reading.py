"""The command line of a run, or of one step of it, read: what it says is one frozen value, or a fault in one line."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from embedding_batch.command_line.parsers import (
    EVERYTHING,
    GATE_OPTIONS,
    NO_REPOSITORY,
    OTHER_WORDS,
    WORDS,
    bounded,
    run_parser,
    step_parser,
)
from embedding_batch.config import DECODES, DEFAULT_MODEL, DEFAULT_POLITENESS, DEVICES, Config, read_model
from embedding_batch.method import Method
from embedding_batch.pictures.politeness import Politeness
from embedding_batch.steps.diff.gates import DEFAULT_GATES, Gates
from embedding_batch.steps.guards import Limits
from model_repository.documents.build_diff import Gate
from model_repository.documents.commit import format_commit, parse_commit
from model_repository.documents.index_manifest import Engine, Storage
from model_repository.errors import DocumentMalformed, Misconfigured, NameRefused
from model_repository.names import IndexPrefix, ModelPrefix, Target

NUMBERED = {"fetch": "shard", "embed": "shard", "build": "part"}
"""Which number a step takes."""
LOCAL = ("repository", "cache", "workers", "check", "always")
"""Options of a machine, not of a run."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a run that was begun. number: of its shard or part."""

    name: str
    number: int | None
    prefix: IndexPrefix
    repository: str


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
    if rest and not rest[0].startswith("-"):
        raise Misconfigured(f"{rest[0]!r} is no option; the first words there are: {OTHER_WORDS}; each has a --help")
    options = run_parser(word, environment).parse_args(rest, argparse.Namespace(word=word))
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
    options = step_parser(environment).parse_args(arguments)
    if not options.repository:
        raise Misconfigured(NO_REPOSITORY)
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
        raise Misconfigured(NO_REPOSITORY)
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
        config = replace(config, vectors=options.vectors, ids=options.ids or "")
    else:
        model, models = _by_category("--model", options.model, read_model, read_model(DEFAULT_MODEL))
        config = replace(
            config,
            catalogue=options.catalogue,
            query=options.query,
            model=model,
            models=models,
            **_detector(options),
            device=options.device,
            decode=_decode(options),
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


def _decode(options: argparse.Namespace) -> str:
    decode = getattr(options, "decode", DECODES[0])  # the plan of a run that an earlier release began has none
    if decode != DECODES[0] and options.device == DEVICES[0]:
        raise Misconfigured("--decode gpu: needs --device cuda, which embeds what it has decoded")
    if decode != DECODES[0] and options.detector:
        raise Misconfigured("--decode gpu: a detector looks at pictures on the CPU; leave out --decode, or --detector")
    return decode


def _politeness(options: argparse.Namespace) -> Politeness:
    rates: dict[str, float] = {}
    for text in options.host_rate:
        host, _, rate = text.rpartition("=")
        try:
            rates[host and _host(host)] = bounded(float, 1e-6, 1e6)(rate)
        except (ValueError, argparse.ArgumentTypeError):
            wanted = "expected N or HOST=N, such as cdn.example=2, without a scheme, port or path"
            raise Misconfigured(f"--host-rate: {wanted}, found {text!r}") from None
    own = DEFAULT_POLITENESS
    return Politeness(
        requests_a_second=rates.pop("", own.requests_a_second),
        rates=rates,
        connections_a_host=options.host_connections,
        connections=options.connections,
        longest_fetch=60 * getattr(options, "fetch_minutes", own.longest_fetch / 60),  # or an earlier release's plan
        robots=not options.ignore_robots,
    )


def _host(name: str) -> str:
    """The host as its requests are counted; raises ValueError for what is none alone: its rate would never hold."""
    from embedding_batch.pictures.answers import host_of, parse_url  # noqa: PLC0415 - for this alone: docs/benchmarks/start-up.md

    url = parse_url(f"http://{name}/")
    if url is None or url.explicit_port is not None or not set(name).isdisjoint("/?#@*"):
        raise ValueError(name)
    return host_of(url)


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


def _default_cache(environment: Mapping[str, str]) -> Path:
    home = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME") or "~").expanduser() / ".cache")
    return Path(home) / "indexpush"
