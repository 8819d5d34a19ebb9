"""A bill of materials (CycloneDX 1.6) of what is in an image, and whether that is what its lock says."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.images.contents import Contents, DebianPackage, PythonPackage
from tools.images.errors import NotAsLocked
from tools.images.recipes import Recipe
from tools.images.source import Source

_OURS = "indexpush"  # the wheel of this repository, in the operator's image


@dataclass(frozen=True, slots=True)
class Locked:
    """One package of a lock. hashes: SHA-256, in hex, of each of its files that may be installed."""

    name: str
    version: str
    hashes: tuple[str, ...]


def read_lock(text: str, python: str) -> dict[str, Locked]:
    """Packages, by normalised name, that a requirements file has for this Python ("3.13.5") on Linux on x86."""
    machine = {"implementation_name": "cpython", "os_name": "posix", "platform_machine": "x86_64"}
    machine |= {"platform_python_implementation": "CPython", "platform_system": "Linux", "sys_platform": "linux"}
    machine |= {"python_full_version": python, "python_version": ".".join(python.split(".")[:2])}
    found: dict[str, Locked] = {}
    for line in text.replace("\\\n", " ").splitlines():
        stated, *hashes = line.partition("#")[0].split(" --hash=sha256:")
        if not stated.strip():
            continue
        requirement = Requirement(stated)
        if requirement.marker is None or requirement.marker.evaluate(machine):
            (specifier,) = requirement.specifier
            name = canonicalize_name(requirement.name)
            found[name] = Locked(name, specifier.version, tuple(each.strip() for each in hashes))
    return found


def hold_to_lock(recipe: Recipe, contents: Contents, lock: dict[str, Locked]) -> None:
    """Raises `NotAsLocked` where we installed another package than the lock has, or another version, or not all."""
    ours = [each for each in contents.python_packages if each.ours]
    installed: dict[str, str] = {canonicalize_name(each.name): each.version for each in ours}
    problems = [
        f"{locked.name} {locked.version} is {f'there as {version}' if version else 'missing'}"
        for locked in lock.values()
        if (version := installed.get(locked.name)) != locked.version
    ]
    problems += [f"{name} {version} isn't in it" for name, version in installed.items() if name not in {*lock, _OURS}]
    if problems:
        raise NotAsLocked(
            f"image {recipe.name} isn't what {recipe.lock} says: {'; '.join(problems)}; "
            f"have {recipe.dockerfile} install that lock and nothing else"
        )


def bill(recipe: Recipe, source: Source, digest: str, contents: Contents, lock: dict[str, Locked]) -> bytes:
    """The bill, as JSON; the same bytes for the same image. digest: the image's."""
    purl = PackageURL("oci", None, recipe.name, digest)
    image = Component(
        name=recipe.name,
        version=source.version,
        type=ComponentType.CONTAINER,
        purl=purl,
        bom_ref=str(purl),
        licenses=[LicenseFactory().make_from_string("Apache-2.0")],
    )
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, digest),
        metadata=BomMetaData(component=image, timestamp=source.committed),
        components=[
            *_interpreter(contents),
            *(_python(package, lock) for package in contents.python_packages),
            *(_debian(package, contents.release) for package in contents.debian_packages),
        ],
    )
    bom.register_dependency(image, bom.components)
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1)
    return f"{text}\n".encode()


def _interpreter(contents: Contents) -> Iterator[Component]:
    if contents.python:
        purl = PackageURL("generic", None, "python", contents.python)
        yield Component(
            name="python", version=contents.python, type=ComponentType.APPLICATION, purl=purl, bom_ref=str(purl)
        )


def _python(package: PythonPackage, lock: dict[str, Locked]) -> Component:
    name = canonicalize_name(package.name)
    purl = PackageURL("pypi", None, name, package.version)
    known = lock.get(name)
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=each) for each in known.hashes] if known else []
    source = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(str(purl)),
        comment="each hash is of one of its files, of which one was installed",
        hashes=hashes,
    )
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=str(purl),
        licenses=[LicenseFactory().make_from_string(package.license)] if package.license else [],
        external_references=[source] if hashes else [],
    )


def _debian(package: DebianPackage, release: str) -> Component:
    qualifiers = {"arch": package.architecture, "distro": release}
    purl = PackageURL("deb", "debian", package.name, package.version, qualifiers)
    return Component(
        name=package.name, version=package.version, type=ComponentType.LIBRARY, purl=purl, bom_ref=str(purl)
    )
