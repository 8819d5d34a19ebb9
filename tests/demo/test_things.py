"""The photo of a room, and the detector that the demo puts into its bucket."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from local_stack.demo.shop import things
from local_stack.demo.shop.labels import KINDS
from local_stack.processes import ProgramFailed


def test_the_photo_shows_products_of_the_kinds_that_are_looked_for(home_store: Path) -> None:
    products = {item: {"picture": f"{home_store}/images/{item}.jpg"} for item in things.ROOM}
    assert things.room_photo(products) == things.room_photo(products)
    assert set(things.THINGS) == set(things.REGIONS.values())
    assert set(things.THINGS.values()) <= set(KINDS)


def test_where_the_weights_can_not_be_had_the_demo_is_told_which_package_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))  # without npm
    with pytest.raises(ProgramFailed, match="npm isn't installed, which fetches the package @mediapipe/objectron"):
        things.published_detector(tmp_path / "kept", tmp_path / "room.jpg", {})


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm isn't installed")
def test_offline_the_demo_is_told_so_and_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    with pytest.raises(ProgramFailed, match=r"npm can't fetch @mediapipe/objectron.*: FetchError: .*ECONNREFUSED"):
        things.published_detector(tmp_path / "kept", tmp_path / "room.jpg", {})
