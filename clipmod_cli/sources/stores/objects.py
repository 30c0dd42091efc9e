"""Buckets of S3 and of Google Cloud Storage. Without credentials, requests are anonymous.

Requests pass bucket and key themselves: s3fs's and gcsfs's own paths would take `a.jpg?versionId=x` and
`a.jpg#1` for other objects.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from clipmod_cli.sources.stores.base import READ_S, ObjectEntry
from clipmod_cli.sources.stores.errors import changed

CONNECT_S = 5.0

TRIES = 3
"""By botocore, with a growing pause; s3fs would try each of them five times over again."""

CONNECTIONS = 32
"""As many as there are threads that fetch."""

FIELDS = "nextPageToken,items(name,size,updated,generation)"


class S3Store:
    """A bucket of S3 or of a compatible server, through s3fs; set up as the AWS tools are."""

    def __init__(self, bucket: str, *, tries: int = TRIES) -> None:
        """Load the credentials; send no request yet. A request is sent at most `tries` times."""
        self._bucket = bucket
        self._fs = _s3_client(tries)

    def pages(self, prefix: str) -> Iterator[Sequence[ObjectEntry]]:
        """Yield all objects below a prefix, by the bytes of their keys."""
        token: dict[str, str] = {}
        while True:
            page = self._list(Prefix=prefix, **token)
            yield _s3_entries(page)
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def near(self, key: str) -> Sequence[ObjectEntry]:
        """Return a page that begins a little before `key`."""
        start = {"StartAfter": key[:-1]} if len(key) > 1 else {}
        return _s3_entries(self._list(**start))

    def find(self, key: str) -> ObjectEntry:
        """Return the object of this key."""
        head = self.call("head_object", Key=key)
        return _s3_entry(key, head["ContentLength"], head)

    def read(self, entry: ObjectEntry, start: int, length: int) -> bytes:
        """Return a part of the object, if it is still the same version."""
        condition = {"IfMatch": entry.version} if entry.version else {}
        data, _ = self._get(entry.key, length + 1, Range=f"bytes={start}-{start + length - 1}", **condition)
        if len(data) != length:
            raise changed()
        return data

    def read_all(self, key: str) -> tuple[bytes, str]:
        """Return the whole object of this key, and its ETag."""
        return self._get(key, sys.maxsize)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a request about this bucket, and return botocore's answer."""
        answer: dict[str, Any] = self._fs.call_s3(method, Bucket=self._bucket, **parameters)
        return answer

    def _get(self, key: str, max_bytes: int, **parameters: str) -> tuple[bytes, str]:
        from fsspec.asyn import sync

        answer = self.call("get_object", Key=key, **parameters)
        data: bytes = sync(self._fs.loop, _read_s3_body, answer["Body"], max_bytes)
        return data, answer["ETag"]

    def _list(self, **parameters: str) -> dict[str, Any]:
        return self.call("list_objects_v2", **parameters)


async def _read_s3_body(body: Any, max_bytes: int) -> bytes:
    """Return at most so many bytes; closes the connection if there are more."""
    try:
        data = bytearray()
        while len(data) < max_bytes and (chunk := await body.read(max_bytes - len(data))):
            data += chunk
        return bytes(data)
    finally:
        body.close()


def _s3_client(tries: int) -> Any:
    import s3fs
    from aiobotocore.session import AioSession
    from botocore.session import Session

    session = AioSession()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_parse_time)
    fs = s3fs.S3FileSystem(
        session=session,
        anon=Session().get_credentials() is None,
        skip_instance_cache=True,
        use_listings_cache=False,
        config_kwargs={
            "connect_timeout": CONNECT_S,
            "read_timeout": READ_S,
            "max_pool_connections": CONNECTIONS,
            "retries": {"total_max_attempts": tries, "mode": "standard"},
        },
    )
    fs.retries = 1
    return fs


def _parse_time(text: str) -> datetime:
    """Return a time of S3; botocore's own parser takes half of the processor time of a listing."""
    from botocore.utils import parse_timestamp

    try:
        return datetime.fromisoformat(text)
    except ValueError:  # of a header, as Sun, 30 Aug 2026 18:00:00 GMT
        parsed: datetime = parse_timestamp(text)
        return parsed


def _s3_entries(page: Mapping[str, Any]) -> list[ObjectEntry]:
    return [_s3_entry(found["Key"], found["Size"], found) for found in page.get("Contents", ())]


def _s3_entry(key: str, size: int, fields: Mapping[str, Any]) -> ObjectEntry:
    """Return an entry; its time is in whole seconds, since a HEAD has no more of it than a listing."""
    mtime_ns = int(fields["LastModified"].timestamp()) * 10**9
    return ObjectEntry(key=key, size=size, mtime_ns=mtime_ns, version=fields.get("ETag"))


class GsStore:
    """A bucket of Google Cloud Storage, through gcsfs; with the application default credentials."""

    def __init__(self, bucket: str, *, access: Literal["read_only", "read_write"] = "read_only") -> None:
        """Load the credentials; request no object yet."""
        self._bucket = bucket
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it also logs the errors that it raises
        self._fs = _gs_client(access)
        self.upload_path = f"{self._fs._location}/upload/storage/v1/b/{{}}/o"  # noqa: SLF001 - that of the emulator, too

    def pages(self, prefix: str) -> Iterator[Sequence[ObjectEntry]]:
        """Yield all objects below a prefix, by the bytes of their keys."""
        token: dict[str, str] = {}
        while True:
            page = self._list(prefix=prefix, **token)
            yield _gs_entries(page)
            if not page.get("nextPageToken"):
                return
            token = {"pageToken": page["nextPageToken"]}

    def near(self, key: str) -> Sequence[ObjectEntry]:
        """Return a page that begins with `key`."""
        return _gs_entries(self._list(startOffset=key))

    def find(self, key: str) -> ObjectEntry:
        """Return the object of this key."""
        return _gs_entry(self.call("GET", "b/{}/o/{}", self._bucket, key, json_out=True))

    def read(self, entry: ObjectEntry, start: int, length: int) -> bytes:
        """Return a part of the object as it is stored, if it is still the same version."""
        condition = {"ifGenerationMatch": entry.version} if entry.version else {}
        # A gzip object must not be decompressed by the server: its size would differ from the listed one.
        headers = {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "gzip"}
        _, data = self.call(
            "GET", "b/{}/o/{}", self._bucket, entry.key, headers=headers, alt="media", **condition
        )
        if len(data) != length:
            raise changed()
        return bytes(data)

    def _list(self, **query: str) -> dict[str, Any]:
        page: dict[str, Any] = self.call("GET", "b/{}/o", self._bucket, json_out=True, fields=FIELDS, **query)
        return page

    def call(self, method: str, path: str, *names: str, **query: Any) -> Any:
        """Send a request; return its headers and content, or with `json_out` the document that this is.

        gcsfs raises FileNotFoundError for 404 and FileExistsError for 412.

        Args:
            method: of HTTP.
            path: with a place in braces for each name.
            names: of the bucket and the object, as they are.
            query: parameters, and the headers, data and json of the request.
        """
        headers = {"Accept-Encoding": "identity", **query.pop("headers", {})}
        return self._fs.call(method, path, *names, headers=headers, **query)


def _gs_client(access: str) -> Any:
    import aiohttp
    import gcsfs

    return gcsfs.GCSFileSystem(
        access=access,
        skip_instance_cache=True,
        use_listings_cache=False,
        requests_timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S),
        session_kwargs={"auto_decompress": False},
    )


def _gs_entries(page: dict[str, Any]) -> list[ObjectEntry]:
    return [_gs_entry(fields) for fields in page.get("items", ())]


def _gs_entry(fields: dict[str, Any]) -> ObjectEntry:
    updated = datetime.fromisoformat(fields["updated"])
    return ObjectEntry(
        key=fields["name"],
        size=int(fields["size"]),
        mtime_ns=round(updated.timestamp() * 1000) * 10**6,
        version=fields.get("generation"),
    )
