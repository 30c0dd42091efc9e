"""`/predict/urls`: a few pictures by their URLs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final
from urllib.parse import unquote, urlsplit

from fastapi import APIRouter, Request

from clipmod_cli.server.apis.downloading import DownloadRules, download_complaint, downloading
from clipmod_cli.server.apis.ensemble.answers import RequestTotals, json_name, message_of, prediction_fields
from clipmod_cli.server.apis.ensemble.requests import PROBLEMS, Keeps, RequestKeeper, late, while_connected
from clipmod_cli.server.apis.ensemble.shapes import (
    NOT_LOOKED_AT,
    FailureCode,
    UrlError,
    UrlMulti,
    UrlPrediction,
    UrlRequest,
    UrlSummary,
)
from clipmod_cli.server.apis.request_scan import seconds_to
from clipmod_cli.server.configuration import MB
from clipmod_cli.server.device_thread import Caller
from clipmod_cli.server.forms.spooled import Piece, SpooledPieces
from clipmod_cli.server.forms.streamed import takes_heic
from clipmod_cli.server.forms.uploads import upload_route
from clipmod_cli.server.problems import problem
from clipmod_cli.server.service import JudgedItem
from clipmod_cli.sources.web.addresses import FetchRules, check_url
from clipmod_cli.sources.web.errors import FetchError
from clipmod_cli.types import Failure, Item

SHOWN_CHARS: Final = 200
"""Of a URL in a refusal."""

BODY_BYTES: Final = MB
"""The largest body: a hundred of the longest URLs that browsers accept."""

router = APIRouter(route_class=upload_route(lambda _bounds: BODY_BYTES))


@router.post("/predict/urls", summary="Judge pictures by their URLs", responses=PROBLEMS)
async def predict_urls(request: Request, body: UrlRequest, keeper: Keeps, rules: DownloadRules) -> UrlMulti:
    """Download a few pictures and judge them.

    A malformed URL refuses the request; what cannot be downloaded or judged is in `summary.errors`.
    """
    service = keeper.service
    _check(body.urls, service.limits.url_count)
    first = service.caller_of()
    with SpooledPieces() as spool:
        async with service.downloads.turn():
            fetch = partial(_download, keeper, first, body.urls, rules, spool)
            found = await while_connected(request, first, fetch, "download_threads")
        async with service.load.turn():
            caller = service.caller_of(deadline_s=seconds_to(first.deadline))
            return await while_connected(request, caller, partial(_judge, keeper, caller, found, spool))


def _check(urls: list[str], most: int) -> None:
    """Raise the documented refusal of an invalid list."""
    if not urls:
        raise problem(400, "URL validation errors: No URLs were given")
    if len(urls) > most:
        raise problem(400, f"Too many URLs. Maximum: {most} URLs per request")
    complaints = [f"Invalid URL format: {json_name(url[:SHOWN_CHARS])}" for url in urls if not _is_url(url)]
    if complaints:
        raise problem(400, f"URL validation errors: {', '.join(complaints)}")


def _is_url(url: str) -> bool:
    try:
        check_url(url)
    except FetchError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Download:
    """A downloaded picture, or why there is none.

    Attributes:
        pieces: its bytes in the spool; None if that had no room, and the item has them.
    """

    one: Item | Failure
    pieces: list[Piece] | None = None


def _download(
    keeper: RequestKeeper, caller: Caller, urls: list[str], rules: FetchRules, spool: SpooledPieces
) -> list[Download]:
    """Return what is at the URLs, in their order; blocks.

    Raises:
        HTTPException: the time was up.
    """
    found: dict[int, Download] = {}
    items = [Item(source=url, index=index) for index, url in enumerate(urls)]
    heic = takes_heic(keeper.settings)
    with downloading(items, rules, heic=heic, until=caller.deadline) as pictures:
        for one in pictures:
            if caller.cancelled:
                raise late()
            index = one.item.index if isinstance(one, Failure) else one.index
            found[index] = _spooled(one, spool)
    return [found[index] for index in sorted(found)]


def _spooled(one: Item | Failure, spool: SpooledPieces) -> Download:
    if isinstance(one, Item) and one.data is not None:
        with contextlib.suppress(OSError):  # no room on the disk: it is judged, and not hosted
            pieces = [spool.put(one.data)]
            return Download(replace(one, data=None), pieces)
    return Download(one)


def _items_of(found: Sequence[Download], spool: SpooledPieces) -> Iterator[Item | Failure]:
    """Yield the pictures with their bytes; blocks."""
    for each in found:
        if isinstance(each.one, Failure) or each.pieces is None:
            yield each.one
            continue
        try:
            yield replace(each.one, data=spool.get(each.pieces))
        except OSError as e:
            message = f"the temporary file cannot be read: {e.strerror or e}"
            yield Failure(item=each.one, stage="decode", code="internal_error", message=message)


def _judge(
    keeper: RequestKeeper, caller: Caller, found: Sequence[Download], spool: SpooledPieces
) -> UrlMulti:
    """Return the answer; blocks.

    Raises:
        HTTPException: the time was up.
    """
    predictions: dict[int, UrlPrediction] = {}
    errors: dict[int, UrlError] = {}
    totals = RequestTotals(keeper.info)
    for judged in keeper.service.judge(_items_of(found, spool), caller, keeper.panels):
        item = judged.result.item
        if isinstance(judged.result, Failure):
            keeper.info.error = judged.result.code
            errors[item.index] = _failed(item.source, judged.result.code, _complaint(judged.result))
        elif judged.refused:
            errors[item.index] = _failed(item.source, NOT_LOOKED_AT, keeper.refuse(judged))
        else:
            totals.add(judged.record)
            read = partial(_read, spool, found[item.index].pieces)
            predictions[item.index] = _answer(keeper, judged, read)
    if len(predictions) + len(errors) < len(found):
        raise late()
    details = [errors[index] for index in sorted(errors)]
    totals.errors = [f"Error for {one.url}: {one.message}" for one in details]
    summary = UrlSummary(**totals.summary.model_dump(), error_details=details or None)
    return UrlMulti(predictions=[predictions[index] for index in sorted(predictions)], summary=summary)


def _failed(url: str, code: FailureCode, message: str) -> UrlError:
    return UrlError(url=json_name(url), code=code, message=json_name(message))


def _answer(keeper: RequestKeeper, judged: JudgedItem, read: Callable[[], bytes]) -> UrlPrediction:
    url = judged.record.source
    fields = prediction_fields(judged, keeper.host(judged, read))
    return UrlPrediction(**{**fields, "url": url, "image": _name_of(url)})


def _read(spool: SpooledPieces, pieces: list[Piece] | None) -> bytes:
    """Return the bytes of a picture; raises OSError if the spool had no room for it."""
    if pieces is None:
        raise OSError("the temporary folder takes no more")
    return spool.get(pieces)


def _complaint(failure: Failure) -> str:
    """Return why a URL could not be judged, in the document's words."""
    return download_complaint(failure) if failure.stage == "source" else message_of(failure)


def _name_of(url: str) -> str:
    """Return the last part of a URL's path, or its host where there is none."""
    parts = urlsplit(url)
    last = unquote(parts.path.rstrip("/").rpartition("/")[2])
    return json_name(last) or parts.hostname or url
