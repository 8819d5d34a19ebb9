"""Command and function hold a build to one rule: what the one refuses before the commit, the other refuses after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from model_repository.documents.commit import Commit
from model_repository.documents.model_manifest import ModelInput
from model_repository.repository import read_receipt, write_commit
from on_commit.event import CommitUploaded
from tests import builds
from tests.memory_store import MemoryStore
from tests.on_commit.scene import Scene
from tests.operator_cli.conftest import MODEL

if TYPE_CHECKING:
    from tests.operator_cli.conftest import Operator


@pytest.mark.parametrize(
    "spoil",
    [
        lambda store: store.delete("indexes/clothing/b1/0.annoy"),
        lambda store: store.delete("models/effnet/v1/model.onnx"),
        lambda store: store.delete("models/effnet/v1/model.json"),
        lambda store: builds.publish_model(store, MODEL, input=ModelInput(260)),
        lambda store: store.write("models/effnet/v1/model.json", b"{", if_generation_match=None),
    ],
    ids=["file gone", "file of the model gone", "model gone", "another model", "model.json malformed"],
)
def test_a_build_that_is_not_whole_is_refused_in_the_same_words(
    operator: Operator, spoil: Callable[[MemoryStore], object]
) -> None:
    function = Scene()
    operator.store = function.store
    prefix = operator.build("b1")
    spoil(function.store)

    refused = operator("commit", "clothing", "b1", "--output", "json").value["error"]
    generation = write_commit(function.store, operator.target, Commit(prefix), if_generation_match=0).generation
    function.handle(CommitUploaded(operator.target))

    receipt = read_receipt(function.store, operator.target, generation)
    assert (receipt.code, receipt.detail) == (refused["code"], refused["message"])
