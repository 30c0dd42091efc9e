"""Downloads → the same, each archive replaced by its members.

A downloaded archive is read like one on disk; then its temporary file is removed. All its members have the
index of its URL.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from clipmod_cli.decode.formats import sniff
from clipmod_cli.errors import ItemError
from clipmod_cli.sources.archives.items import is_hidden, open_input, read_members
from clipmod_cli.sources.base import Skipped, failure
from clipmod_cli.types import Failure, Item, Media

DEFAULT_NAME = "content"
"""Of the file in a compressed file, where the URL gives no name."""


def unpack(downloads: Iterable[Item | Failure], skipped: Skipped) -> Iterator[Item | Failure]:
    """Yield the downloads, each archive as its members; at least one result for each.

    Args:
        downloads: those with a temporary file may be archives.
        skipped: counts the members that are no inputs.
    """
    for one in downloads:
        if (
            isinstance(one, Failure)
            or one.spilled is None
            or (archive := open_input(one.spilled, name=_name_of(one.source)).archive) is None
        ):
            yield one
            continue
        whole = replace(one, spilled=None)
        try:
            with closing(read_members(archive, whole, _skip_reason, skipped, named=True, step=0)) as members:
                for result in members:
                    yield _with_download_code(result)
        finally:
            Path(one.spilled).unlink(missing_ok=True)


def _skip_reason(name: str) -> str | None:
    return "hidden" if is_hidden(name) else None


def _with_download_code(result: Item | Failure) -> Item | Failure:
    """Return a result, `not_an_image` in place of `unsupported_format`, as for all downloads."""
    if isinstance(result, Failure):
        return replace(result, code="not_an_image") if result.code == "unsupported_format" else result
    if not result.data or sniff(result.data) is not None:
        return result
    error = ItemError("not_an_image", "the member is not an image, whatever its name")
    media = Media(started=time.perf_counter(), bytes=len(result.data))
    return failure(replace(result, data=None), error, media)


def _name_of(url: str) -> str:
    """Return the file name of a URL: the end of its path."""
    path = unquote(urlsplit(url).path).partition("\0")[0]
    return PurePosixPath(path).name or DEFAULT_NAME
