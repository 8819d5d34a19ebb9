"""The server of the pull benchmark: nginx, serving builds as GCS does, so that the server is not what is measured.

Data, metadata and listings are files; nginx maps GCS's JSON and XML addresses to them and adds the headers that clients
verify by (crc32c and md5). Four ports: plain, TLS, and both again with 30 ms to the first byte and 100 MB/s a
connection. nginx itself can't wait, so a small asyncio server answers its auth_request after 30 ms.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import google_crc32c

from local_stack.processes import free_port
from model_repository.digests import format_crc32c, sha256_digest
from model_repository.documents.files import File
from model_repository.documents.index_manifest import (
    format_index_manifest,
)
from model_repository.documents.model_manifest import format_model_manifest
from model_repository.names import IndexPrefix, ModelPrefix
from tests.builds import index_manifest, model_manifest, model_reference, partition

PREFIX = IndexPrefix("bench", "b1")
MODEL = ModelPrefix("bench", "v1")
_PIECE = 4 * 1024 * 1024
_DELAY = 0.030
_RATE = 100_000_000


@dataclass(frozen=True)
class Build:
    """A build in its bucket.

    bytes: of all its objects. index_digest: of its index.json. names: of its index's objects.
    """

    bucket: str
    bytes: int
    index_digest: str
    names: tuple[str, ...]


class _Bucket:
    def __init__(self, root: Path, name: str) -> None:
        self.root, self.name = root, name
        self.items: list[dict[str, str]] = []

    def put(self, name: str, size: int = 0, data: bytes | None = None) -> File:
        path = self.root / "data" / self.name / name
        path.parent.mkdir(parents=True, exist_ok=True)
        crc, md5, left = 0, hashlib.md5(usedforsecurity=False), size if data is None else len(data)
        with path.open("wb") as out:
            while left:
                piece = data if data is not None else os.urandom(min(left, _PIECE))
                out.write(piece)
                crc, left = google_crc32c.extend(crc, piece), left - len(piece)
                md5.update(piece)
        item = {
            "kind": "storage#object",
            "name": name,
            "bucket": self.name,
            "id": f"{self.name}/{name}/1",
            "generation": "1700000000000001",
            "metageneration": "1",
            "contentType": "application/octet-stream",
            "storageClass": "STANDARD",
            "size": str(path.stat().st_size),
            "crc32c": format_crc32c(crc),
            "md5Hash": base64.b64encode(md5.digest()).decode(),
            "etag": "CAE=",
            "timeCreated": "2026-11-21T00:00:00Z",
            "updated": "2026-11-21T00:00:00Z",
            "mediaLink": f"@endpoint@/download/storage/v1/b/{self.name}/o/{quote(name, safe='')}?alt=media",
        }
        self.items.append(item)
        return File(name.split("/", 3)[3], int(item["size"]), item["crc32c"])

    def _listed(self) -> list[dict[str, str]]:
        return [item for item in self.items if item["name"].startswith("indexes/")]

    def write_metadata(self) -> None:
        for item in self.items:
            path = self.root / "meta" / self.name / item["name"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(item))
        for folder, document in (
            (
                "lists",
                {"kind": "storage#objects", "items": [i for i in self.items if i["name"].startswith("indexes/")]},
            ),
            ("buckets", {"kind": "storage#bucket", "name": self.name, "id": self.name, "location": "EU"}),
        ):
            (self.root / folder).mkdir(exist_ok=True)
            (self.root / folder / self.name).write_text(json.dumps(document))
        hashes = [f'"{self.name}/{i["name"]}" "crc32c={i["crc32c"]},md5={i["md5Hash"]}";' for i in self.items]
        (self.root / "hashes").mkdir(exist_ok=True)
        (self.root / "hashes" / self.name).write_text("\n".join(hashes) + "\n")


def make_build(root: Path, bucket: str, sizes: list[int]) -> Build:
    """Make a build with files of these sizes, or take the one that is there already."""
    known = root / "builds" / f"{bucket}.json"
    if known.is_file():
        value = json.loads(known.read_text())
        return Build(value["bucket"], value["bytes"], value["index_digest"], tuple(value["names"]))
    store = _Bucket(root, bucket)
    model = model_manifest(MODEL, files=(store.put(f"{MODEL}/model.onnx", 1000),))
    store.put(f"{MODEL}/model.json", data=format_model_manifest(model))
    few = [store.put(f"{PREFIX}/{name}", 100) for name in ("p.ann", "p.ids", "items.lookup")]
    files = [store.put(f"{PREFIX}/part-{number:05d}.bin", size) for number, size in enumerate(sizes)]
    partitions = (partition(file="p.ann", ids="p.ids", items=1),)
    manifest = index_manifest(PREFIX, model_reference(model), partitions=partitions, files=(*few, *files))
    data = format_index_manifest(manifest)
    store.put(PREFIX.manifest, data=data)
    store.write_metadata()
    names = [item["name"] for item in store.items if item["name"].startswith("indexes/")]
    build = Build(bucket, sum(int(item["size"]) for item in store.items), sha256_digest(data), tuple(names))
    known.parent.mkdir(exist_ok=True)
    known.write_text(json.dumps({**vars(build), "names": names}))
    return build


@dataclass(frozen=True)
class Servers:
    """Where the servers listen, by transport, and the file of the certificate that they show."""

    endpoints: dict[str, str]
    certificate: Path


_SITE = """
  {listen}
  location ~ ^/(?:download/)?storage/v1/b/(?<bucket>[^/]+)/o/(?<object>.+)$ {{
    {throttle}
    add_header x-goog-hash $hashes;
    add_header x-goog-generation 1700000000000001;
    alias {root}/$kind/$bucket/$object;
  }}
  location ~ ^/storage/v1/b/(?<bucket>[^/]+)/o/?$ {{
    default_type application/json; alias {root}/lists-$server_port/$bucket;
  }}
  location ~ ^/storage/v1/b/(?<bucket>[^/]+)$ {{ default_type application/json; alias {root}/buckets/$bucket; }}
  location = /_wait {{
    internal; proxy_pass http://waiter; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_pass_request_body off; proxy_set_header Content-Length "";
  }}
  location ~ ^/(?<bucket>bench-[^/]+)/(?<object>.+)$ {{
    {throttle}
    add_header x-goog-hash $hashes;
    add_header x-goog-generation 1700000000000001;
    alias {root}/data/$bucket/$object;
  }}
"""

_NGINX = """
worker_processes {workers}; pid {root}/nginx.pid; error_log {root}/nginx-error.log; daemon off; user {user};
events {{ worker_connections 1024; }}
http {{
  access_log off; sendfile on; tcp_nopush on; default_type application/octet-stream;
  keepalive_requests 1000000; keepalive_timeout 600;
  open_file_cache max=20000 inactive=600s; open_file_cache_valid 600s;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4;
  scgi_temp_path {root}/t5; map_hash_max_size 262144; map_hash_bucket_size 512;
  ssl_certificate {root}/cert.pem; ssl_certificate_key {root}/key.pem; ssl_protocols TLSv1.2 TLSv1.3;
  map $arg_alt $kind {{ media data; default meta; }}
  map "$bucket/$object" $hashes {{ default ""; {hashes} }}
  upstream waiter {{ server 127.0.0.1:{waiter}; keepalive 64; }}
  server {{ {fast} }}
  server {{ {slow} }}
}}
"""


def _count(cores: str) -> int:
    """How many cores a list as of taskset names: ``4-7,9`` are five."""
    ends = [part.split("-") for part in cores.split(",")]
    return sum(int(end[-1]) - int(end[0]) + 1 for end in ends)


@contextmanager
def serve(root: Path, cores: str = "") -> Iterator[Servers]:
    """Run the servers for all builds below `root`; raises RuntimeError if nginx or openssl is not there.

    cores: where they run, a list as of taskset, with a worker for each core; empty: two workers, wherever this runs.
    """
    nginx, openssl = shutil.which("nginx"), shutil.which("openssl")
    if not nginx or not openssl:
        raise RuntimeError(
            "the benchmark's server is nginx, with a certificate by openssl: apt-get install nginx-light"
        )
    if not (root / "cert.pem").is_file():
        ca, key = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"], str(root / "key.pem")
        names = [
            "-addext",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ]
        usage = ["-addext", "keyUsage=critical,keyCertSign"]  # Python 3.13 and later trust no authority without
        signer = ["-CA", str(root / "ca.pem"), "-CAkey", str(root / "ca-key.pem")]
        for arguments in (
            [*ca, "-subj", "/CN=bench CA", *usage, "-keyout", str(root / "ca-key.pem"), "-out", str(root / "ca.pem")],
            [*ca, "-subj", "/CN=localhost", *names, *signer, "-keyout", key, "-out", str(root / "cert.pem")],
        ):
            subprocess.run([openssl, "req", *arguments], check=True, capture_output=True)
    plain, tls, slow_plain, slow_tls, waiter = (free_port() for _ in range(5))
    # limit_rate waits after each buffer, in whole milliseconds: with smaller ones the first second is not held at all
    throttle = f"auth_request /_wait; limit_rate {_RATE}; output_buffers 1 256k;"

    def site(plain: int, tls: int, throttle: str) -> str:
        listen = f"listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl;"
        return _SITE.format(listen=listen, throttle=throttle, root=root)

    hashes = "".join(path.read_text() for path in sorted((root / "hashes").iterdir()))
    fast, slow = site(plain, tls, ""), site(slow_plain, slow_tls, throttle)
    user = "root" if os.geteuid() == 0 else "nobody"
    workers = _count(cores) if cores else 2
    text = _NGINX.format(root=root, workers=workers, user=user, hashes=hashes, waiter=waiter, fast=fast, slow=slow)
    (root / "nginx.conf").write_text(text)
    endpoints = {
        "http": f"http://localhost:{plain}",
        "tls": f"https://localhost:{tls}",
        "http-held": f"http://localhost:{slow_plain}",
        "tls-held": f"https://localhost:{slow_tls}",
    }
    for endpoint in endpoints.values():
        folder = root / f"lists-{endpoint.rpartition(':')[2]}"
        folder.mkdir()
        for path in (root / "lists").iterdir():
            (folder / path.name).write_text(path.read_text().replace("@endpoint@", endpoint))
    there = ["taskset", "-c", cores] if cores else []
    processes = [
        subprocess.Popen([*there, sys.executable, __file__, str(waiter)]),
        subprocess.Popen(
            [*there, nginx, "-p", str(root), "-e", str(root / "nginx-error.log"), "-c", str(root / "nginx.conf")]
        ),
    ]
    try:
        for port in (plain, waiter):
            _wait_for(port)
        yield Servers(endpoints, root / "ca.pem")
    finally:
        for process in processes:
            process.terminate()
            process.wait(10)
        for folder in root.glob("lists-*"):
            shutil.rmtree(folder)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


async def _wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while await reader.readuntil(b"\r\n\r\n"):
            await asyncio.sleep(_DELAY)
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _run_waiter(port: int) -> None:
    server = await asyncio.start_server(_wait, "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_run_waiter(int(sys.argv[1])))
