"""`/predict/urls`: a few pictures by their URLs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
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
    async with service.load.turn():
        caller = service.caller_of()
        return await while_connected(request, caller, partial(_judge, keeper, caller, body.urls, rules))


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


def _judge(keeper: RequestKeeper, caller: Caller, urls: list[str], rules: FetchRules) -> UrlMulti:
    """Return the answer; blocks.

    Raises:
        HTTPException: the time was up.
    """
    predictions: dict[int, UrlPrediction] = {}
    errors: dict[int, UrlError] = {}
    totals = RequestTotals(keeper.info)
    items = [Item(source=url, index=index) for index, url in enumerate(urls)]
    with (
        SpooledPieces() as spool,
        downloading(items, rules, heic=takes_heic(keeper.settings)) as found,
    ):
        kept: dict[int, list[Piece]] = {}
        pictures = found if keeper.storage.hosting is None else _spooled(found, spool, kept)
        for judged in keeper.service.judge(pictures, caller, keeper.panels):
            index = judged.result.item.index
            if isinstance(judged.result, Failure):
                keeper.info.error = judged.result.code
                errors[index] = _failed(urls[index], judged.result.code, _complaint(judged.result))
            elif judged.refused:
                errors[index] = _failed(urls[index], NOT_LOOKED_AT, keeper.refuse(judged))
            else:
                totals.add(judged.record)
                predictions[index] = _answer(keeper, judged, partial(_read, spool, kept.get(index)))
    if len(predictions) + len(errors) < len(urls):
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


def _spooled(
    pictures: Iterable[Item | Failure], spool: SpooledPieces, kept: dict[int, list[Piece]]
) -> Iterator[Item | Failure]:
    """Yield the pictures, and put the bytes of each into the spool and its pieces into `kept` by its index.

    The pipeline drops the bytes of a large picture once it is decoded.
    """
    for one in pictures:
        if isinstance(one, Item) and one.data is not None:
            with contextlib.suppress(OSError):  # no room on the disk: it is judged, and not hosted
                kept[one.index] = [spool.put(one.data)]
        yield one


def _complaint(failure: Failure) -> str:
    """Return why a URL could not be judged, in the document's words."""
    return download_complaint(failure) if failure.stage == "source" else message_of(failure)


def _name_of(url: str) -> str:
    """Return the last part of a URL's path, or its host where there is none."""
    parts = urlsplit(url)
    last = unquote(parts.path.rstrip("/").rpartition("/")[2])
    return json_name(last) or parts.hostname or url
