"""What models see in a request's files, unjudged, and the refusal where something could not be looked at.

Blocking. What was not wholly decoded and scored is never an answer: it is an error with a status.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import cast

from fastapi import HTTPException

from clipmod_cli.decode.limits import FrameSampling
from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.errors import ErrorCode
from clipmod_cli.server.forms.uploads import NAME_CHARS
from clipmod_cli.server.problems import problem, status_of
from clipmod_cli.server.service import Service
from clipmod_cli.types import Evidence, Failure, Item

log = logging.getLogger(__name__)


def seconds_to(until: float) -> float:
    """Return how long to wait for a `time.monotonic()`: never below 0, and never more than can be waited."""
    return min(max(until - time.monotonic(), 0.0), threading.TIMEOUT_MAX)


_SAID: dict[ErrorCode, str] = {
    "model_error": "the model failed on it",
    "non_finite_score": "the model gave a score that is not a number",
    "internal_error": "the service failed on it",
    "decode_crash": "decoding it ended in a crash",
    "out_of_memory": "there was not enough memory for it",
    "deadline": "the request's time was up",
}
"""In place of messages that may tell of this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestScan:
    """How one request looks.

    Attributes:
        ensemble: who looks.
        until: the `time.monotonic()` at which the request's time is up.
        sampling: which frames; None for those of the service's settings.
    """

    service: Service
    ensemble: Ensemble
    until: float
    sampling: FrameSampling | None = None

    def at(self, items: Iterable[Item], count: int) -> Generator[Evidence]:
        """Yield what is seen in each frame, in order. To leave early, `close` it: no more is then looked at.

        Args:
            items: what to look at; read ahead by another thread.
            count: how many there are.

        Raises:
            HTTPException: if one cannot wholly be looked at, naming it.
        """
        caller = self.service.caller_of(self.ensemble, deadline_s=seconds_to(self.until))
        options = self.service.options
        if self.sampling is not None:
            options = replace(options, decode=replace(options.decode, frames=self.sampling))
        seen = cast("Generator[Evidence | Failure]", self.service.look(items, caller, options))
        with closing(seen):
            for one in seen:
                yield _whole(one)
                count -= one.last
        if count:
            raise problem(504, "The request took too long. A video is quicker with fast_mode=true")


def _whole(one: Evidence | Failure) -> Evidence:
    if isinstance(one, Failure):
        raise refusal(one)
    if one.media.truncated:
        raise problem(400, f"{_shown(one.item)} cannot be judged: the file ends early")
    return one


def refusal(failure: Failure) -> HTTPException:
    """Return the answer to a request of which this input failed."""
    said = _SAID.get(failure.code, failure.message)
    if failure.code in _SAID and failure.code != "deadline":
        log.warning("%s: %s (%s)", failure.item.source, failure.message, failure.code)
    return problem(status_of(failure.code), f"{_shown(failure.item)} cannot be judged: {said}")


def _shown(item: Item) -> str:
    return item.source[:NAME_CHARS]
