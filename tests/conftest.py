"""What the tests of several rooms share: a real bucket server, an authority, the demo's pictures, and a cache."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, settings

from local_stack.bucket_server import create_bucket, program
from local_stack.processes import RunningProgram, free_port

# How long an example takes says how busy the machine is. The same ones are tried each time: a change is what makes a
# test fail, and others are looked for with --hypothesis-profile=thorough.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("thorough", settings.get_profile("any machine"), max_examples=10_000, derandomize=False)
settings.load_profile("any machine")


HOME_STORE = Path(__file__).parents[1] / "local_stack" / "demo" / "home_store"


@pytest.fixture(scope="session")
def bucket_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running fake-gcs-server: the real binary, with buckets as folders."""
    folder = tmp_path_factory.mktemp("bucket-server")
    port = free_port()
    running = RunningProgram.start(program(folder / "buckets", folder / "stderr.txt", port, None))
    try:
        running.wait_ready(100.0)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.stop()


@pytest.fixture
def new_bucket(bucket_server: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """Makes an empty bucket and returns its name; Google's clients are pointed at the server for this test."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", bucket_server)
    for variable in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(variable)

    def make() -> str:
        name = f"tests-{uuid.uuid4().hex[:12]}"
        create_bucket(bucket_server, name)
        return name

    return make


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A test CA's certificate, and a server's chain with its key, as PEM files.

    It says nothing of key usage or key identifiers, as those of many clusters and companies don't.
    """
    folder = tmp_path_factory.mktemp("tls")
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's authority")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)

    def certificate(subject: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(ca_name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number())
        return builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))

    ca = certificate(ca_name, ca_key.public_key())
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    names = x509.SubjectAlternativeName(
        [x509.DNSName("localhost"), x509.DNSName("oauth2.googleapis.com"), x509.IPAddress(ip_address("127.0.0.1"))]
    )
    server = certificate(name, key.public_key()).add_extension(names, critical=False)
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(private + server.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    return folder / "ca.pem", folder / "server.pem"


@pytest.fixture(scope="session")
def home_store() -> Path:
    """The catalogue that the repository ships."""
    return HOME_STORE


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and embeddings made by any test of this run."""
    return tmp_path_factory.mktemp("cache")
