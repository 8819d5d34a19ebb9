"""indexpush diff: what the batch found, and two builds of which nobody asked before."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from model_repository.documents.build_diff import (
    Alike,
    BuildDiff,
    CategoryDiff,
    Example,
    Gate,
    SideOfCategory,
    Stop,
    TagDiff,
    diff_name,
    format_build_diff,
    parse_build_diff,
)
from model_repository.documents.items.item_ids import encode_item_lookup
from model_repository.errors import DocumentMalformed
from model_repository.names import IndexPrefix
from tests import builds
from tests.operator_cli.conftest import Operator

B1, B2 = IndexPrefix("clothing", "b1"), IndexPrefix("clothing", "b2")
FOUND = BuildDiff(
    prefix=B2,
    against=B1,
    created=builds.NOW,
    models_before=("models/lite/v1 sha256:a",),
    models_after=("models/lite/v2 sha256:b",),
    categories=(
        CategoryDiff(
            "bags", SideOfCategory(100, 0.99, 900.0), SideOfCategory(90, 0.98), 11, 1, 0, Alike(20, 0.8, 0.7), 90, 3
        ),
        CategoryDiff("hats", SideOfCategory(50, 1.0), SideOfCategory(0), 50, 0, 0, Alike(0, 1.0, 1.0), 0, 0),
    ),
    items=Alike(20, 0.8, 0.7),
    changed=3,
    swapped=1,
    golden=Alike(2, 0.5, 0.4),
    examples=(Example("bag-1", "bags", 0.1, ("bag-2",), ("bag-3",)),),
    pictures={"bag-1": "gs://shop/bag-1.jpg"},
    stops=(Stop(Gate.MODEL, "made by v2"), Stop(Gate.CATEGORIES, "'hats' lost all")),
    expected=(Gate.MODEL,),
    compared=90,
    doubled=2,
    tags=(TagDiff("brand", 150, 90),),
)


def upload(operator: Operator, found: BuildDiff = FOUND) -> None:
    operator.store.write(diff_name(found.prefix), format_build_diff(found), if_generation_match=None)


def counted(operator: Operator, name: str, partitions: dict[str, list[str]], *, age: float = 0) -> None:
    """A build whose lookup is of these items, made `age` hours before now."""
    model = builds.publish_model(operator.store)
    parts = tuple(builds.partition(n, category, len(ids)) for n, (category, ids) in enumerate(partitions.items()))
    prefix = IndexPrefix("clothing", name)
    lookup = encode_item_lookup(list(partitions.values()))
    contents = {name: b"x" for one in parts for name in (one.file, one.ids)} | {"items.lookup": lookup}
    for file, data in contents.items():
        operator.store.write(f"{prefix}/{file}", data, if_generation_match=None)
    files = tuple(builds.described(file, data) for file, data in sorted(contents.items()))
    created = builds.NOW - timedelta(hours=age)
    builds.publish_build(operator.store, prefix, model, partitions=parts, files=files, created=created)


def test_a_diff_is_read_as_it_was_written() -> None:
    assert parse_build_diff(format_build_diff(FOUND), B2) == FOUND
    with pytest.raises(DocumentMalformed, match="is of another build"):
        parse_build_diff(format_build_diff(FOUND), B1)


def test_the_newest_diff_is_shown_with_what_stopped_the_build_and_what_was_expected(operator: Operator) -> None:
    upload(operator, replace(FOUND, prefix=B1, against=B2))
    operator.clock.sleep(1)
    upload(operator)
    said = operator("diff", "clothing")
    assert said.code == 0
    assert "build      indexes/clothing/b2\nagainst    indexes/clothing/b1" in said.out
    assert "150 before, 90 after: 61 gone, 1 new, 0 moved" in said.out
    assert "models/lite/v1 before, models/lite/v2 after" in said.out
    assert "overlap@10 0.800, RBO 0.700, of 20 asked; 2 look exactly like another item now" in said.out
    assert "vectors    3 of 90 differ, 1 are as others' were" in said.out
    assert "expected model: made by v2" in said.out
    assert "stopped by categories: 'hats' lost all" in said.out
    value = operator("diff", "clothing", "b2", "--output", "json").value
    assert (value["examples"][0]["item"], value["pictures"]) == ("bag-1", {"bag-1": "gs://shop/bag-1.jpg"})


def test_two_builds_that_nobody_compared_have_their_items_counted(operator: Operator) -> None:
    counted(operator, "b1", {"chairs": ["a", "b", "c"], "lamps": ["d"]})
    counted(operator, "b2", {"chairs": ["a", "b", "d"], "lamps": ["e", "f"]})
    value = operator("diff", "clothing", "b2", "--against", "b1", "--output", "json").value
    rows = {each["category"]: (each["gone"], each["new"], each["moved"]) for each in value["categories"]}
    assert rows == {"chairs": (1, 0, 1), "lamps": (0, 2, 0)}
    assert "neighbours not compared" in operator("diff", "clothing", "b2", "--against", "b1").out


def test_what_was_never_compared_says_what_to_type(operator: Operator) -> None:
    assert operator("diff", "clothing").code == 66
    counted(operator, "b1", {"chairs": ["a"]})
    said = operator("diff", "clothing", "b1")
    assert (said.code, "--against" in said.err) == (66, True)
    assert operator("diff", "clothing", "b9").code == 66
