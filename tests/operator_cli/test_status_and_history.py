from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from model_repository.bucket.store import StoredObject
from model_repository.documents.incidents import Incident, format_incidents
from model_repository.documents.receipts.address import Address
from model_repository.documents.receipts.canary_figures import CanaryFigures, TrackFigures
from model_repository.documents.receipts.receipt import Outcome
from model_repository.errors import AccessDenied
from model_repository.names import Target
from model_repository.repository import write_address
from tests.operator_cli.test_diff import FOUND, upload

if TYPE_CHECKING:
    from tests.operator_cli.conftest import Operator

SHOES = Target("staging", "shoes")


def test_status_of_a_served_commit_names_build_generation_and_who(operator: Operator) -> None:
    generation = operator.deployed(operator.build("b1"))

    text = operator("status", "clothing").out

    assert "production/clothing" in text
    assert f"indexes/clothing/b1  generation {generation}" in text
    assert "by batch" in text
    assert "served" in text


def test_status_says_where_what_serves_answers(operator: Operator) -> None:
    generation = operator.deployed(operator.build("b1"))
    assert operator("status", "--output", "json").value["targets"][0]["address"] is None
    inside, outside = "http://clothing.search.svc", "https://search.example/clothing"
    write_address(operator.store, Address(operator.target, generation, inside, outside))
    operator.commit(operator.build("b2"))  # rolls out: what serves is still where it was

    assert f"answers at  {outside}  in the cluster {inside}" in operator("status", "clothing").out
    (target,) = operator("status", "--output", "json").value["targets"]
    assert target["address"] == {"inside": inside, "outside": outside}


def test_an_address_that_nobody_can_read_is_none(operator: Operator) -> None:
    generation = operator.deployed(operator.build("b1"))
    operator.store.write(operator.target.address_name(generation), b"{", if_generation_match=0)
    assert operator("status", "--output", "json").value["targets"][0]["address"] is None


def test_a_commit_without_a_receipt_is_waiting_and_says_how_long(operator: Operator) -> None:
    operator.commit(operator.build("b1"))
    operator.clock.moment += timedelta(seconds=42)

    result = operator("status", "clothing")

    assert result.code == 0
    assert "waiting: no receipt yet (42 s)" in result.out
    assert "unknown: no receipt says that anything served" in result.out


def test_an_undone_commit_shows_why_and_what_serves_on(operator: Operator) -> None:
    operator.deployed(operator.build("b1"))
    operator.deployed(operator.build("b2"), Outcome.UNDONE, detail="golden query 3 differs")

    value = operator("status", "clothing", "--output", "json").value["targets"][0]

    assert value["state"] == "undone"
    assert value["receipt"]["detail"] == "golden query 3 differs"
    assert value["commit"]["index_prefix"] == "indexes/clothing/b2"
    assert value["serving"]["index_prefix"] == "indexes/clothing/b1"
    assert "golden query 3 differs" in operator("status", "clothing").out


def test_a_build_that_is_gone_is_not_said_to_serve_without_a_doubt(operator: Operator) -> None:
    """Whoever lost its pods since serves an older one, of which no receipt tells."""
    operator.deployed(operator.build("b1"))
    operator.deployed(operator.build("b2"))
    assert operator("status", "clothing", "--output", "json").value["targets"][0]["serving_gone"] is False
    operator.store.delete("indexes/clothing/b2/index.json")

    assert "an older one was restored in its place" in operator("status", "clothing").out
    assert operator("status", "clothing", "--output", "json").value["targets"][0]["serving_gone"] is True


def test_a_malformed_commit_is_shown_with_the_mend(operator: Operator) -> None:
    operator.deployed(operator.build("b1"))
    operator.store.write(operator.target.commit_name, b'{"indx_prefix": "x"}', if_generation_match=None)

    result = operator("status")

    assert result.code == 0
    assert "MALFORMED" in result.out
    assert "indexpush commit clothing <build> --environment production" in result.out
    assert "indexes/clothing/b1" in result.out


def test_a_hold_is_shown(operator: Operator) -> None:
    operator.commit(operator.build("b1"), hold=True)

    assert "ON HOLD" in operator("status").out


def test_status_shows_the_environment_that_is_asked_for_or_all(operator: Operator) -> None:
    operator.commit(operator.build("b1"))
    operator.commit(operator.build("b1", index="shoes"), target=SHOES)

    def shown(*argv: str) -> list[str]:
        targets = operator("status", "--output", "json", *argv).value["targets"]
        return [f"{target['environment']}/{target['index']}" for target in targets]

    assert shown() == ["production/clothing"]
    assert shown("--environment", "staging") == ["staging/shoes"]
    del operator.environ["INDEXPUSH_ENVIRONMENT"]
    assert shown() == ["production/clothing", "staging/shoes"]
    assert shown("shoes") == ["staging/shoes"]


def test_objects_that_are_no_commits_are_named_and_stop_nothing(operator: Operator) -> None:
    operator.commit(operator.build("b1"))
    for name in ("commits/production/Cloth ing.json", "commits/production/README.md", "commits/production/"):
        operator.store.write(name, b"", if_generation_match=0)

    result = operator("status", "--output", "json")

    assert len(result.value["targets"]) == 1
    assert result.value["ignored"] == ["commits/production/Cloth ing.json", "commits/production/README.md"]
    assert "nobody acts on it" in operator("status").out


def test_status_of_an_unknown_index_suggests(operator: Operator) -> None:
    operator.commit(operator.build("b1"))

    result = operator("status", "clothin")

    assert result.code == 66
    assert "did you mean clothing?" in result.err


def test_status_of_an_empty_bucket_says_so(operator: Operator) -> None:
    result = operator("status")

    assert result.code == 0
    assert "nothing is committed in gs://shop" in result.out


def test_history_is_newest_first_and_limited(operator: Operator) -> None:
    generations = [operator.deployed(operator.build(f"b{n}")) for n in range(5)]

    rows = operator("history", "clothing", "--limit", "3", "--output", "json").value["receipts"]

    assert [row["generation"] for row in rows] == generations[:1:-1]
    assert rows[0]["index_prefix"] == "indexes/clothing/b4"


def test_history_shows_the_hold_of_the_live_commit_and_of_no_other(operator: Operator) -> None:
    operator.deployed(operator.build("b1", age=2))
    generation = operator.commit(operator.build("b2"), hold=True, by="ada", reason="shoes find shirts")
    assert "ON HOLD" not in operator("history", "clothing").out  # it has no receipt yet
    operator.receipt(generation, Outcome.SERVED, operator.build("b2"))
    newest, *others = operator("history", "clothing").out.splitlines()
    assert "ON HOLD" in newest
    assert "ON HOLD" not in "".join(others)
    said = operator("history", "clothing", "--output", "json").value["receipts"]
    assert [receipt["hold"] for receipt in said] == [True, False]


def test_history_tells_of_a_hold_that_is_over_whose_it_was_why_and_who_released_it(operator: Operator) -> None:
    operator.commit(operator.build("b1"), hold=True, by="ada", reason="shoes find shirts")
    operator("redeploy", "clothing", "--release", "--by", "eve", "--reason", "mended")
    said = operator.live()
    operator.receipt(
        operator.generation(), Outcome.SERVED, operator.build("b1"), by=said["by"], reason=said["reason"]
    )  # fmt: skip
    told = operator("history", "clothing").out
    assert "ON HOLD" not in told
    assert "eve" in told
    assert "mended; ends the hold of ada" in told
    assert "shoes find shirts" in told


def test_history_shows_what_can_not_be_read_as_such(operator: Operator) -> None:
    operator.deployed(operator.build("b1"), Outcome.REJECTED, detail="no such build")
    operator.store.write("deployments/production/clothing/17.json", b"?", if_generation_match=0)
    operator.store.write("deployments/production/clothing/notes.txt", b"?", if_generation_match=0)

    result = operator("history", "clothing")

    assert result.code == 0
    assert "no such build" in result.out
    assert "17  UNREADABLE" in result.out
    assert "notes" not in result.out


def test_history_of_a_commit_that_waits_is_empty_and_of_a_typo_is_an_error(operator: Operator) -> None:
    operator.commit(operator.build("b1"))

    assert "no receipts yet" in operator("history", "clothing").out
    assert operator("history", "clothin").code == 66


def test_a_rejected_commit_that_named_nothing_readable_is_shown(operator: Operator) -> None:
    operator.store.write(operator.target.commit_name, b"oops", if_generation_match=0)
    operator.receipt(operator.generation(), Outcome.REJECTED, None, detail="not JSON", code="document-malformed")

    assert "rejected: not JSON" in operator("status").out
    assert "(unreadable commit)" in operator("history", "clothing").out


def test_what_a_canary_showed_stands_in_status_and_history(operator: Operator) -> None:
    mine = TrackFigures(1, 600, 30, 12.0, 900, 44, 3.0)
    figures = CanaryFigures(False, 21.0, 0, 0, mine, TrackFigures(3, 600, 0, 4.0, 2700, 0, 2.0))
    operator.deployed(operator.build("b1"))
    operator.deployed(operator.build("b2"), Outcome.UNDONE, canary=figures)

    said = "aborted after 21 s: canary p95 12.0 ms, 30/600 probes and 44/900 requests failed; stable p95 4.0 ms, 0/600"
    assert said in operator("status", "clothing").out
    assert f"canary {said}" in operator("history", "clothing").out
    value = operator("status", "clothing", "--output", "json").value["targets"][0]
    assert value["receipt"]["canary"]["canary"]["probes_failed"] == 30
    assert value["serving"]["canary"] is None


def test_what_is_wrong_now_and_may_pass_is_shown(operator: Operator) -> None:
    operator.deployed(operator.build("b1"))
    for name, code in ((operator.target.incidents_name, "build-gone"), ("incidents/production.json", "webhook-setup")):
        incident = Incident(code, f"the words of {code}", operator.clock.now() - timedelta(hours=2), told=True)
        operator.store.write(name, format_incidents((incident,)), if_generation_match=0)
    said = operator("status", "clothing")
    assert "build-gone for 2 h: the words of build-gone" in said.out
    assert "webhook-setup" in said.out
    shown = operator("status", "clothing", "--output", "json").value["targets"][0]["incidents"]
    assert [each["code"] for each in shown] == ["build-gone", "webhook-setup"]


def test_a_record_of_incidents_that_makes_no_sense_hides_nothing(operator: Operator) -> None:
    operator.deployed(operator.build("b1"))
    operator.store.write(operator.target.incidents_name, b"{", if_generation_match=0)
    assert operator("status", "clothing").code == 0


def test_an_index_that_the_bucket_denies_hides_no_other(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    operator.deployed(operator.build("b1"))
    operator.commit(operator.build("b1", index="shoes"), target=SHOES)
    read = operator.store.read

    def denied(name: str, *, limit: int) -> StoredObject:
        if "shoes" in name:
            raise AccessDenied(f"{name}: the bucket answered 403")
        return read(name, limit=limit)

    monkeypatch.setattr(operator.store, "read", denied)
    monkeypatch.delitem(operator.environ, "INDEXPUSH_ENVIRONMENT")
    said = operator("status")
    assert said.code == 0
    assert "indexes/clothing/b1" in said.out
    assert "DENIED" in said.out
    assert "commits/staging/shoes.json: the bucket answered 403" in said.out
    states = {each["index"]: each["state"] for each in operator("status", "--output", "json").value["targets"]}
    assert states == {"clothing": "served", "shoes": "denied"}
    assert operator("status", "shoes", "--environment", "staging").code == 77


def test_a_build_that_was_stopped_waits_where_what_it_would_replace_is_committed_until_somebody_decides(
    operator: Operator,
) -> None:
    b2, b3 = operator.build("b2"), operator.build("b3")
    operator.deployed(b2)
    operator.deployed(b3, target=Target("staging", "clothing"))
    held = Target("fair", "clothing")
    operator.receipt(operator.commit(b2, target=held, hold=True), Outcome.SERVED, b2, target=held)
    upload(operator, replace(FOUND, prefix=b3, against=b2))
    del operator.environ["INDEXPUSH_ENVIRONMENT"]
    found = {each["environment"]: each["stopped"] for each in operator("status", "--output", "json").value["targets"]}
    operator.environ["INDEXPUSH_ENVIRONMENT"] = "production"
    stopped = {"build": "b3", "why": ["categories: 'hats' lost all"]}
    assert found == {"production": stopped, "staging": None, "fair": None}
    said = operator("status", "clothing").out
    assert "stopped     b3 waits for a person, by categories: 'hats' lost all: indexpush diff clothing b3, and" in said
    assert "indexpush commit clothing b3 --environment production" in said
    operator("redeploy", "clothing", "--reason", "b2 stays")
    assert "waits for a person" not in operator("status", "clothing").out


@pytest.mark.parametrize("environments", [("staging",), ()])
def test_a_build_that_was_stopped_waits_where_the_batch_commits_and_not_where_people_promote(
    operator: Operator, environments: tuple[str, ...]
) -> None:
    b2, b3 = operator.build("b2"), operator.build("b3")
    for name in ("staging", "production"):
        operator.deployed(b2, target=Target(name, "clothing"))
    upload(operator, replace(FOUND, prefix=b3, against=b2, environments=environments))
    del operator.environ["INDEXPUSH_ENVIRONMENT"]
    found = operator("status", "--output", "json").value["targets"]
    assert [each["environment"] for each in found if each["stopped"]] == list(environments)


def test_many_targets_are_read_some_at_a_time(operator: Operator) -> None:
    for name in ("production", "staging", "fair"):
        operator.commit(operator.build("b1"), target=Target(name, "clothing"))
    read, together = operator.store.read, threading.Barrier(3)

    def reading(name: str, *, limit: int) -> Any:
        if name.startswith("commits/"):
            together.wait(60)  # for the two others
        return read(name, limit=limit)

    operator.store.read = reading  # type: ignore[method-assign]
    del operator.environ["INDEXPUSH_ENVIRONMENT"]
    found = operator("status", "--output", "json").value["targets"]
    assert [each["environment"] for each in found] == ["fair", "production", "staging"]
