"""A pull that is killed, doubled, or denied its disk."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from init_container.disk.parts import Parts
from init_container.plan import plan_pull
from model_repository.documents.index_manifest import parse_index_manifest
from tests.init_container.faulty_bucket import FaultyBucket, Reply, status
from tests.init_container.pull_scene import MIB, PREFIX, Build, Puller, make_build

KILLS = int(os.environ.get("PULL_KILLS", "6"))


@pytest.mark.timeout(60 + 10 * KILLS)
def test_sigkill_at_any_moment_leaves_nothing_half_done_and_what_was_noted_is_not_fetched_twice(
    bucket: FaultyBucket, puller: Puller
) -> None:
    """Each pull is killed once, at a random moment, and then restarted until it is done."""
    build = make_build({"a.ann": 10 * MIB, "b.ann": 5 * MIB, **{f"small/{n}.bin": 20_000 + n for n in range(100)}})
    for name, data in build.objects.items():
        bucket.put(name, data)
    size = sum(len(data) for data in build.objects.values())
    bucket.rate = 20e6
    moments = random.Random(7)
    killed = noted = 0
    for number in range(KILLS):
        folder = puller.folder / str(number)
        folder.mkdir()
        one = Puller(folder, {**puller.settings, "INDEX_DIGEST": build.digest, "RANGE_MIB": "0", "STALL_SECONDS": "60"})
        bucket.holds_at = bucket.sent + moments.uniform(0, 0.98 * size)  # there the bucket waits until it is killed
        process = one.start()
        while bucket.sent < bucket.holds_at and process.poll() is None:
            time.sleep(0.005)
        killed += process.poll() is None
        process.kill()
        process.communicate()
        bucket.holds_at = float("inf")
        if one.destination.exists():
            one.check_whole(build)
        held = _noted(one, build)
        outcome = one.run()
        assert outcome.code == 0
        one.check_whole(build)
        assert outcome.lines[-1]["fetched"] <= size - held  # type: ignore[operator]
        noted += held
        subprocess.run(["rm", "-rf", str(folder)], check=True)
    twice = bucket.sent / (size * KILLS) - 1  # with what was on its way to a pull that was killed
    print(f"{KILLS} pulls of {size} bytes, {killed} killed on the way: {100 * twice:.2f} % fetched twice")  # noqa: T201
    assert killed > KILLS * 0.6
    assert noted


def _noted(puller: Puller, build: Build) -> int:
    """Bytes that a pull which was killed left behind, noted and right."""
    if not (puller.partial / "index" / "index.json").exists():
        return 0
    manifest = build.objects[PREFIX.manifest]
    with closing(Parts(puller.partial, plan_pull(parse_index_manifest(manifest, PREFIX), build.digest))) as parts:
        return parts.have


def test_what_was_verified_is_not_fetched_again(bucket: FaultyBucket, build: Build, puller: Puller) -> None:
    def last_range(reply: Reply) -> None:
        denied = reply.request.span == (5 * MIB, 6 * MIB)
        (status(403) if denied else Reply.whole)(reply)

    bucket.fail(last_range, times=float("inf"), match="big.ann")
    assert puller.run(CONNECTIONS="1", RANGE_MIB="1", ATTEMPTS="2").code == os.EX_TEMPFAIL
    puller.check_nothing_there()
    bucket.rules.clear()
    before = bucket.sent
    assert puller.run().code == 0
    puller.check_whole(build)
    manifest = len(build.objects[PREFIX.manifest])
    assert bucket.sent - before < 0.2 * 6 * MIB + manifest


def test_a_part_that_changed_on_the_disk_is_fetched_again(bucket: FaultyBucket, build: Build, puller: Puller) -> None:
    bucket.fail(status(403), times=float("inf"), match="p.ids")
    assert puller.run(ATTEMPTS="2").code == os.EX_TEMPFAIL
    path = puller.partial / "index" / "big.ann"
    damaged = bytearray(path.read_bytes())
    damaged[-5] ^= 1
    path.write_bytes(bytes(damaged))
    bucket.rules.clear()
    assert puller.run().code == 0
    puller.check_whole(build)


def test_a_torn_journal_costs_bytes_but_not_truth(bucket: FaultyBucket, build: Build, puller: Puller) -> None:
    bucket.fail(status(403), times=float("inf"), match="p.ids")
    assert puller.run(ATTEMPTS="2").code == os.EX_TEMPFAIL
    journal = puller.partial / ".journal"
    journal.write_bytes(journal.read_bytes()[:-3] + b"\xff\xff\xff\xff\xff")
    bucket.rules.clear()
    assert puller.run().code == 0
    puller.check_whole(build)


def test_what_another_build_left_behind_goes(bucket: FaultyBucket, puller: Puller) -> None:
    bucket.fail(status(403), times=float("inf"), match="p.ids")
    assert puller.run(ATTEMPTS="2").code == os.EX_TEMPFAIL
    bucket.rules.clear()
    other = make_build({"big.ann": 3 * MIB}, seed=2)
    for name, data in other.objects.items():
        bucket.put(name, data)
    assert puller.run(INDEX_DIGEST=other.digest).code == 0
    puller.check_whole(other)


def test_two_pulls_into_one_destination_both_end_well(bucket: FaultyBucket, build: Build, puller: Puller) -> None:
    bucket.rate = 2e6
    first, second = puller.start(), puller.start()
    outcomes = [puller.finish(first), puller.finish(second)]
    assert [outcome.code for outcome in outcomes] == [0, 0]
    puller.check_whole(build)
    assert bucket.sent < 1.05 * sum(len(data) for data in build.objects.values())
    assert any("waiting" in str(line["message"]) for outcome in outcomes for line in outcome.lines)


def test_a_build_that_is_there_is_not_pulled_again(bucket: FaultyBucket, build: Build, puller: Puller) -> None:
    assert puller.run().code == 0
    asked = len(bucket.requests)
    outcome = puller.run()
    assert outcome.code == 0
    assert "already" in outcome.message
    assert len(bucket.requests) == asked
    puller.check_whole(build)


def test_a_destination_torn_by_a_power_cut_is_pulled_again(build: Build, puller: Puller) -> None:
    assert puller.run().code == 0
    mark = puller.destination / ".pull.json"
    mark.write_text(mark.read_text().replace('"boot": "', '"boot": "another '))
    path = puller.destination / "index" / "big.ann"
    path.write_bytes(bytes(6 * MIB))
    assert puller.run().code == 0
    puller.check_whole(build)


def test_another_build_at_the_destination_is_not_touched(bucket: FaultyBucket, build: Build, puller: Puller) -> None:
    assert puller.run().code == 0
    other = make_build({"big.ann": MIB}, seed=2)
    for name, data in other.objects.items():
        bucket.put(name.replace("/b1/", "/b2/"), data)
    outcome = puller.run(INDEX_PREFIX="indexes/shop/b2", INDEX_DIGEST="sha256:" + "1" * 64)
    assert outcome.code == os.EX_USAGE
    assert "holds another build" in outcome.message
    puller.check_whole(build)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Path:
    """A file system of 4 MiB, in a mount namespace of its own."""
    probe = subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True)
    if probe.returncode:
        pytest.skip("needs the right to mount")
    (tmp_path / "tiny").mkdir()
    return tmp_path / "tiny"


def _run_on(puller: Puller, mount: str, folder: Path) -> tuple[int, str]:
    settings = puller.environment(DESTINATION=str(folder / "current"))
    command = f"mount -t tmpfs {mount} tmpfs {folder} && exec python -m init_container"
    path = f"{Path(sys.executable).parent}:{settings['PATH']}"
    ended = subprocess.run(
        ["unshare", "-m", "sh", "-c", command],
        env={**settings, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.returncode, ended.stderr.splitlines()[-1]


def test_a_volume_that_is_too_small_is_found_out_before_the_pull(
    bucket: FaultyBucket, puller: Puller, tiny_disk: Path
) -> None:
    code, last = _run_on(puller, "-o size=4m", tiny_disk)
    assert code == os.EX_TEMPFAIL
    assert "bytes are needed" in last
    assert len(bucket.requests) == 1


def test_a_disk_that_fills_on_the_way_says_so(bucket: FaultyBucket, puller: Puller, tiny_disk: Path) -> None:
    # room for the bytes, but not for the inodes: only writing finds out
    code, last = _run_on(puller, "-o size=64m,nr_inodes=30", tiny_disk)
    assert code == os.EX_TEMPFAIL
    assert "No space left on device" in last
    assert len(bucket.requests) > 1


def test_a_read_only_volume_is_a_wrong_setting(bucket: FaultyBucket, puller: Puller, tiny_disk: Path) -> None:
    code, last = _run_on(puller, "-o ro", tiny_disk)
    assert code == os.EX_USAGE
    assert "Read-only file system" in last
    assert not bucket.requests


def test_a_destination_below_a_file_is_a_wrong_setting(puller: Puller) -> None:
    (puller.folder / "file").write_text("")
    outcome = puller.run(DESTINATION=str(puller.folder / "file" / "current"))
    assert outcome.code == os.EX_USAGE
    assert "DESTINATION" in outcome.message


def test_a_volume_that_is_mounted_at_the_destination_itself_is_found_out_before_the_pull(
    bucket: FaultyBucket, puller: Puller, tiny_disk: Path
) -> None:
    (tiny_disk / "current").mkdir()
    settings = puller.environment(DESTINATION=str(tiny_disk / "current"))
    command = [
        "unshare",
        "-m",
        "sh",
        "-c",
        f"mount -t tmpfs tmpfs {tiny_disk}/current && exec {sys.executable} -m init_container",
    ]
    ended = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
    assert ended.returncode == os.EX_USAGE, ended.stderr
    assert "below a volume's mount" in ended.stderr
    assert not bucket.requests


@pytest.mark.parametrize("kind", ["a file", "a link", "somebody's folder"])
def test_what_stands_at_the_destination_is_found_out_before_the_pull_and_left_alone(
    kind: str, bucket: FaultyBucket, puller: Puller
) -> None:
    if kind == "a file":
        puller.destination.write_text("somebody's")
    elif kind == "a link":
        puller.destination.symlink_to("nowhere")
    else:
        puller.destination.mkdir()
        (puller.destination / "notes").write_text("somebody's")
    outcome = puller.run()
    assert outcome.code == os.EX_USAGE, outcome.lines
    assert "DESTINATION" in outcome.message
    assert os.path.lexists(puller.destination)
    assert not bucket.requests


def test_an_empty_folder_at_the_destination_makes_way(build: Build, puller: Puller) -> None:
    puller.destination.mkdir()
    assert puller.run().code == 0
    puller.check_whole(build)


def test_what_the_pull_took_is_left_for_the_server_and_a_second_pull_of_nothing_changes_no_figure(
    puller: Puller,
) -> None:
    figures = puller.folder / "figures.json"
    before = time.time()
    first = puller.run(PULL_FIGURES=str(figures), TRACEPARENT=f"00-{'a' * 32}-{'b' * 16}-01")
    assert first.code == 0
    assert {line["logging.googleapis.com/trace"] for line in first.lines} == {"a" * 32}
    said = json.loads(figures.read_text())
    assert before < said["started"] < time.time() - said["seconds"]
    assert said == {
        "bytes": first.lines[-1]["fetched"],
        "seconds": first.lines[-1]["seconds"],
        "started": said["started"],
    }
    assert said["bytes"] > 0
    assert puller.run(PULL_FIGURES=str(figures)).code == 0
    assert json.loads(figures.read_text()) == said


def test_figures_that_cannot_be_left_are_no_failure(build: Build, puller: Puller) -> None:
    outcome = puller.run(PULL_FIGURES=str(puller.folder / "no" / "such" / "folder.json"))
    assert outcome.code == 0
    assert "figures" in json.dumps(outcome.lines) or "No such file" in json.dumps(outcome.lines)
    puller.check_whole(build)
