"""Names become paths, labels and resource names: what can't be all of these is refused before it is used."""

from __future__ import annotations

import pytest

from model_repository.errors import NameRefused
from model_repository.names import (
    FILE_LIMIT,
    IndexPrefix,
    ModelPrefix,
    Target,
    check_file,
    check_label,
    check_name,
    parse_generation,
)


@pytest.mark.parametrize("name", ["a", "home-store", "b1", "x" * 40])
def test_a_label_of_kubernetes_is_a_name_of_an_index(name: str) -> None:
    assert check_label("index", name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-",
        "0",
        "3d-models",
        "a-",
        "-a",
        "a.b",
        "A",
        "a_b",
        "a b",
        "a/b",
        "a\n",
        "\u00e4",
        "\u0661",
        "..",
        ".",
        "x" * 41,
        "a\x00",
    ],
)
def test_what_kubernetes_would_refuse_is_no_name_of_an_index(name: str) -> None:
    with pytest.raises(NameRefused, match="index"):
        check_label("index", name)


def test_a_version_may_have_dots_inside_but_not_at_its_ends() -> None:
    assert check_name("version", "1.2.3") == "1.2.3"
    assert check_name("version", "x" * 63)
    for name in (".", "..", ".1", "1.", "x" * 64):
        with pytest.raises(NameRefused):
            check_name("version", name)


@pytest.mark.parametrize("name", ["a", "golden/0.jpg", "a/b/c/d", "A_b-c.D", "0", "_", "x" * FILE_LIMIT, "a..b"])
def test_a_file_stays_below_its_folder(name: str) -> None:
    assert check_file(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/..",
            "a/../b",
            "a/.b",
            "-a",
            "a/-b",
            "a b",
            "a\\b",
            "C:\\a",
        ),
        *("a\n", "a\x00b", "\u00e4", "a%2e", "~a", "$a", "x" * (FILE_LIMIT + 1)),
    ],
)
def test_a_name_that_could_leave_its_folder_is_no_file(name: str) -> None:
    with pytest.raises(NameRefused):
        check_file(name)


@pytest.mark.parametrize("path", ["indexes/home", "indexes/home/b1/x", "models/home/b1", "", "//", "indexes//b1"])
def test_only_a_whole_prefix_is_one(path: str) -> None:
    with pytest.raises(NameRefused):
        IndexPrefix.parse(path)


def test_prefixes_know_their_manifests() -> None:
    assert IndexPrefix("home", "b1").manifest == "indexes/home/b1/index.json"
    assert ModelPrefix("lite", "1.0").manifest == "models/lite/1.0/model.json"


@pytest.mark.parametrize(
    "name",
    [
        "commits/staging/home.txt",
        "commits/staging/home",
        "commits/home.json",
        "commits/staging/sub/home.json",
        "commits/staging/.json",
        "commits/staging/Home.json",
        "commits/../home.json",
        "indexes/home/b1.json",
        "x/commits/staging/home.json",
        "commits/staging/home.json\n",
    ],
)
def test_only_a_commit_is_read_as_one(name: str) -> None:
    with pytest.raises(NameRefused):
        Target.from_commit_name(name)


@pytest.mark.parametrize("text", ["1", "1763683200000000", str(2**63 - 1)])
def test_a_generation_is_a_positive_int64(text: str) -> None:
    assert parse_generation(text) == int(text)


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "+1", "01", "1.0", "1e3", "1_000", " 1", "1\n", "\u0661", str(2**63), "9" * 5000]
)
def test_nothing_else_is_a_generation(text: str) -> None:
    with pytest.raises(NameRefused):
        parse_generation(text)
