"""A bucket of S3 or of a compatible server, through s3fs.

Requests pass bucket and key themselves: s3fs's own paths would take `a.jpg?versionId=x` for another object.
Credentials, region and endpoint are those of the AWS tools; without credentials, requests are anonymous.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from clipmod_cli.sources.stores.base import CONNECT_S, READ_S, ObjectEntry
from clipmod_cli.sources.stores.errors import changed

TRIES = 3
"""By botocore, with a growing pause; s3fs would try each of them five times over again."""

CONNECTIONS = 32
"""As many as there are threads that fetch."""


class S3Store:
    """One bucket."""

    def __init__(self, bucket: str) -> None:
        """Load the credentials; send no request yet."""
        self._bucket = bucket
        self._fs = _file_system()

    def pages(self, prefix: str) -> Iterator[Sequence[ObjectEntry]]:
        """Yield all objects below a prefix, by the bytes of their keys."""
        token: dict[str, str] = {}
        while True:
            page = self._list(Prefix=prefix, **token)
            yield _listed(page)
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def near(self, key: str) -> Sequence[ObjectEntry]:
        """Return a page that begins a little before `key`."""
        start = {"StartAfter": key[:-1]} if len(key) > 1 else {}
        return _listed(self._list(**start))

    def find(self, key: str) -> ObjectEntry:
        """Return the object of this key."""
        head = self._fs.call_s3("head_object", Bucket=self._bucket, Key=key)
        return _entry(key, head["ContentLength"], head)

    def read(self, entry: ObjectEntry, start: int, length: int) -> bytes:
        """Return a part of the object, if it is still the same version."""
        from fsspec.asyn import sync

        condition = {"IfMatch": entry.version} if entry.version else {}
        answer = self._fs.call_s3(
            "get_object",
            Bucket=self._bucket,
            Key=entry.key,
            Range=f"bytes={start}-{start + length - 1}",
            **condition,
        )
        data: bytes = sync(self._fs.loop, _read_body, answer["Body"], length + 1)
        if len(data) != length:
            raise changed()
        return data

    def _list(self, **parameters: str) -> dict[str, Any]:
        page: dict[str, Any] = self._fs.call_s3("list_objects_v2", Bucket=self._bucket, **parameters)
        return page


async def _read_body(body: Any, max_bytes: int) -> bytes:
    """Return at most so many bytes; closes the connection if there are more."""
    try:
        data = bytearray()
        while len(data) < max_bytes and (chunk := await body.read(max_bytes - len(data))):
            data += chunk
        return bytes(data)
    finally:
        body.close()


def _file_system() -> Any:
    import s3fs
    from botocore.session import Session

    fs = s3fs.S3FileSystem(
        anon=Session().get_credentials() is None,
        skip_instance_cache=True,
        use_listings_cache=False,
        config_kwargs={
            "connect_timeout": CONNECT_S,
            "read_timeout": READ_S,
            "max_pool_connections": CONNECTIONS,
            "retries": {"total_max_attempts": TRIES, "mode": "standard"},
        },
    )
    fs.retries = 1
    return fs


def _listed(page: Mapping[str, Any]) -> list[ObjectEntry]:
    return [_entry(found["Key"], found["Size"], found) for found in page.get("Contents", ())]


def _entry(key: str, size: int, fields: Mapping[str, Any]) -> ObjectEntry:
    """Return an entry; its time is in whole seconds, since a HEAD has no more of it than a listing."""
    mtime_ns = int(fields["LastModified"].timestamp()) * 10**9
    return ObjectEntry(key=key, size=size, mtime_ns=mtime_ns, version=fields.get("ETag"))
