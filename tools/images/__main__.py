"""``python -m tools.images [NAME...] [--tag REGISTRY/NAME[:TAG] [--push]]``: build images, and say where they are."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model_repository.errors import DeliveryError, Misconfigured
from model_repository.exit_codes import ExitCode
from tools.images.bill import bill, hold_to_lock, read_lock
from tools.images.builders import Build, Builder, choose
from tools.images.contents import read_contents
from tools.images.layout import BILL_TYPE, Layout
from tools.images.push import push
from tools.images.recipes import RECIPES, Recipe
from tools.images.source import PREFIX, Base, Source, labels, read_source

ROOT = Path(__file__).parents[2]
PARENT = "docker.io/library/python:3.13-slim-trixie"
_PLACE = re.compile(
    r"(?P<path>[a-z0-9.-]+(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+)(:(?P<tag>\w[\w.-]{0,127}))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the images belong: path/<image>:tag. tag: empty for the version that is built."""

    path: str = "localhost/indexpush"
    tag: str = ""

    @classmethod
    def of(cls, text: str) -> Place:
        """Read REGISTRY/NAME[:TAG]. Raises `ValueError`."""
        found = _PLACE.fullmatch(text)
        if not found:
            raise ValueError(text)
        return cls(found["path"], found["tag"] or "")


@dataclass(frozen=True, slots=True)
class Order:
    """One image that is wanted. called: path/<name>:tag."""

    recipe: Recipe
    source: Source
    base: Base
    called: str


@dataclass(frozen=True, slots=True)
class Made:
    """An image and its bill of materials, on disk."""

    recipe: Recipe
    layout: Layout
    bill: Path


def main(arguments: Sequence[str] | None = None, builder: Builder | None = None) -> ExitCode:
    """Returns the exit status. builder: instead of the one that the arguments name."""
    options = _parse(arguments)
    try:
        place = _check(options)
        source = read_source(options.root, options.source)
        builder = builder or choose(options.builder)
        base = builder.base(options.base)
        if source.dirty:
            _say("this tree has what no commit has: the images say so in their version and revision")
        if source.url is None:
            _say("this checkout's origin is no web address: the images have no label `source`; --source gives it")
        for name in options.names or RECIPES:
            tag = place.tag or source.tag
            made = make(Order(RECIPES[name], source, base, f"{place.path}/{name}:{tag}"), builder, options)
            sys.stdout.write(f"{made.layout.folder}  {made.layout.digest}\n{made.bill}\n")
            if options.push:
                pushed = push(made.layout, f"{place.path}/{name}", tag)
                sys.stdout.write(f"{pushed}\n{place.path}/{name}:{tag}\n")
            sys.stdout.flush()
    except DeliveryError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return ExitCode.OK


def make(order: Order, builder: Builder, options: argparse.Namespace) -> Made:
    """Build an image into <into>/<name>, its bill beside it and attached to it; there whole or not at all."""
    recipe, source = order.recipe, order.source
    _say(f"{recipe.name} {source.version}")
    said = labels(recipe, source, order.base)
    arguments = {"BASE": order.base.pinned, "REVISION": source.revision, **recipe.arguments}
    build = Build(order.called, arguments, said, tuple(options.option))
    options.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.into, prefix=f".{recipe.name}-") as partial:
        layout = Layout(Path(partial) / "layout")
        layout.folder.mkdir()
        builder.build(options.root, recipe.dockerfile, build, layout.folder)
        contents = read_contents(layout.layers)
        lock = read_lock((options.root / recipe.lock).read_text(), contents.python)
        hold_to_lock(recipe, contents, lock)
        layout.finish(order.called.rpartition(":")[2], said)
        listed = bill(recipe, source, layout.digest, contents, lock)
        layout.attach(
            listed,
            BILL_TYPE,
            {f"{PREFIX}title": f"{recipe.name}.cdx.json", f"{PREFIX}created": said[f"{PREFIX}created"]},
        )
        return _publish(recipe, layout, listed, options.into)


def _publish(recipe: Recipe, layout: Layout, listed: bytes, into: Path) -> Made:
    made = Made(recipe, Layout(into / recipe.name), into / f"{recipe.name}.cdx.json")
    shutil.rmtree(made.layout.folder, ignore_errors=True)
    layout.folder.replace(made.layout.folder)
    made.bill.write_bytes(listed)
    return made


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./noxw -s images --", description="Build the images, with labels and bills of materials."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(RECIPES)}; all of them by default")
    parser.add_argument(
        "--tag",
        metavar="REGISTRY/NAME[:TAG]",
        help="where they belong: REGISTRY/NAME/<image>:TAG, which is the version by default",
    )
    parser.add_argument("--push", action="store_true", help="push them there")
    parser.add_argument(
        "--into", type=Path, default=ROOT / "dist" / "images", help="the folder for OCI layouts; dist/images"
    )
    parser.add_argument("--base", default=PARENT, help="the parent of all of them; %(default)s")
    parser.add_argument("--builder", choices=("docker", "buildah"), help="the one that works here, docker first")
    parser.add_argument("--source", metavar="URL", help="where the code is read; what `origin` says by default")
    parser.add_argument(
        "--option", action="append", default=[], metavar="WORD", help="one more word for the builder's build"
    )
    parser.set_defaults(root=ROOT)
    return parser.parse_args(arguments)


def _check(options: argparse.Namespace) -> Place:
    """Where to. Raises `Misconfigured`, before anything is built."""
    place = Place()
    problems = [
        f"{name}: no such image; there are {', '.join(RECIPES)}" for name in options.names if name not in RECIPES
    ]
    if options.push and not options.tag:
        problems.append("--push needs --tag REGISTRY/NAME, where to")
    try:
        place = Place.of(options.tag) if options.tag else place
    except ValueError:
        problems.append(
            f"--tag {options.tag}: name a registry and a path in it, in small letters, as in "
            "europe-docker.pkg.dev/acme/indexpush, or that with :<tag>"
        )
    if problems:
        raise Misconfigured(*problems)
    return place


def _say(text: str) -> None:
    sys.stderr.write(f"images: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
