"""Settings are read one by one, and everything that is wrong with them is said at once."""

from __future__ import annotations

from enum import StrEnum

import pytest

from model_repository.errors import Misconfigured
from model_repository.exit_codes import ExitCode
from model_repository.names import check_name
from model_repository.programs.environment import Environment


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def test_what_is_not_set_has_its_default() -> None:
    read = Environment({"EMPTY": "", "BLANK": "  "})
    assert [read.text(name, "default") for name in ("ABSENT", "EMPTY", "BLANK")] == ["default"] * 3
    assert read.whole("ABSENT", 8080, least=1, most=65535) == 8080
    assert read.number("ABSENT", 0.5, least=0, most=1) == 0.5
    assert read.one_of("ABSENT", Colour, Colour.BLUE) is Colour.BLUE
    assert read.flag("ABSENT") is False
    read.done()


def test_blanks_around_a_value_are_dropped_as_mounted_secrets_end_with_a_newline() -> None:
    read = Environment({"TOKEN": "s3cret\n", "PORT": " 80 ", "MODEL_REPOSITORY": "gs://home/ ", "COLOUR": "red "})
    assert (read.text("TOKEN"), read.whole("PORT", 1, least=1, most=99), read.bucket()) == ("s3cret", 80, "home")
    assert read.one_of("COLOUR", Colour, Colour.BLUE) is Colour.RED
    read.done()


@pytest.mark.parametrize(
    ("text", "meant"), [("1", True), ("true", True), ("TRUE", True), ("0", False), ("false", False)]
)
def test_a_flag_is_1_or_true(text: str, meant: bool) -> None:
    assert Environment({"FLAG": text}).flag("FLAG") is meant


def test_all_that_is_wrong_is_said_at_once_and_by_name() -> None:
    read = Environment({"MODEL_REPOSITORY": "home", "PORT": "http", "SHARE": "nan", "COLOUR": "green", "FLAG": "yes"})
    read.bucket()
    read.whole("PORT", 8080, least=1, most=65535)
    read.number("SHARE", 0.5, least=0, most=1)
    read.one_of("COLOUR", Colour, Colour.BLUE)
    read.flag("FLAG")
    read.parsed("BUILD", lambda text: check_name("build", text), "the build to serve")
    read.refuse("TWO and ONE contradict each other")
    with pytest.raises(Misconfigured) as caught:
        read.done()
    assert caught.value.problems == (
        "MODEL_REPOSITORY: 'home': expected gs://<bucket>, 3 characters or more, without a path",
        "PORT is 'http': expected a whole number from 1 to 65535",
        "SHARE is 'nan': expected a number from 0 to 1",
        "COLOUR is 'green': expected one of red, blue",
        "FLAG is 'yes': expected 1 or 0",
        "BUILD is not set: expected the build to serve",
        "TWO and ONE contradict each other",
    )
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize("text", ["0", "65536", "-1", "1.5", "1e3", "\u0663", "9" * 400])
def test_a_whole_number_out_of_bounds_is_refused(text: str) -> None:
    read = Environment({"PORT": text})
    read.whole("PORT", 8080, least=1, most=65535)
    with pytest.raises(Misconfigured, match="PORT is "):
        read.done()


def test_a_name_that_is_refused_says_why() -> None:
    read = Environment({"BUILD": "../b1"})
    read.parsed("BUILD", lambda text: check_name("build", text), "the build to serve")
    with pytest.raises(Misconfigured, match=r"BUILD: build '\.\./b1': use at most 63"):
        read.done()
