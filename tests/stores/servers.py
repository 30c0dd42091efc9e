"""Stores on the loopback: S3 as moto speaks it, and Google's as its emulator does.

Every request to S3 is counted, and some can be made to fail.
"""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any
from unittest import mock
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from gcp_storage_emulator.server import RequestHandler, create_server
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from tests.end_to_end.command import SAMPLES

BUCKET = "uploads"
OWNER = (
    "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its method, the decoded path, the query and the range."""

    method: str
    path: str
    query: str
    range: str


@dataclass
class FakeS3:
    """A server of one bucket.

    Attributes:
        asked: the requests so far.
        refused: the paths whose objects nobody may read.
        broken: the paths whose objects come cut short.
        unlisted: nobody may list the bucket.
        down_after: answer so many requests for objects and then none at all; None never ends.
        unconditional: write whatever the conditions are, as servers do that do not know them.
        lost: the methods of which the next request is carried out, and its answer is not sent.
        loss: the chance that this happens to any write.
        conflicts: how many conditional writes are answered that another one is in progress.
    """

    app: Any
    asked: list[Asked] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    down_after: int | None = None
    unlisted: bool = False
    unconditional: bool = False
    lost: list[str] = field(default_factory=list)
    loss: float = 0.0
    conflicts: int = 0
    port: int = 0
    one_write: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        """What tells a client of this server and nothing else."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "s3cret-key",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def put(self, key: str, content: bytes) -> None:
        """Store an object that anybody may read, in place of one that is there."""
        self._send("PUT", f"/{BUCKET}/{quote(key)}", content)

    def put_many(self, keys: Iterable[str], content: bytes = b"") -> None:
        """Store one content under many keys, past HTTP."""
        backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        for key in keys:
            backend.put_object(BUCKET, key, content)

    def put_samples(self, folder: str = "") -> list[str]:
        """Store the samples below a folder; return their keys in order."""
        keys = []
        for path in sorted(SAMPLES.iterdir()):
            if path.suffix != ".md":
                self.put(folder + path.name, path.read_bytes())
                keys.append(folder + path.name)
        return sorted(keys, key=str.encode)

    def gets(self) -> list[str]:
        """Return the keys that were fetched, wholly or in part."""
        prefix = f"/{BUCKET}/"
        return [
            one.path.removeprefix(prefix)
            for one in self.asked
            if one.method == "GET" and one.path.startswith(prefix) and one.path != prefix
        ]

    def _send(self, method: str, path: str, content: bytes = b"") -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, content, {"Authorization": OWNER, "x-amz-acl": "public-read"})
            assert connection.getresponse().status == 200
        finally:
            connection.close()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        one = Asked(
            environ["REQUEST_METHOD"],
            environ["PATH_INFO"].encode("latin-1").decode(),
            environ.get("QUERY_STRING", ""),
            environ.get("HTTP_RANGE", ""),
        )
        self.asked.append(one)
        if self.down_after is not None and len(self.gets()) > self.down_after:
            environ["werkzeug.socket"].shutdown(SHUT_RDWR)
            raise ConnectionResetError
        key = one.path.removeprefix(f"/{BUCKET}/")
        listed = one.path.rstrip("/") == f"/{BUCKET}"
        if one.method == "GET" and (key in self.refused or (listed and self.unlisted)):
            start("403 Forbidden", [("Content-Type", "application/xml")])
            return [b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"]
        if one.method in ("PUT", "POST"):
            return self._write(one, environ, start)
        answer: Iterable[bytes] = self.app(environ, start)
        if one.method == "GET" and key in self.broken:
            return [b"".join(answer)[:10]]
        return answer

    def _write(self, one: Asked, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        conditions = {"HTTP_IF_NONE_MATCH", "HTTP_IF_MATCH"} & set(environ)
        if conditions and self.unconditional:
            environ = {name: value for name, value in environ.items() if name not in conditions}
        if conditions and self.conflicts:
            self.conflicts -= 1
            start("409 Conflict", [("Content-Type", "application/xml"), ("Connection", "close")])
            return [b"<Error><Code>ConditionalRequestConflict</Code><Message>no</Message></Error>"]
        with self.one_write:  # moto looks for the object, and stores it later
            answer: Iterable[bytes] = self.app(environ, start)
        if one.method in self.lost or random.random() < self.loss:
            if one.method in self.lost:
                self.lost.remove(one.method)
            environ["werkzeug.socket"].shutdown(SHUT_RDWR)
            raise ConnectionResetError
        return answer


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 — its name there
        pass


@contextmanager
def serving_s3() -> Iterator[FakeS3]:
    """Run the server, with an empty bucket, as long as the block lasts."""
    fake = FakeS3(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, fake, threaded=True, request_handler=_Quiet)
    fake.port = int(server.server_port)
    with _running(server):
        fake._send("POST", "/moto-api/reset")
        fake._send("PUT", f"/{BUCKET}")
        fake.asked.clear()
        yield fake


@contextmanager
def _running(server: BaseWSGIServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class FakeGs:
    """A server of one bucket, which keeps conditions as the emulator does not.

    Attributes:
        unconditional: it does not.
        lost: so many answers to writes are lost.
        loss: the chance that another one is.
        asked: methods and queries of requests.
    """

    port: int = 0
    unconditional: bool = False
    lost: int = 0
    loss: float = 0.0
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What tells a client of this server and nothing else."""
        return {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{self.port}", "NO_GCE_CHECK": "true"}

    def put(self, key: str, content: bytes) -> None:
        """Store an object."""
        path = f"/upload/storage/v1/b/{BUCKET}/o?{urlencode({'uploadType': 'media', 'name': key})}"
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", path, content, {"Content-Type": "application/octet-stream"})
            assert connection.getresponse().status == 200
        finally:
            connection.close()


@contextmanager
def serving_gs() -> Iterator[FakeGs]:
    """Run the emulator, with an empty bucket, as long as the block lasts."""
    fake = FakeGs()
    with mock.patch("gcp_storage_emulator.server.RequestHandler", partial(_GsRequest, fake)):
        server = create_server("127.0.0.1", 0, in_memory=True, default_bucket=BUCKET)
        server.start()
        try:
            fake.port = int(server._api._httpd.socket.getsockname()[1])
            yield fake
        finally:
            server.stop()


class _GsRequest(RequestHandler):  # type: ignore[misc]
    """Checks `ifGenerationMatch` before the emulator answers; it answers one request after the other."""

    def __init__(self, fake: FakeGs, *words: Any) -> None:
        self.fake = fake
        super().__init__(*words)

    def do_GET(self) -> None:  # noqa: N802 - as http.server calls it
        if self._is_met():
            super().do_GET()

    def do_POST(self) -> None:  # noqa: N802
        self._write(super().do_POST)

    def do_PUT(self) -> None:  # noqa: N802
        self._write(super().do_PUT)

    def _write(self, write: Callable[[], None]) -> None:
        if not self._is_met():
            return
        if self.fake.lost or random.random() < self.fake.loss:
            self.fake.lost = max(0, self.fake.lost - 1)
            self.wfile = io.BytesIO()
        write()

    def _is_met(self) -> bool:
        address = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        self.fake.asked.append((self.command, query))
        wanted = None if self.fake.unconditional else query.get("ifGenerationMatch")
        key = query.get("name") or unquote(address.path.partition("/o/")[2])
        found = self.storage.objects.get(BUCKET, {}).get(key, {"generation": "0"})
        if wanted in {None, found["generation"]}:
            return True
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_error(412)
        return False


SERVERS: dict[str, Callable[[], AbstractContextManager[FakeS3 | FakeGs]]] = {
    "s3": serving_s3,
    "gs": serving_gs,
}


def sample(name: str) -> bytes:
    """Return the bytes of a sample picture."""
    return (SAMPLES / Path(name)).read_bytes()
