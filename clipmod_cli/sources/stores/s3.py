"""A bucket of S3 or of what speaks like it, through s3fs.

Requests name bucket and key themselves: s3fs's own paths would take `a.jpg?versionId=x` for another
object. Credentials, region and endpoint are what the AWS tools take; with none at all the bucket is
asked as anybody may.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from clipmod_cli.sources.stores.base import ObjectEntry
from clipmod_cli.sources.stores.errors import changed, store_errors

CONNECT_S, READ_S = 5, 10
"""As for URLs."""

TRIES = 3
"""botocore's own, with a pause that grows; s3fs would try each of them five times over again."""

CONNECTIONS = 32
"""As many as there are threads that fetch."""


class S3Store:
    """One bucket."""

    def __init__(self, bucket: str) -> None:
        """Find out who is asking; ask for nothing yet."""
        self._bucket = bucket
        with store_errors():
            self._fs = _file_system()

    def pages(self, prefix: str) -> Iterator[Sequence[ObjectEntry]]:
        """Yield all objects below a prefix, by the bytes of their keys."""
        more: dict[str, str] = {}
        while True:
            page = self._list(Prefix=prefix, **more)
            yield [_entry(told) for told in page.get("Contents", ())]
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def near(self, key: str) -> Sequence[ObjectEntry]:
        """Return a page that begins a little before `key`."""
        begin = {"StartAfter": key[:-1]} if len(key) > 1 else {}
        return [_entry(told) for told in self._list(**begin).get("Contents", ())]

    def find(self, key: str) -> ObjectEntry:
        """Return the object of this key."""
        with store_errors():
            told = self._fs.call_s3("head_object", Bucket=self._bucket, Key=key)
            return ObjectEntry(
                key=key,
                size=told["ContentLength"],
                mtime_ns=_nanoseconds(told["LastModified"]),
                version=told.get("ETag"),
            )

    def read(self, entry: ObjectEntry, start: int, length: int) -> bytes:
        """Return a part of the object, if it is still the same."""
        from fsspec.asyn import sync

        same = {"IfMatch": entry.version} if entry.version else {}
        with store_errors():
            answer = self._fs.call_s3(
                "get_object",
                Bucket=self._bucket,
                Key=entry.key,
                Range=f"bytes={start}-{start + length - 1}",
                **same,
            )
            data: bytes = sync(self._fs.loop, _read_body, answer["Body"], length + 1)
        if len(data) != length:
            raise changed()
        return data

    def _list(self, **asked: str) -> dict[str, Any]:
        with store_errors():
            page: dict[str, Any] = self._fs.call_s3("list_objects_v2", Bucket=self._bucket, **asked)
            return page


async def _read_body(body: Any, most: int) -> bytes:
    """Return at most so many bytes; the connection is closed if there are more."""
    try:
        gathered = bytearray()
        while len(gathered) < most and (chunk := await body.read(most - len(gathered))):
            gathered += chunk
        return bytes(gathered)
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


def _entry(told: dict[str, Any]) -> ObjectEntry:
    return ObjectEntry(
        key=told["Key"],
        size=told["Size"],
        mtime_ns=_nanoseconds(told["LastModified"]),
        version=told.get("ETag"),
    )


def _nanoseconds(when: datetime) -> int:
    """Return a time as files have theirs; whole seconds, since a HEAD tells no more than a listing's."""
    return int(when.timestamp()) * 10**9
