"""Downloads that requests ask for: their rules, which no request changes, and the messages of failed ones."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

from fastapi import Depends

from clipmod_cli.server.forms.streamed import fault_of
from clipmod_cli.server.state import Served
from clipmod_cli.sources.web.addresses import AddressRules, FetchRules
from clipmod_cli.sources.web.downloads import DownloadPacing, Downloads
from clipmod_cli.types import Failure, Item

LEAST_S: Final = 0.1
"""The shortest timeout of a download."""


async def fetch_rules(service: Served) -> FetchRules:
    """Return the rules: public addresses, and the hosts that the operator allows, whatever else is set."""
    limits = service.limits
    return FetchRules(
        access=AddressRules(private=False, hosts=limits.download_hosts),
        total_s=limits.download_s,
        read_s=limits.download_s,
        max_bytes=limits.image_bytes,
        video_bytes=limits.image_bytes,  # videos are refused, so nothing is downloaded for them
        video_s=limits.download_s,
    )


DownloadRules = Annotated[FetchRules, Depends(fetch_rules)]


@contextmanager
def downloading(
    items: Iterable[Item | Failure], rules: FetchRules, *, heic: bool, until: float | None = None
) -> Iterator[Iterator[Item | Failure]]:
    """Give the picture at the URL of each item, as they complete; anything else is a Failure.

    The iteration blocks, in any thread; the end of the block ends it.

    Args:
        items: their `source` is a URL.
        rules: from `fetch_rules`.
        heic: HEIC pictures are taken.
        until: `time.monotonic()` at which downloading ends; None for the rules' own time.
    """
    if until is not None:
        left_s = max(until - time.monotonic(), LEAST_S)
        rules = replace(rules, total_s=min(rules.total_s, left_s), read_s=min(rules.read_s, left_s))
    # one request has few URLs: none of them waits for another one of its host
    pacing = DownloadPacing(per_host=DownloadPacing().concurrency, url_s=rules.total_s)
    with closing(Downloads(items, rules, pacing)) as downloads:
        yield (
            one if isinstance(one, Failure) else _picture(one, rules.max_bytes, heic=heic)
            for one in downloads
        )


def _picture(one: Item, most: int, *, heic: bool) -> Item | Failure:
    if one.data is None:
        if one.spilled is not None:
            Path(one.spilled).unlink(missing_ok=True)
        return _refused(one, "a video where an image is expected")
    fault = fault_of(one.data, len(one.data), most, heic=heic)
    return one if fault is None else _refused(one, fault[1])


def _refused(item: Item, message: str) -> Failure:
    bare = Item(source=item.source, index=item.index, final_url=item.final_url)
    return Failure(item=bare, stage="source", code="not_an_image", message=message)


def download_complaint(failure: Failure) -> str:
    """Return why a download failed, in the ensemble API's words, without any internal address."""
    match failure.code:
        case "timeout":
            return "Timeout downloading image from URL"
        case "http_error":
            return f"Failed to download image from URL: HTTP {failure.http_status}"
        case "blocked_address":  # the message names flags of the command line
            return "Failed to download image from URL: its address or port is not allowed"
        case "download_too_large":
            return "Failed to download image from URL: the file is too large"
        case _:
            return f"Failed to download image from URL: {failure.message}"
