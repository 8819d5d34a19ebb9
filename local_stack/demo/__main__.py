"""Run the demo: ``python -m local_stack.demo [--once]``."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from local_stack.demo.checks import Misbehaved
from local_stack.demo.console import Console
from local_stack.demo.shop.products import Product, picture_server, read_shop, two_days
from local_stack.demo.story import INDEX, Story
from local_stack.processes import ProgramFailed, spare_loopback
from local_stack.stack import LocalStack, StackOptions
from model_repository.bucket.gcs_store import GcsStore
from model_repository.errors import DeliveryError
from model_repository.names import Target

CHECKOUT = Path(__file__).resolve().parents[2]
_LOOK_SECONDS = 0.5
HOME_STORE = Path(__file__).with_name("home_store")


def main() -> int:
    """Tell the story; 0 when every step worked, 1 when one didn't, 2 when there is no such shop."""
    options = _arguments()
    console = Console()
    spare_loopback()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell lets its background jobs ignore the first
        signal.signal(number, signal.default_int_handler)
    work = Path(tempfile.mkdtemp(prefix="indexpush-demo-"))
    try:
        products = read_shop(_place(options.catalogue), work)
    except ProgramFailed as error:
        console.failure(f"--catalogue {options.catalogue}: {error}")
        shutil.rmtree(work, ignore_errors=True)
        return 2
    try:
        _run(work, console, products, once=options.once, ours=Path(options.catalogue) == HOME_STORE)
    except KeyboardInterrupt:
        console.note("stopped")
    except Exception as error:
        console.failure(f"{error}")
        console.note(f"the logs are in {work / 'logs'}")
        if not isinstance(error, Misbehaved | DeliveryError | ProgramFailed):
            raise
        return 1
    shutil.rmtree(work, ignore_errors=True)
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description="The whole path on this machine, with product pictures.")
    parser.add_argument("--once", action="store_true", help="end when every step has worked")
    parser.add_argument(
        "--catalogue", default=os.fspath(HOME_STORE), help="another shop, as the batch takes it: a folder or a file"
    )
    return parser.parse_args()


def _place(catalogue: str) -> str:
    """The same, whatever the working directory of who reads it."""
    return catalogue if "://" in catalogue else str(Path(catalogue).absolute())


def _run(work: Path, console: Console, products: list[Product], *, once: bool, ours: bool) -> None:
    with picture_server(products) as shop:
        stack = LocalStack(work, StackOptions(pod_values=_values(work, shop)))
        try:
            with console.step(1, "start: bucket server, events, function, webhook, a small cluster"):
                stack.start()
                took = ", ".join(f"{name} {seconds:.1f}" for name, seconds in stack.seconds.items())
                console.note(f"ready after seconds: {took}")
            story = _story(stack, console, work, products)
            story.ours = ours
            story.first_build()
            story.search()
            story.redeploy()
            story.second_build_and_rollback()
            story.own_vectors()
            story.sabotage()
            story.recover()
            console.end("every step worked")
            if not once:
                _stay(story)
        finally:
            stack.stop()


def _values(work: Path, shop: str) -> Path:
    """The shipped values of the local environment, and where the page finds pictures and names."""
    text = (CHECKOUT / "manifests" / "environments" / "local.yaml").read_text(encoding="utf-8")
    values = work / "local.yaml"
    places = {"ITEM_IMAGE_URL": f"{shop}/pictures/{{id}}", "ITEM_NAMES_URL": f"{shop}/names.json"}
    values.write_text(f"{text}\nenv: {json.dumps(places)}\n", encoding="utf-8")
    return values


def _story(stack: LocalStack, console: Console, work: Path, products: list[Product]) -> Story:
    os.environ.update(stack.variables())  # Google's client in this process finds the bucket server by them
    cache = work / "cache"
    cache.mkdir()
    models = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "indexpush" / "models"
    models.mkdir(parents=True, exist_ok=True)
    (cache / "models").symlink_to(models)  # models outlive a demo; embeddings are made anew, so that it shows them
    return Story(
        stack=stack,
        store=GcsStore(stack.options.bucket),
        console=console,
        products={product["id"]: product for product in products},
        days=two_days(products, work / "days"),
        cache=cache,
        target=Target(stack.options.environment, INDEX),
    )


def _stay(story: Story) -> None:
    """Leave everything running until Ctrl-C, and say what to try."""
    exports = " ".join(f"{name}={value}" for name, value in story.operator_variables().items())
    say = story.console.note
    say(f"the page:    {story.stack.service_url(INDEX)}/   (click a product, or drop a photo of your own)")
    for index in story.indexes[1:]:
        say(f"             {story.stack.service_url(index)}/   ({index})")
    if story.detector:
        say(f"a room:      {story.room}   (drop it on the page)")
    say(f"the logs:    {story.stack.logs}")
    say("as operator, in another terminal:")
    say(f"    export {exports} PATH={Path(sys.executable).parent}:$PATH")
    for command in ("status", f"history {INDEX}", f"redeploy {INDEX} --wait", f"rollback {INDEX} --wait", "board"):
        say(f"    indexpush {command}")
    say("Ctrl-C ends it")
    while True:
        for ended in story.stack.revive():
            say(f"{ended}; started again, as a cloud or a cluster would")
        time.sleep(_LOOK_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
