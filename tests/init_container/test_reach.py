"""TLS, proxies, credentials, and the bucket server that Google's own clients are tested with."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.init_container.faulty_bucket import FaultyBucket, close_early, closing, reset, stall, status
from tests.init_container.forward_proxy import Proxy
from tests.init_container.pull_scene import MIB, PREFIX, Build, Puller, make_build
from tests.init_container.spoiling_proxy import on_both_servers_over_tls


@pytest.mark.parametrize("known", [True, False], ids=["it is in the bundle", "it is nowhere"])
def test_an_authority_that_the_system_s_folder_lacks_is_looked_for_in_its_bundle(
    known: bool, tls_puller: Puller, authority: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "00000000.0").write_bytes(b"")  # as update-ca-certificates names them, by hash
    bundle = authority[0] if known else tmp_path / "certs" / "00000000.0"
    settings = {name: value for name, value in tls_puller.settings.items() if name != "SSL_CERT_FILE"}
    program = f"""
import os, ssl, sys
from init_container.__main__ import main
ssl.SSLContext.load_default_certs = lambda self: {known} and self.load_verify_locations({str(bundle)!r})
sys.exit(main(os.environ))
"""
    environment = Puller(tls_puller.folder, settings).environment(
        SSL_CERT_DIR=str(tmp_path / "certs"), STORAGE_ANONYMOUS="1"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=40, check=False
    )
    assert done.returncode == (os.EX_OK if known else os.EX_TEMPFAIL), done.stderr
    assert ("set SSL_CERT_FILE" in done.stderr) is not known


def test_a_pull_over_tls_with_an_authority_of_ones_own(tls_puller: Puller, build: Build) -> None:
    assert tls_puller.run(STORAGE_ANONYMOUS="1").code == 0
    tls_puller.check_whole(build)


@on_both_servers_over_tls
@pytest.mark.parametrize(
    "fault", [reset(0.5), close_early, stall, status(503)], ids=["reset", "closed", "stall", "503"]
)
def test_faults_over_tls_are_got_over(
    fault: Callable[..., None], tls_bucket: FaultyBucket, tls_puller: Puller, build: Build
) -> None:
    tls_bucket.fail(fault, times=2, match="big.ann")
    assert tls_puller.run(STORAGE_ANONYMOUS="1", STALL_SECONDS="1").code == 0
    tls_puller.check_whole(build)


@pytest.mark.parametrize("tls", [True, False])
@pytest.mark.usefixtures("processes")
def test_a_server_that_closes_after_each_answer_costs_no_retry(
    tls: bool, request: pytest.FixtureRequest, build: Build
) -> None:
    server: FaultyBucket = request.getfixturevalue("tls_bucket" if tls else "bucket")
    puller: Puller = request.getfixturevalue("tls_puller" if tls else "puller")
    server.fail(closing, times=float("inf"))
    outcome = puller.run(STORAGE_ANONYMOUS="1")
    assert outcome.code == 0
    assert outcome.lines[-1]["retries"] == 0
    puller.check_whole(build)


def test_an_unknown_authority_is_refused_at_once(tls_puller: Puller) -> None:
    outcome = tls_puller.run(STORAGE_ANONYMOUS="1", SSL_CERT_FILE="")
    assert outcome.code == os.EX_TEMPFAIL
    assert "SSL_CERT_FILE" in outcome.message
    tls_puller.check_nothing_there()


def test_a_missing_authority_file_is_a_wrong_setting(tls_puller: Puller) -> None:
    outcome = tls_puller.run(STORAGE_ANONYMOUS="1", SSL_CERT_FILE="/no/such/file.pem")
    assert outcome.code == os.EX_USAGE
    assert "SSL_CERT_FILE" in outcome.message


def test_a_requester_pays_bucket_gets_the_project(bucket: FaultyBucket, puller: Puller) -> None:
    assert puller.run(USER_PROJECT="a-project").code == 0
    assert {request.query["userProject"] for request in bucket.requests} == {"a-project"}


def test_the_proxy_of_the_environment_is_used(tls_puller: Puller, build: Build) -> None:
    proxy = Proxy()
    assert tls_puller.run(STORAGE_ANONYMOUS="1", HTTPS_PROXY=proxy.url).code == 0
    tls_puller.check_whole(build)
    assert all("Proxy-Authorization: Basic c29tZW9uZTpzZWNyZXQ=" in asked for asked in proxy.asked)
    assert proxy.asked


def test_no_proxy_is_honoured(tls_puller: Puller) -> None:
    proxy = Proxy()
    assert tls_puller.run(STORAGE_ANONYMOUS="1", HTTPS_PROXY=proxy.url, NO_PROXY="example.org,localhost").code == 0
    assert not proxy.asked


def test_a_proxy_that_refuses_is_named(tls_puller: Puller) -> None:
    proxy = Proxy("407 Proxy Authentication Required")
    outcome = tls_puller.run(STORAGE_ANONYMOUS="1", HTTPS_PROXY=proxy.url, ATTEMPTS="2")
    assert outcome.code == os.EX_TEMPFAIL
    assert "407" in outcome.message
    assert "secret" not in outcome.message


def _upload(url: str, bucket: str, objects: dict[str, bytes]) -> None:
    for name, data in objects.items():
        quoted = urllib.parse.quote(name, safe="")
        target = f"{url}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quoted}"
        urllib.request.urlopen(urllib.request.Request(target, data, method="POST"), timeout=10).close()


def test_a_pull_from_the_bucket_server_of_the_tests(
    bucket_server: str, new_bucket: Callable[[], str], puller: Puller
) -> None:
    name, build = new_bucket(), make_build({"big.ann": 5 * MIB, **{f"small/{n}": 2000 for n in range(100)}, "empty": 0})
    _upload(bucket_server, name, build.objects)
    settings = {
        "STORAGE_EMULATOR_HOST": bucket_server,
        "MODEL_REPOSITORY": f"gs://{name}",
        "INDEX_DIGEST": build.digest,
    }
    assert puller.run(**settings).code == 0
    puller.check_whole(build)


def test_the_bucket_server_knows_no_such_build(
    bucket_server: str, new_bucket: Callable[[], str], puller: Puller
) -> None:
    outcome = puller.run(STORAGE_EMULATOR_HOST=bucket_server, MODEL_REPOSITORY=f"gs://{new_bucket()}")
    assert outcome.code == os.EX_DATAERR
    assert "index.json" in outcome.message


def test_an_object_of_the_bucket_server_with_other_bytes_is_bad_data(
    bucket_server: str, new_bucket: Callable[[], str], puller: Puller, build: Build
) -> None:
    name = new_bucket()
    big = f"{PREFIX}/big.ann"
    _upload(bucket_server, name, {**build.objects, big: build.objects[big][::-1]})
    outcome = puller.run(STORAGE_EMULATOR_HOST=bucket_server, MODEL_REPOSITORY=f"gs://{name}")
    assert outcome.code == os.EX_DATAERR
    assert "big.ann" in outcome.message
    puller.check_nothing_there()


def test_progress_and_a_summary_are_log_lines(bucket: FaultyBucket, puller: Puller) -> None:
    bucket.rate = 1e6
    outcome = puller.run(PROGRESS_SECONDS="0.2", CONNECTIONS="2")
    assert outcome.code == 0
    assert any("%" in str(line["message"]) for line in outcome.lines[:-1])
    assert {"bytes", "fetched", "seconds", "megabytes_per_second", "retries", "connections"} <= set(outcome.lines[-1])
