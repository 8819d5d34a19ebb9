"""What the pages name is there: links between them, and the files and folders that they send a reader to."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from manifests.argo.values import STEPS

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("functions/*/*.md"), *ROOT.glob("*/*.md")]
    if path.name != "CHANGELOG.md"
)
LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]*)?\)")
QUOTED = re.compile(r"`([a-z_]+/[A-Za-z0-9_./-]*)`")
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir()}
BUCKET = {"models", "indexes", "commits", "deployments"}


def of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def headings(page: Path) -> set[str]:
    """As GitHub names them in links."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = [(target, place) for target, place in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
    assert [target for target, _ in links if not (page.parent / target).exists()] == []
    places = [(page.parent / target if target else page, place[1:]) for target, place in links if place]
    assert [(of(there), place) for there, place in places if place not in headings(there.resolve())] == []


@pytest.mark.parametrize("page", PAGES, ids=of)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    named = QUOTED.findall(page.read_text(encoding="utf-8"))
    ours = [path for path in named if path.split("/")[0] in FOLDERS - BUCKET]
    assert [path for path in ours if not any((folder / path).exists() for folder in (ROOT, page.parent))] == []


def test_the_pages_of_the_batch_name_its_steps_in_their_order() -> None:
    pages = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("argo.md", "batch.md")}
    (flow,) = re.findall(r"^    (list > .*)$", pages["argo.md"], re.MULTILINE)
    assert tuple(re.findall(r"\w+", re.sub(r"\(.*?\)|in the end", "", flow))) == STEPS
    table = pages["batch.md"].partition("## The steps")[2].partition("`run` does them")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == STEPS


def test_the_tour_and_the_list_of_rooms_name_the_same_rooms() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    rooms = {path.split("/")[0] for path in project["tool"]["indexpush"]["rooms"]}
    tour = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## The arrows")[0]
    assert rooms == {room.split("/")[0] for room in re.findall(r"^    ([a-z_/]+)/  ", tour, re.MULTILINE)} - {
        "base_image"
    }
