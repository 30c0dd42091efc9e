"""A bucket of Google Cloud Storage, through gcsfs and the JSON API.

Credentials are the application default credentials; without any, requests are anonymous. Requests pass
bucket and key themselves: gcsfs's own paths would take `a.jpg#1` for a generation of another object.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from clipmod_cli.sources.stores.base import CONNECT_S, READ_S, ObjectEntry
from clipmod_cli.sources.stores.errors import changed

FIELDS = "nextPageToken,items(name,size,updated,generation)"


class GsStore:
    """One bucket."""

    def __init__(self, bucket: str) -> None:
        """Load the credentials; request no object yet."""
        self._bucket = bucket
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it also logs the errors that it raises
        self._fs = _file_system()

    def pages(self, prefix: str) -> Iterator[Sequence[ObjectEntry]]:
        """Yield all objects below a prefix, by the bytes of their keys."""
        token: dict[str, str] = {}
        while True:
            page = self._list(prefix=prefix, **token)
            yield _listed(page)
            if not page.get("nextPageToken"):
                return
            token = {"pageToken": page["nextPageToken"]}

    def near(self, key: str) -> Sequence[ObjectEntry]:
        """Return a page that begins with `key`."""
        return _listed(self._list(startOffset=key))

    def find(self, key: str) -> ObjectEntry:
        """Return the object of this key."""
        return _entry(self._call("b/{}/o/{}", self._bucket, key, json_out=True))

    def read(self, entry: ObjectEntry, start: int, length: int) -> bytes:
        """Return a part of the object as it is stored, if it is still the same version."""
        condition = {"ifGenerationMatch": entry.version} if entry.version else {}
        # A gzip object must not be decompressed by the server: its size would differ from the listed one.
        headers = {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "gzip"}
        _, data = self._call("b/{}/o/{}", self._bucket, entry.key, headers=headers, alt="media", **condition)
        if len(data) != length:
            raise changed()
        return bytes(data)

    def _list(self, **query: str) -> dict[str, Any]:
        page: dict[str, Any] = self._call("b/{}/o", self._bucket, json_out=True, fields=FIELDS, **query)
        return page

    def _call(self, path: str, *names: str, **query: Any) -> Any:
        headers = {"Accept-Encoding": "identity", **query.pop("headers", {})}
        return self._fs.call("GET", path, *names, headers=headers, **query)


def _file_system() -> Any:
    import aiohttp
    import gcsfs

    return gcsfs.GCSFileSystem(
        access="read_only",
        skip_instance_cache=True,
        use_listings_cache=False,
        requests_timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=READ_S),
        session_kwargs={"auto_decompress": False},
    )


def _listed(page: dict[str, Any]) -> list[ObjectEntry]:
    return [_entry(fields) for fields in page.get("items", ())]


def _entry(fields: dict[str, Any]) -> ObjectEntry:
    updated = datetime.fromisoformat(fields["updated"])
    return ObjectEntry(
        key=fields["name"],
        size=int(fields["size"]),
        mtime_ns=round(updated.timestamp() * 1000) * 10**6,
        version=fields.get("generation"),
    )
