"""Downloads → the same, with what is in their archives in the place of each archive.

An archive that was downloaded is read as `clipmod scan` reads one on disk (`archives`), and its
temporary file goes when it has been read. All its members have the index of its URL.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from clipmod_cli.decode.formats import HEAD_BYTES, sniff
from clipmod_cli.sources.archives.items import is_hidden, nothing_inside, result_of
from clipmod_cli.sources.archives.opening import Archive, open_archive
from clipmod_cli.sources.archives.walk import MemberFilter
from clipmod_cli.sources.base import Skipped
from clipmod_cli.types import Failure, Item, Media

NAMELESS = "content"
"""What is in a compressed file is called so where the URL says nothing."""


def unpack(found: Iterable[Item | Failure], skipped: Skipped) -> Iterator[Item | Failure]:
    """Yield what is found, each archive as what it holds; never nothing at all for one of them.

    Args:
        found: downloads; those with a file may be archives.
        skipped: counts the members that are no inputs.
    """
    for one in found:
        archive = _open(one) if isinstance(one, Item) else None
        if archive is None or isinstance(one, Failure):
            yield one
        else:
            yield from _members(one, archive, skipped)


def _open(item: Item) -> Archive | None:
    return None if item.spilled is None else open_archive(item.spilled, called=_name_of(item.source))


def _members(item: Item, archive: Archive, skipped: Skipped) -> Iterator[Item | Failure]:
    whole = replace(item, spilled=None)
    wishes = MemberFilter(lambda name: "hidden" if is_hidden(name) else None)
    count = 0
    try:
        for found in archive.members(wishes):
            yield _told_as_download(result_of(found, whole, archive.size))
            count += 1
        if not count:
            yield nothing_inside(whole, archive.size, wishes)
    finally:
        archive.close()
        Path(str(item.spilled)).unlink(missing_ok=True)
        skipped.reasons.update(wishes.skipped)


def _told_as_download(result: Item | Failure) -> Item | Failure:
    """Return a result whose code is that of downloads if it is of no format that is judged."""
    if isinstance(result, Failure):
        return replace(result, code="not_an_image") if result.code == "unsupported_format" else result
    if not result.data or sniff(result.data[:HEAD_BYTES]) is not None:
        return result
    return Failure(
        item=replace(result, data=None),
        stage="source",
        code="not_an_image",
        message="the member is no picture, whatever its name",
        media=Media(started=time.perf_counter(), bytes=len(result.data)),
    )


def _name_of(url: str) -> str:
    """Return what people would call the file that a URL gives: the end of its path."""
    path = unquote(urlsplit(url).path).partition("\0")[0]
    return PurePosixPath(path).name or NAMELESS
