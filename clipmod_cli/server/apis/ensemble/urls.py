"""`/predict/urls`: a few pictures by their URLs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import unquote, urlsplit

from fastapi import APIRouter, Depends, Request

from clipmod_cli.server.apis.ensemble.answers import RequestTotals, json_name, message_of, prediction_fields
from clipmod_cli.server.apis.ensemble.requests import PROBLEMS, Keeps, RequestKeeper, late, while_connected
from clipmod_cli.server.apis.ensemble.shapes import UrlMulti, UrlPrediction, UrlRequest
from clipmod_cli.server.configuration import MB
from clipmod_cli.server.device_thread import Caller
from clipmod_cli.server.forms.streamed import fault_of, takes_heic
from clipmod_cli.server.forms.uploads import upload_route
from clipmod_cli.server.problems import problem
from clipmod_cli.server.service import JudgedItem
from clipmod_cli.server.state import Configured, Served
from clipmod_cli.sources.web.addresses import AddressRules, FetchRules, check_url
from clipmod_cli.sources.web.downloads import Downloads
from clipmod_cli.sources.web.errors import FetchError
from clipmod_cli.types import Failure, Item

SHOWN_CHARS: Final = 200
"""Of a URL in a refusal."""

BODY_BYTES: Final = MB
"""The largest body: a hundred of the longest URLs that browsers accept."""

router = APIRouter(route_class=upload_route(lambda _bounds: BODY_BYTES))


async def fetch_rules(settings: Configured, service: Served) -> FetchRules:
    """Return the rules of downloads: private addresses are refused whatever the settings say."""
    return FetchRules(
        access=AddressRules(private=False),
        total_s=settings.timeout,
        max_bytes=service.limits.image_bytes,
        video_bytes=service.limits.image_bytes,  # videos are refused, so nothing is downloaded for them
        video_s=settings.timeout,
    )


Rules = Annotated[FetchRules, Depends(fetch_rules)]


@router.post("/predict/urls", summary="Judge pictures by their URLs", responses=PROBLEMS)
async def predict_urls(request: Request, body: UrlRequest, keeper: Keeps, rules: Rules) -> UrlMulti:
    """Download a few pictures and judge them.

    A malformed URL refuses the request; what cannot be downloaded or judged is in `summary.errors`.
    """
    service = keeper.service
    _check(body.urls, service.limits.url_count)
    with service.load.one():
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
    errors: dict[int, str] = {}
    totals = RequestTotals()
    items = [Item(source=url, index=index) for index, url in enumerate(urls)]
    with closing(Downloads(items, rules)) as downloads:
        pictures = _pictures(downloads, heic=takes_heic(keeper.settings), most=rules.max_bytes)
        for judged in keeper.service.judge(pictures, caller):
            index = judged.result.item.index
            if isinstance(judged.result, Failure):
                keeper.info.error = judged.result.code
                errors[index] = f"Error for {json_name(urls[index])}: {_complaint(judged.result)}"
            elif judged.refused:
                errors[index] = f"Error for {json_name(urls[index])}: {keeper.refuse(judged)}"
            else:
                totals.add(judged.record)
                predictions[index] = _answer(keeper, judged)
    if len(predictions) + len(errors) < len(urls):
        raise late()
    totals.errors = [errors[index] for index in sorted(errors)]
    return UrlMulti(predictions=[predictions[index] for index in sorted(predictions)], summary=totals.summary)


def _answer(keeper: RequestKeeper, judged: JudgedItem) -> UrlPrediction:
    url = judged.record.source
    fields = prediction_fields(judged, keeper.host(judged))
    return UrlPrediction(**{**fields, "url": url, "image": _name_of(url)})


def _pictures(downloads: Downloads, *, heic: bool, most: int) -> Iterator[Item | Failure]:
    """Yield downloaded pictures; a video or another file as a failure."""
    for one in downloads:
        if isinstance(one, Failure):
            yield one
        elif one.data is None:
            if one.spilled is not None:
                Path(one.spilled).unlink(missing_ok=True)
            yield _refused(one, "a video where an image is expected")
        elif fault := fault_of(one.data, len(one.data), most, heic=heic):
            yield _refused(one, fault[1])
        else:
            yield one


def _refused(item: Item, message: str) -> Failure:
    bare = Item(source=item.source, index=item.index, final_url=item.final_url)
    return Failure(item=bare, stage="source", code="not_an_image", message=message)


def _complaint(failure: Failure) -> str:
    """Return why a URL could not be judged, in the document's words."""
    if failure.stage != "source":
        return message_of(failure)
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


def _name_of(url: str) -> str:
    """Return the last part of a URL's path, or its host where there is none."""
    parts = urlsplit(url)
    last = unquote(parts.path.rstrip("/").rpartition("/")[2])
    return json_name(last) or parts.hostname or url
