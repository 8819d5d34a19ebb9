"""Documents read and written through a bucket."""

from __future__ import annotations

import pytest

from model_repository.documents.commit import Commit
from model_repository.documents.files import File, check_files
from model_repository.documents.receipts.receipt import Outcome
from model_repository.errors import BuildIncomplete, DocumentMalformed, GenerationConflict, ObjectMissing
from model_repository.names import IndexPrefix, Target
from model_repository.repository import (
    list_commits,
    list_receipts,
    read_build,
    read_live_commit,
    read_receipt,
    write_commit,
    write_receipt,
)
from tests import builds
from tests.memory_store import MemoryStore

TARGET = builds.TARGET


def test_the_same_commit_uploaded_again_has_another_name() -> None:
    store = MemoryStore()
    commit = Commit(IndexPrefix("home", "b1"))
    first = write_commit(store, TARGET, commit, if_generation_match=0)
    again = write_commit(store, TARGET, commit, if_generation_match=None)
    assert again.generation != first.generation
    assert read_live_commit(store, TARGET) == again


def test_a_commit_does_not_replace_one_that_its_author_has_not_seen() -> None:
    store = MemoryStore()
    first = write_commit(store, TARGET, Commit(IndexPrefix("home", "b1")), if_generation_match=0)
    write_commit(store, TARGET, Commit(IndexPrefix("home", "b2")), if_generation_match=first.generation)
    with pytest.raises(GenerationConflict):
        write_commit(store, TARGET, Commit(IndexPrefix("home", "b3")), if_generation_match=first.generation)


def test_the_first_receipt_of_a_commit_stands() -> None:
    store = MemoryStore()
    assert write_receipt(store, builds.receipt(5, outcome=Outcome.UNDONE))
    assert not write_receipt(store, builds.receipt(5))
    assert read_receipt(store, TARGET, 5).outcome is Outcome.UNDONE
    with pytest.raises(ObjectMissing):
        read_receipt(store, TARGET, 6)


def test_receipts_are_listed_by_when_they_were_written_whatever_their_generations() -> None:
    store = MemoryStore()
    for generation in (9, 100, 10):
        write_receipt(store, builds.receipt(generation))
    for stranger in ("notes.txt", "x.json", "1/2.json", "007.json", "12"):
        store.write(f"{TARGET.receipts_prefix}{stranger}", b"", if_generation_match=0)
    assert list_receipts(store, TARGET) == [10, 100, 9]


def test_targets_are_those_with_a_commit_and_strangers_do_not_stop_the_list() -> None:
    store = MemoryStore()
    for name in ("staging/home", "production/home", "staging/garden"):
        store.write(f"commits/{name}.json", b"not even JSON", if_generation_match=0)
    strangers = ("a/b/c.json", "readme.txt", "staging/Home.json")
    for stranger in (*strangers, "staging/"):
        store.write(f"commits/{stranger}", b"", if_generation_match=0)
    found = list_commits(store)
    assert [one.target for one in found if one.target] == [
        Target("production", "home"),
        Target("staging", "garden"),
        TARGET,
    ]
    assert [one.name for one in found if not one.target] == [f"commits/{stranger}" for stranger in strangers]


def test_a_manifest_that_is_not_there_or_not_one_is_named() -> None:
    store = MemoryStore()
    prefix = IndexPrefix("home", "b1")
    with pytest.raises(ObjectMissing, match=r"indexes/home/b1/index\.json"):
        read_build(store, prefix)
    store.write(prefix.manifest, b"{}", if_generation_match=0)
    with pytest.raises(DocumentMalformed, match=r"indexes/home/b1/index\.json"):
        read_build(store, prefix)


def test_a_build_is_whole_when_every_listed_file_is_there_as_promised() -> None:
    store = MemoryStore()
    there = store.write("indexes/home/b1/a.ids", b"abc", if_generation_match=0)
    store.write("indexes/home/b1/not-listed", b"", if_generation_match=0)
    promised = File("a.ids", 3, there.crc32c)
    found = store.listing("indexes/home/b1/")
    check_files("indexes/home/b1", [promised], found)
    for wrong, says in (
        (File("b.ids", 3, there.crc32c), "no such object"),
        (File("a.ids", 4, there.crc32c), "4 bytes, the bucket has 3 bytes"),
        (File("a.ids", 3, "AAAAAA=="), "crc32c AAAAAA=="),
    ):
        with pytest.raises(BuildIncomplete, match=says):
            check_files("indexes/home/b1", [promised, wrong], found)
