"""Downloads → the same, each archive replaced by its members.

A downloaded archive is read like one on disk; then its temporary file is removed. All its members have the
index of its URL.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from clipmod_cli.decode.formats import sniff
from clipmod_cli.sources.archives.items import is_hidden, nothing_inside, result_of
from clipmod_cli.sources.archives.opening import Archive, open_archive
from clipmod_cli.sources.archives.walk import MemberFilter
from clipmod_cli.sources.base import Skipped
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
        archive = _open(one) if isinstance(one, Item) else None
        if archive is None or isinstance(one, Failure):
            yield one
        else:
            yield from _members(one, archive, skipped)


def _open(item: Item) -> Archive | None:
    return None if item.spilled is None else open_archive(item.spilled, name=_name_of(item.source))


def _members(item: Item, archive: Archive, skipped: Skipped) -> Iterator[Item | Failure]:
    whole = replace(item, spilled=None)
    member_filter = MemberFilter(lambda name: "hidden" if is_hidden(name) else None)
    count = 0
    try:
        for found in archive.members(member_filter):
            yield _with_download_code(result_of(found, whole, archive.size))
            count += 1
        if not count:
            yield nothing_inside(whole, archive.size, member_filter)
    finally:
        archive.close()
        Path(str(item.spilled)).unlink(missing_ok=True)
        skipped.reasons.update(member_filter.skipped)


def _with_download_code(result: Item | Failure) -> Item | Failure:
    """Return a result, `not_an_image` in place of `unsupported_format`, as for all downloads."""
    if isinstance(result, Failure):
        return replace(result, code="not_an_image") if result.code == "unsupported_format" else result
    if not result.data or sniff(result.data) is not None:
        return result
    return Failure(
        item=replace(result, data=None),
        stage="source",
        code="not_an_image",
        message="the member is not an image, whatever its name",
        media=Media(started=time.perf_counter(), bytes=len(result.data)),
    )


def _name_of(url: str) -> str:
    """Return the file name of a URL: the end of its path."""
    path = unquote(urlsplit(url).path).partition("\0")[0]
    return PurePosixPath(path).name or DEFAULT_NAME
