"""The installed command, as a process, against a real bucket server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from model_repository.bucket.gcs_store import GcsStore
from model_repository.documents.receipts.receipt import Outcome

if TYPE_CHECKING:
    from tests.operator_cli.conftest import Operator

INDEXPUSH = Path(sys.executable).with_name("indexpush")


@pytest.fixture
def shop(new_bucket: Callable[[], str], operator_of: Callable[[Any], Operator]) -> Operator:
    return operator_of(GcsStore(new_bucket()))


def indexpush(shop: Operator, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "MODEL_REPOSITORY": f"gs://{shop.store.bucket}",
        "INDEXPUSH_ENVIRONMENT": "production",
    }
    return subprocess.run(
        [INDEXPUSH, *argv], env=environment | more, capture_output=True, text=True, timeout=110, check=False
    )


def test_commit_redeploy_status_history_and_rollback_against_a_real_bucket_server(shop: Operator) -> None:
    b1, b2 = shop.build("b1", age=2), shop.build("b2", age=1)

    assert indexpush(shop, "commit", "clothing", "b1").returncode == 0
    shop.receipt(shop.generation(), Outcome.SERVED, b1)
    assert indexpush(shop, "commit", "clothing", "b2").returncode == 0
    shop.receipt(shop.generation(), Outcome.SERVED, b2)
    redeployed = indexpush(shop, "redeploy", "clothing", "--output", "json")
    assert json.loads(redeployed.stdout)["generation"] == shop.generation()
    rolled_back = indexpush(shop, "rollback", "clothing", "--hold", "--reason", "night")
    assert rolled_back.returncode == 0, rolled_back.stderr
    assert shop.live()["index_prefix"] == str(b1)
    assert indexpush(shop, "commit", "clothing", "b2").returncode == 77

    status = json.loads(indexpush(shop, "status", "--output", "json").stdout)["targets"][0]
    assert (status["state"], status["commit"]["hold"]) == ("waiting", True)
    assert status["serving"]["index_prefix"] == str(b2)
    history = json.loads(indexpush(shop, "history", "clothing", "--output", "json").stdout)["receipts"]
    assert [row["index_prefix"] for row in history] == [str(b2), str(b1)]


def test_wait_sees_a_receipt_that_is_written_meanwhile(shop: Operator) -> None:
    b1 = shop.build("b1")
    command = [str(INDEXPUSH), "commit", "clothing", "b1", "--wait", "100", "--output", "json"]
    environment = os.environ | {"MODEL_REPOSITORY": f"gs://{shop.store.bucket}", "INDEXPUSH_ENVIRONMENT": "production"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as waiting:
        while not shop.generation():
            assert waiting.poll() is None
        shop.receipt(shop.generation(), Outcome.UNDONE, b1, detail="pods died")
        out, _ = waiting.communicate(timeout=110)

    assert waiting.returncode == 1
    assert json.loads(out)["detail"] == "pods died"


def test_a_missing_build_or_bucket_is_one_line_without_a_traceback(shop: Operator) -> None:
    shop.build("b1")

    build = indexpush(shop, "commit", "clothing", "b0")
    bucket = indexpush(shop, "status", MODEL_REPOSITORY="gs://no-such-bucket-here")

    assert (build.returncode, bucket.returncode) == (66, 69)
    for result in (build, bucket):
        assert result.stderr.count("\n") == 1, result.stderr


def test_a_bucket_server_that_is_down_means_try_again(shop: Operator) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}"
    result = indexpush(shop, "status", "--patience", "1", STORAGE_EMULATOR_HOST=nobody)

    assert result.returncode == 75
    assert result.stderr.count("\n") == 1, result.stderr


def test_no_credentials_is_not_allowed_and_names_the_mend(shop: Operator, tmp_path: Path) -> None:
    nowhere = {"STORAGE_EMULATOR_HOST": "", "HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path)}
    result = indexpush(
        shop, "status", "--patience", "1", GOOGLE_APPLICATION_CREDENTIALS=str(tmp_path / "none.json"), **nowhere
    )

    assert result.returncode == 77, result.stderr
    assert "gcloud auth application-default login" in result.stderr


def test_pull_brings_a_build_and_its_model_and_says_why_it_can_not(shop: Operator, tmp_path: Path) -> None:
    shop.build("b1")

    good = indexpush(shop, "pull", "indexes/clothing/b1", str(tmp_path / "here"))
    assert good.returncode == 0, good.stderr
    assert (tmp_path / "here/index/0.annoy").read_bytes() == b"0.annoy of indexes/clothing/b1"
    assert (tmp_path / "here/models/effnet/v1/model.onnx").read_bytes() == b"weights"

    shop.store.write("indexes/clothing/b1/0.annoy", b"0.ANNOY of indexes/clothing/b1", if_generation_match=None)
    bad = indexpush(shop, "pull", "indexes/clothing/b1", str(tmp_path / "there"), "--output", "json")
    assert bad.returncode == 65
    assert json.loads(bad.stdout)["error"]["code"] == "build-incomplete"
    assert "0.annoy" in bad.stderr
    assert not (tmp_path / "there").exists()


def test_pull_of_a_build_that_is_not_there_suggests(shop: Operator, tmp_path: Path) -> None:
    shop.build("b1")

    result = indexpush(shop, "pull", "indexes/clothing/b2", str(tmp_path / "here"))

    assert result.returncode == 66
    assert "newest by name: b1" in result.stderr
