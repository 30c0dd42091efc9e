"""A repository of the Hugging Face hub as a store, through huggingface_hub's client.

The token is that of `hf auth login` or HF_TOKEN. The hub lists no modification times, but the SHA-256 of
every file that is not small text. Files bypass the hub's cache: each is read once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from clipmod_cli.errors import ItemError
from clipmod_cli.models.hub.client import request_headers
from clipmod_cli.sources.stores.base import READ_S, ObjectEntry
from clipmod_cli.sources.stores.errors import changed

_KINDS = frozenset({"datasets", "models", "spaces"})

PAGE = 1000
"""Files of one page of a listing."""


def split_repository(path: str) -> tuple[str, str]:
    """Return repository with its revision, and the path in it, of what follows `hf://`."""
    parts = path.split("/")
    count = 3 if parts[0] in _KINDS else 2
    if parts[count - 1 : count] and parts[count - 1].endswith("@refs"):
        count += 2  # refs/pr/1, refs/convert/parquet
    return "/".join(parts[:count]), "/".join(parts[count:])


class HfStore:
    """One repository at one revision."""

    def __init__(self, bucket: str) -> None:
        """Parse the name; send no request yet."""
        from huggingface_hub import HfApi, parse_hf_uri

        uri = parse_hf_uri(f"hf://{bucket}")
        self._api = HfApi()
        self._repo: dict[str, Any] = {"repo_id": uri.id, "repo_type": uri.type, "revision": uri.revision}

    def pages(self, prefix: str) -> Iterator[Sequence[ObjectEntry]]:
        """Yield all files of a folder, in the hub's order."""
        entries = iter(self._tree(prefix.rstrip("/"), recursive=True))
        while page := list(islice(entries, PAGE)):
            yield [entry for entry in _entries(page) if entry.key.startswith(prefix)]

    def near(self, key: str) -> Sequence[ObjectEntry]:
        """Return the files of the same folder."""
        return _entries(self._tree(key.rpartition("/")[0], recursive=False))

    def find(self, key: str) -> ObjectEntry:
        """Return the file of this name."""
        found = _entries(self._api.get_paths_info(paths=[key], **self._repo))
        if not found:
            raise ItemError("not_found", "there is no such file in the repository")
        return found[0]

    def read(self, entry: ObjectEntry, start: int, length: int) -> bytes:
        """Return a part of the file."""
        from huggingface_hub import get_session, hf_hub_url, hf_raise_for_status

        headers = request_headers() | {"Range": f"bytes={start}-{start + length - 1}"}
        url = hf_hub_url(filename=entry.key, **self._repo)
        data = bytearray()
        with get_session().stream(
            "GET", url, headers=headers, timeout=READ_S, follow_redirects=True
        ) as answer:
            hf_raise_for_status(answer)
            if answer.status_code != 206 and (start or length != entry.size):
                raise ItemError("read_error", "the hub sent more than was requested")
            for chunk in answer.iter_raw():
                data += chunk
                if len(data) > length:
                    break
        if len(data) != length:
            raise changed()
        return bytes(data)

    def _tree(self, folder: str, *, recursive: bool) -> Iterable[Any]:
        return self._api.list_repo_tree(path_in_repo=folder or None, recursive=recursive, **self._repo)


def _entries(listed: Iterable[Any]) -> list[ObjectEntry]:
    """Return the files of a listing; folders have no size."""
    return [
        ObjectEntry(
            key=one.path,
            size=one.size,
            version=one.blob_id,
            sha256=one.lfs.sha256 if one.lfs else None,
        )
        for one in listed
        if hasattr(one, "size")
    ]
