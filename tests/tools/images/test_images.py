"""One command builds, labels, lists and pushes every image."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from model_repository.errors import Misconfigured
from tests.tools.images.small_images import PARENT, BuilderInNoTime, builder_of, tar_of, write_layout
from tools.images import builders
from tools.images.__main__ import main
from tools.images.builders import Build, Buildah, Docker, choose
from tools.images.errors import BuildFailed
from tools.images.layout import Layout
from tools.images.recipes import RECIPES, Recipe
from tools.images.source import read_source

ROOT = Path(__file__).parents[3]


def test_an_image_is_a_layout_with_labels_and_its_bill_beside_it_and_attached(tmp_path: Path) -> None:
    builder = builder_of("batch-cuda")
    assert main(["batch-cuda", "--into", str(tmp_path), "--source", "https://acme.com/code"], builder) == 0
    ((dockerfile, build),) = builder.builds
    assert dockerfile == "embedding_batch/Dockerfile"
    assert build.arguments["LOCK"] == "requirements/embedding_batch_cuda.txt"
    assert build.arguments["BASE"] == f"docker.io/library/python@sha256:{'b' * 64}"
    layout = Layout(tmp_path / "batch-cuda")
    said = layout.manifest["annotations"]
    assert said == layout.config["config"]["Labels"]
    assert said["org.opencontainers.image.source"] == "https://acme.com/code"
    assert said["org.opencontainers.image.revision"] == build.arguments["REVISION"]
    (attached,) = [layout.json(digest) for digest in layout.referrers]
    assert attached["subject"]["digest"] == layout.digest
    assert attached["artifactType"] == attached["layers"][0]["mediaType"] == "application/vnd.cyclonedx+json"
    listed = (tmp_path / "batch-cuda.cdx.json").read_bytes()
    assert layout.blob(attached["layers"][0]["digest"]).read_bytes() == listed
    assert json.loads(listed)["metadata"]["component"]["purl"] == f"pkg:oci/batch-cuda@{layout.digest}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batch-cuda", "batch-cuda.cdx.json"]


def test_every_blob_is_what_its_name_says_and_none_is_left_over(tmp_path: Path) -> None:
    assert main(["operator", "--into", str(tmp_path)], builder_of("operator")) == 0
    layout = Layout(tmp_path / "operator")
    named: set[str] = set()
    for digest in (layout.digest, *layout.referrers):
        manifest = layout.json(digest)
        named |= {digest, manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])}
        for descriptor in (layout.entry(digest), manifest["config"], *manifest["layers"]):
            data = layout.blob(descriptor["digest"]).read_bytes()
            assert descriptor["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
            assert descriptor["size"] == len(data)
    assert {f"sha256:{path.name}" for path in (layout.folder / "blobs" / "sha256").iterdir()} == named
    unpacked = [hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() for path in layout.layers]
    assert layout.config["rootfs"]["diff_ids"] == [f"sha256:{digest}" for digest in unpacked]


def test_the_same_layers_make_the_same_image(tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert main(["search", "--into", str(tmp_path / name)], builder_of("search")) == 0
    assert Layout(tmp_path / "one" / "search").digest == Layout(tmp_path / "two" / "search").digest
    assert (tmp_path / "one" / "search.cdx.json").read_bytes() == (tmp_path / "two" / "search.cdx.json").read_bytes()


def test_an_image_that_is_not_as_its_lock_says_leaves_the_last_one_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "--into", str(tmp_path)], builder_of("search")) == 0
    before = Layout(tmp_path / "search").digest
    assert main(["search", "--into", str(tmp_path)], BuilderInNoTime(PARENT)) == 65
    assert "image search isn't what base_image/requirements.txt says" in capsys.readouterr().err
    assert Layout(tmp_path / "search").digest == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["search", "search.cdx.json"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["search", "shop"], "shop: no such image; there are search, cd-webhook, batch, batch-cuda, operator"),
        (["--push"], "--push needs --tag REGISTRY/NAME"),
        (["--tag", "acme.com/Shop"], "--tag acme.com/Shop: name a registry and a path in it"),
        (["--tag", "shop"], "--tag shop: name a registry and a path in it"),
    ],
)
def test_a_wrong_command_line_builds_nothing(
    arguments: list[str], problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    builder = BuilderInNoTime()
    assert main([*arguments, "--into", str(tmp_path)], builder) == 64
    assert problem in capsys.readouterr().err
    assert builder.builds == []


@pytest.mark.parametrize(
    ("arguments", "called"),
    [
        ([], "localhost/indexpush/search:{version}"),
        (["--tag", "acme.com:5000/shop"], "acme.com:5000/shop/search:{version}"),
        (["--tag", "acme.com:5000/shop:0.1.0"], "acme.com:5000/shop/search:0.1.0"),
    ],
)
def test_an_image_is_called_by_its_version_unless_told_another_tag(
    arguments: list[str], called: str, tmp_path: Path
) -> None:
    builder = builder_of("search")
    assert main(["search", "--into", str(tmp_path), *arguments], builder) == 0
    ((_, build),) = builder.builds
    assert build.tag == called.format(version=read_source(ROOT).tag)
    tagged = Layout(tmp_path / "search").entry(Layout(tmp_path / "search").digest)["annotations"]
    assert tagged == {"org.opencontainers.image.ref.name": build.tag.rpartition(":")[2]}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_every_dockerfile_takes_its_parent_and_tells_its_revision(recipe: Recipe) -> None:
    text = (ROOT / recipe.dockerfile).read_text()
    final = text.rpartition("\nFROM ")[2]
    assert final.startswith("${BASE}\n")
    assert "\nARG REVISION=\nENV INDEXPUSH_REVISION=$REVISION\n" in final
    assert {"BASE", "REVISION", *recipe.arguments} <= set(re.findall(r"^ARG (\w+)=", text, re.MULTILINE))


class Programs:
    """A PATH of its own with programs that do as they are told."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.setenv("PATH", str(folder))

    def add(self, name: str, code: str) -> None:
        """A program in Python."""
        program = self.folder / name
        program.write_text(f"#!{sys.executable}\nimport os, shutil, sys\nwords = sys.argv[1:]\n{code}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    (tmp_path / "bin").mkdir()
    return Programs(tmp_path / "bin", monkeypatch)


def test_docker_is_taken_where_its_daemon_answers_and_buildah_else(programs: Programs) -> None:
    with pytest.raises(Misconfigured, match="apt-get install buildah"):
        choose(None)
    programs.add("docker", "sys.exit(1)")
    with pytest.raises(Misconfigured, match="no docker whose daemon answers"):
        choose(None)
    programs.add("buildah", "")
    assert isinstance(choose(None), Buildah)
    programs.add("docker", "")
    assert isinstance(choose(None), Docker)
    assert isinstance(choose("buildah"), Buildah)


def test_what_docker_saves_is_taken_apart(programs: Programs, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    write_layout(saved, [tar_of(PARENT)], {"a": "b"})
    programs.add(
        "docker",
        f"open({str(tmp_path / 'log')!r}, 'a').write(' '.join(words) + '\\n')\n"
        "if words[0] == 'save':\n"
        f"    os.rename(shutil.make_archive({str(tmp_path / 'x')!r}, 'tar', {str(saved)!r}), words[2])",
    )
    into = tmp_path / "into"
    into.mkdir()
    Docker().build(tmp_path, "Dockerfile", Build("acme.com/search:1", {"BASE": "b"}, {"x": "y z"}, ("-q",)), into)
    assert (tmp_path / "log").read_text().splitlines()[0] == (
        f"build --file {tmp_path}/Dockerfile --tag acme.com/search:1 --build-arg BASE=b --label x=y z -q {tmp_path}"
    )
    assert Layout(into).config["config"]["Labels"] == {"a": "b"}
    assert sorted(path.name for path in into.iterdir()) == ["blobs", "index.json", "oci-layout"]


def test_a_docker_that_writes_no_layout_is_named(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    make = f"os.rename(shutil.make_archive({str(tmp_path / 'x')!r}, 'tar', {str(tmp_path / 'saved')!r}), words[2])"
    programs.add("docker", f"if words[0] == 'save': {make}")
    (tmp_path / "into").mkdir()
    with pytest.raises(BuildFailed, match="take docker 25 or newer"):
        Docker().build(tmp_path, "Dockerfile", Build("a/b:1", {}, {}), tmp_path / "into")


def test_an_image_inside_an_index_beside_its_attestation_is_the_image(tmp_path: Path) -> None:
    write_layout(tmp_path, [tar_of(PARENT)], {})
    layout = Layout(tmp_path)
    image = json.loads((tmp_path / "index.json").read_text())["manifests"][0]
    attested: dict[str, Any] = {"schemaVersion": 2, "layers": [], "config": {}}
    note = {**put(layout, attested), "annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    inner = {"schemaVersion": 2, "manifests": [image, note]}
    outer = {**put(layout, inner), "mediaType": "application/vnd.oci.image.index.v1+json"}
    (tmp_path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [outer]}))
    assert layout.digest == image["digest"]


def put(layout: Layout, document: dict[str, Any]) -> dict[str, Any]:
    """Add a document to a layout."""
    data = json.dumps(document).encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    layout.blob(digest).write_bytes(data)
    return {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": len(data)}


def test_what_a_builder_says_goes_to_standard_error_and_its_failure_is_named(
    programs: Programs, capfd: pytest.CaptureFixture[str]
) -> None:
    programs.add("buildah", "print('pulling'); sys.exit(3)")
    with pytest.raises(BuildFailed, match="buildah pull ended with 3; its reason is above"):
        builders.Buildah().base("docker.io/library/python:3")
    assert capfd.readouterr() == ("", "pulling\n")
