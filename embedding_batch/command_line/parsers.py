"""The command lines of a run and of a step: what can be said, and the help that explains it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from embedding_batch.config import (
    DECODES,
    DEFAULT_POLITENESS,
    DEVICES,
    EXACT_ITEMS,
    FRESH_SECONDS,
    LEAST_SCORE,
    PART_ITEMS,
    SHARD_PICTURES,
)
from embedding_batch.steps.diff.gates import DEFAULT_GATES
from embedding_batch.steps.guards import DEFAULT_LIMITS
from model_repository.documents.build_diff import Gate
from model_repository.documents.index_manifest import Engine, Storage
from model_repository.errors import Misconfigured
from model_repository.resources.processors import processors
from tools.make_model import NAMES

WORDS = {"run": "a catalogue of pictures", "index": "vectors that somebody else made"}
"""Of what an index is made."""
OTHER_WORDS = f"{', '.join(WORDS)}, step, catalogue, model publish, detector publish"
STEPS = ("fetch", "embed", "collect", "build", "publish", "diff", "commit", "report")

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
NO_REPOSITORY = "--repository: name the bucket, gs://<bucket>, or set MODEL_REPOSITORY"


class Parser(argparse.ArgumentParser):
    """One whose failures are one line, and whose options are written out: values of a team are searched for ours."""

    def __init__(self, **how: Any) -> None:  # noqa: ANN401 - as argparse has it
        """Take what argparse takes."""
        super().__init__(**how, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage: a failure is one line."""
        raise Misconfigured(f"{message}; see {self.prog} --help")


def run_parser(word: str, environment: Mapping[str, str]) -> Parser:
    """Of a run; its first word says what of, see `WORDS`."""
    parser = Parser(
        prog=f"python -m embedding_batch {word}",
        description=f"Build an index from {WORDS[word]}, publish it, and commit it. (Other words: {OTHER_WORDS})",
        epilog="exit status: 0 done (also on hold), 64 misconfigured, 65 the data is bad, 69 no such bucket, "
        "70 a defect, 73 somebody else committed first (the build is published; another try ends the same), "
        "76 differs too much from what serves (the build is published, and not committed), "
        "75 try again (the bucket didn't answer, the disk is full), 77 access denied, 130 interrupted",
    )
    if word == "index":
        _add_vectors(parser)
    else:
        _add_pictures(parser)
    add = parser.add_argument
    add("--index", required=True, help="name of the index")
    add("--environment", required=True, help="where the build is to serve")
    add_repository(parser, environment)
    add("--build", default="", help="name of the build (the time, as 20261121t120000.123456z)")
    _add_method(parser)
    _add_local(parser)
    _add_bounds(parser)
    add("--by", default="embedding_batch", help="who commits, for people")
    add("--reason", default="", help="why, for people")
    add("--no-commit", action="store_true", help="publish the build, and don't commit it")
    add("--check", action="store_true", help="say what is misconfigured, and do nothing")
    return parser


def step_parser(environment: Mapping[str, str]) -> Parser:
    """Of one step of a run, but for `list`."""
    steps = ", ".join(("list", *STEPS))
    parser = Parser(
        prog="python -m embedding_batch step",
        description=f"Do one step of a run: {steps}. `list` takes the options of `run`, and --build.",
    )
    add = parser.add_argument
    add("step", choices=STEPS)
    add("--index", required=True, help="name of the index")
    add("--build", required=True, help="name of the build")
    add_repository(parser, environment)
    add("--shard", type=bounded(int, 0, 10**9), help="of fetch and embed, from 0")
    add("--part", type=bounded(int, 0, 10**9), help="of build, from 0")
    _add_local(parser)
    return parser


def _add_vectors(parser: Parser) -> None:
    add = parser.add_argument
    add(
        "--vectors",
        required=True,
        help="Parquet of id, category, vector: a file or pattern, here or gs://; or .npy",
    )
    add("--ids", help="beside an .npy, here or gs://: a line for each row, id, tab, category")


def _add_pictures(parser: Parser) -> None:
    share, count, hours = bounded(float, 0, 1), bounded(int, 1, 10**9), bounded(float, 0, 10**6)
    add = parser.add_argument
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
        "--decode",
        choices=DECODES,
        default=DECODES[0],
        help="what decodes JPEGs; gpu: --device cuda does (%(default)s)",
    )
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
    add(
        "--fetch-minutes",
        type=bounded(float, 0.1, 10**6),
        default=DEFAULT_POLITENESS.longest_fetch / 60,
        help="for which hosts are asked for a shard: what is slower counts as busy (%(default)g)",
    )
    add("--ignore-robots", action="store_true", help="of hosts that are one's own")
    add(
        "--always",
        action="store_true",
        help="build and commit what is the same as what serves, too; with --build it always is",
    )
    add("--shard-pictures", type=count, default=SHARD_PICTURES, help="pictures of a shard (%(default)s)")
    add("--most-broken", type=share, default=DEFAULT_LIMITS.most_broken, help="share of broken pictures (%(default)s)")


def _add_method(parser: Parser) -> None:
    """How vectors become files."""
    add = parser.add_argument
    engines, storages = ", ".join(Engine), ", ".join(Storage)
    add("--engine", action="append", default=[], help=f"what searches: {engines} (annoy), or CATEGORY=ENGINE for one")
    add("--storage", action="append", default=[], help=f"of vectors: {storages} (float32), or CATEGORY=STORAGE for one")
    add("--trees", type=bounded(int, 1, 10_000), default=20, help="of each Annoy file (%(default)s)")
    add("--seed", type=bounded(int, 0, 2**31 - 1), default=1, help="of Annoy (%(default)s)")
    add("--part-items", type=bounded(int, 1, 10**9), default=PART_ITEMS, help="items of a partition (%(default)s)")
    add(
        "--exact-items",
        type=bounded(int, 0, 10**9),
        default=EXACT_ITEMS,
        help="items up to which a category without an --engine of its own is searched exactly, in files that such "
        "categories share (%(default)s; 0: none)",
    )


def _add_bounds(parser: Parser) -> None:
    """Beyond which a build isn't published, or isn't committed."""
    share, add = bounded(float, 0, 1), parser.add_argument
    add(
        "--most-dropped",
        type=share,
        default=DEFAULT_LIMITS.most_dropped,
        help="share of items that may go (%(default)s)",
    )
    add(
        "--least-recall",
        type=share,
        default=DEFAULT_LIMITS.least_recall,
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


def add_repository(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> None:
    """Add the option that names the bucket; without a value, `NO_REPOSITORY` is what is wrong."""
    given = environment.get("MODEL_REPOSITORY", "")
    parser.add_argument("--repository", default=given, help="gs://<bucket> (MODEL_REPOSITORY)")


def _add_local(parser: argparse.ArgumentParser) -> None:
    """What a machine is told, and not a run."""
    cores = processors()
    parser.add_argument(
        "--workers", type=bounded(int, 1, 1024), default=cores, help="cores to use (its container's: %(default)s)"
    )
    parser.add_argument("--cache", type=Path, help="folder for models and embeddings ($XDG_CACHE_HOME/indexpush)")


def bounded(kind: Callable[[str], float], least: float, most: float) -> Callable[[str], float]:
    """What reads an option's number, and takes none but from `least` to `most`."""

    def number(text: str) -> float:  # argparse prints this name when it refuses
        value = kind(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"expected {least} to {most}, found {text}")
        return value

    return number
