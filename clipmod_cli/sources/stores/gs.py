"""A bucket of Google Cloud Storage, through gcsfs and the JSON interface.

Credentials are Google's own (application default credentials, then nobody's). gcsfs is asked by bucket
and key: its own paths would take `a.jpg#1` for a generation of another object.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from clipmod_cli.sources.stores.base import ObjectEntry
from clipmod_cli.sources.stores.errors import changed, store_errors

CONNECT_S, READ_S = 5, 10
"""As for URLs."""

FIELDS = "nextPageToken,items(name,size,updated,generation)"


class GsStore:
    """One bucket."""

    def __init__(self, bucket: str) -> None:
        """Find out who is asking; ask for no object yet."""
        self._bucket = bucket
        logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs what it raises
        with store_errors():
            self._fs = _file_system()

    def pages(self, prefix: str) -> Iterator[Sequence[ObjectEntry]]:
        """Yield all objects below a prefix, by the bytes of their keys."""
        more: dict[str, str] = {}
        while True:
            page = self._list(prefix=prefix, **more)
            yield [_entry(told) for told in page.get("items", ())]
            if not page.get("nextPageToken"):
                return
            more = {"pageToken": page["nextPageToken"]}

    def near(self, key: str) -> Sequence[ObjectEntry]:
        """Return a page that begins with `key`."""
        return [_entry(told) for told in self._list(startOffset=key).get("items", ())]

    def find(self, key: str) -> ObjectEntry:
        """Return the object of this key."""
        with store_errors():
            return _entry(self._call("b/{}/o/{}", self._bucket, key, json_out=True))

    def read(self, entry: ObjectEntry, start: int, length: int) -> bytes:
        """Return a part of the object as it is kept, if it is still the same."""
        same = {"ifGenerationMatch": entry.version} if entry.version else {}
        # An object that is kept as gzip must not be unpacked on the way: its size would be anything.
        headers = {"Range": f"bytes={start}-{start + length - 1}", "Accept-Encoding": "gzip"}
        with store_errors():
            _, data = self._call("b/{}/o/{}", self._bucket, entry.key, headers=headers, alt="media", **same)
        if len(data) != length:
            raise changed()
        return bytes(data)

    def _list(self, **asked: str) -> dict[str, Any]:
        with store_errors():
            page: dict[str, Any] = self._call("b/{}/o", self._bucket, json_out=True, fields=FIELDS, **asked)
            return page

    def _call(self, path: str, *names: str, **asked: Any) -> Any:
        headers = {"Accept-Encoding": "identity", **asked.pop("headers", {})}
        return self._fs.call("GET", path, *names, headers=headers, **asked)


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


def _entry(told: dict[str, Any]) -> ObjectEntry:
    when = datetime.fromisoformat(told["updated"])
    return ObjectEntry(
        key=told["name"],
        size=int(told["size"]),
        mtime_ns=round(when.timestamp() * 1000) * 10**6,
        version=told.get("generation"),
    )
