"""Images reach a registry, a real one, with their bills attached."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from local_stack.processes import Program, RunningProgram, base_environment, free_port
from tests.answering import Answer, Asked, http_server
from tests.tools.images.small_images import PARENT, builder_of, tar_of, write_layout
from tools.images.__main__ import main
from tools.images.errors import PushFailed
from tools.images.layout import BILL_TYPE, Layout
from tools.images.push import push

# htpasswd -nbB somebody secret
PASSWORDS = "somebody:$2b$05$CCCCCCCCCCCCCCCCCCCCC.pIKrLVkBX9/OvQMSygY1pWEVn72t6na"
TAG = "0.1.0-0123456789ab"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    write_layout(tmp_path / "search", [tar_of(PARENT), tar_of({"app/rooms/search_server/main.py": "x = 1\n"})], {})
    made = Layout(tmp_path / "search")
    made.finish(TAG, {"org.opencontainers.image.title": "indexpush search server"})
    made.attach(b'{"bomFormat": "CycloneDX"}', BILL_TYPE, {"org.opencontainers.image.title": "search.cdx.json"})
    return made


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where docker keeps whom it signed in as."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text("{}")
    return tmp_path / "docker"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    with running_registry(tmp_path, "") as address:
        yield address


@pytest.fixture
def guarded_registry(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "passwords").write_text(PASSWORDS)
    with running_registry(tmp_path, f"auth: {{htpasswd: {{realm: acme, path: {tmp_path / 'passwords'}}}}}") as address:
        yield address


class running_registry:  # noqa: N801 - used as a function
    """Debian's docker-registry on a port of its own; its address."""

    def __init__(self, folder: Path, more: str) -> None:
        program = shutil.which("docker-registry")
        assert program, "docker-registry is missing: apt-get install docker-registry"
        self.address = f"127.0.0.1:{free_port()}"
        config = folder / "registry.yml"
        config.write_text(
            f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder / 'registry'}}}}}\n"
            f"http: {{addr: '{self.address}', secret: x}}\n{more}\n"
        )
        ready = f"http://{self.address}/v2/"
        command = (program, "serve", str(config))
        self.program = Program(
            "registry", command, base_environment(), folder / "registry.log", ready, 401 if more else 200
        )

    def __enter__(self) -> str:
        self.running = RunningProgram.start(self.program)
        self.running.wait_ready()
        return self.address

    def __exit__(self, *_: object) -> None:
        self.running.stop()


def test_what_is_pulled_by_tag_is_what_is_on_disk(layout: Layout, registry: str) -> None:
    assert push(layout, f"{registry}/acme/search", TAG) == f"{registry}/acme/search@{layout.digest}"
    answer = get(registry, f"manifests/{TAG}", "application/vnd.oci.image.manifest.v1+json")
    assert answer.headers["Docker-Content-Digest"] == layout.digest
    assert answer.content == layout.blob(layout.digest).read_bytes()
    for descriptor in (layout.manifest["config"], *layout.manifest["layers"]):
        assert get(registry, f"blobs/{descriptor['digest']}").content == layout.blob(descriptor["digest"]).read_bytes()


def test_one_command_builds_and_pushes(registry: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["search", "--tag", f"{registry}/acme:0.1.0", "--push", "--into", str(tmp_path / "made")]
    assert main(arguments, builder_of("search")) == 0
    made = Layout(tmp_path / "made" / "search")
    assert capsys.readouterr().out.splitlines()[-2:] == [
        f"{registry}/acme/search@{made.digest}",
        f"{registry}/acme/search:0.1.0",
    ]
    answer = get(registry, "manifests/0.1.0", "application/vnd.oci.image.manifest.v1+json")
    assert answer.json()["annotations"] == made.config["config"]["Labels"]
    assert get(registry, f"manifests/{made.digest.replace(':', '-')}", "application/vnd.oci.image.index.v1+json").ok


def test_the_bill_is_found_by_the_image_s_digest_in_a_registry_that_knows_no_referrers(
    layout: Layout, registry: str
) -> None:
    for _ in range(2):  # what is there already stays
        push(layout, f"{registry}/acme/search", TAG)
    index = get(
        registry, f"manifests/{layout.digest.replace(':', '-')}", "application/vnd.oci.image.index.v1+json"
    ).json()
    (entry,) = index["manifests"]
    assert entry["artifactType"] == BILL_TYPE
    artifact = get(registry, f"manifests/{entry['digest']}", "application/vnd.oci.image.manifest.v1+json").json()
    assert artifact["subject"]["digest"] == layout.digest
    assert get(registry, f"blobs/{artifact['layers'][0]['digest']}").json() == {"bomFormat": "CycloneDX"}


def test_a_registry_that_knows_referrers_gets_no_tag_for_them(layout: Layout) -> None:
    put: list[str] = []

    def answer(asked: Asked) -> Answer:
        """Of a registry that has every blob, and notices that a manifest refers to another."""
        if asked.method != "PUT":
            return Answer(status=200 if asked.method == "HEAD" else 501)
        put.append(asked.path.rpartition("/")[2])
        subject = json.loads(asked.body).get("subject")
        return Answer(status=201, headers={"OCI-Subject": subject["digest"]} if subject else {})

    with http_server(answer) as url:
        push(layout, f"{url.removeprefix('http://')}/acme/search", TAG)
    assert put == [TAG, *layout.referrers]


def test_who_is_not_signed_in_is_told_to(layout: Layout, guarded_registry: str, home: Path) -> None:
    with pytest.raises(PushFailed, match=rf"{guarded_registry}/acme/search:{TAG}: .*; sign in \(docker login"):
        push(layout, f"{guarded_registry}/acme/search", TAG)
    sign_in(home, guarded_registry, "somebody:wrong")
    with pytest.raises(PushFailed, match=r"it answers 401 .*; sign in \(docker login"):
        push(layout, f"{guarded_registry}/acme/search", TAG)
    sign_in(home, guarded_registry, "somebody:secret")
    push(layout, f"{guarded_registry}/acme/search", TAG)


def test_a_registry_that_is_not_there_is_named(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oras.decorator.time.sleep", lambda _: None)
    with pytest.raises(PushFailed, match=r"^127.0.0.1:1/acme/search:.*; push again"):
        push(layout, "127.0.0.1:1/acme/search", TAG)


def sign_in(home: Path, address: str, who: str) -> None:
    """As `docker login` does."""
    (home / "config.json").write_text(
        json.dumps({"auths": {address: {"auth": base64.b64encode(who.encode()).decode()}}})
    )


def get(address: str, what: str, accept: str = "*/*") -> requests.Response:
    """Of the image's repository."""
    answer = requests.get(f"http://{address}/v2/acme/search/{what}", headers={"Accept": accept}, timeout=20)
    answer.raise_for_status()
    return answer
