"""Evidence of a request's files, for the interfaces without a policy, and the refusal of failed files.

Blocking. A file that was not completely decoded and scored is an error with a status, never an answer.
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

from clipmod_cli.decode.limits import Coverage, FrameSampling
from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.errors import ErrorCode
from clipmod_cli.results import BankVerdict, Settled
from clipmod_cli.server.forms.uploads import NAME_CHARS
from clipmod_cli.server.problems import not_looked_at, problem, status_of
from clipmod_cli.server.service import Service
from clipmod_cli.types import Evidence, Failure, Item

log = logging.getLogger(__name__)


def seconds_to(until: float) -> float:
    """Return the seconds until a `time.monotonic()`, from 0 to the longest possible timeout."""
    return min(max(until - time.monotonic(), 0.0), threading.TIMEOUT_MAX)


_MESSAGES: dict[ErrorCode, str] = {
    "model_error": "the model failed on it",
    "non_finite_score": "the model gave a score that is not a number",
    "internal_error": "the service failed on it",
    "decode_crash": "decoding it ended in a crash",
    "out_of_memory": "there was not enough memory for it",
    "deadline": "the request's time was up",
    "blocked_address": "its address or port is not allowed",
}
"""In place of messages that may name things of this machine, or flags of the command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestScan:
    """The scan of one request's files by an ensemble.

    Attributes:
        until: the request's deadline by `time.monotonic()`.
        sampling: which frames are scored; None for the service's settings.
    """

    service: Service
    ensemble: Ensemble
    until: float
    sampling: FrameSampling | None = None

    def frames(self, items: Iterable[Item], count: int) -> Generator[Evidence]:
        """Yield the evidence of each frame, in order. `close` the generator to stop early.

        Args:
            items: the files; read ahead by another thread.
            count: the number of files.

        Raises:
            HTTPException: if a file cannot be scanned completely, naming it.
        """
        caller = self.service.caller_of(self.ensemble, deadline_s=seconds_to(self.until))
        options = self.service.options
        # labels and classes are compared with what the model's own library says of the picture
        decode = replace(options.decode, coverage=Coverage(full=False))
        if self.sampling is not None:
            decode = replace(decode, frames=self.sampling)
        options = replace(options, decode=decode)
        seen = cast("Generator[Evidence | Settled]", self.service.infer(items, caller, options))
        with closing(seen):
            for one in seen:
                yield self._complete(one)
                count -= one.last
        if count:
            raise problem(504, "The request took too long. A video is quicker with fast_mode=true")

    def _complete(self, one: Evidence | Settled) -> Evidence:
        if isinstance(one, BankVerdict):  # only deny banks are asked, and no answer here has a word for NSFW
            banks = ", ".join(match.bank for match in one.by.matches)
            raise problem(400, f"{_name_of(one.item)} cannot be judged: its content is denied ({banks})")
        if isinstance(one, Failure):
            raise refusal(one)
        # which frames are scored may be the request's own wish
        reasons = [r for r in one.media.unseen_reasons if r != "unsampled" or self.sampling is None]
        if reasons and self.service.unseen != "safe":  # no answer here has a word that flags
            raise problem(400, f"{_name_of(one.item)} cannot be judged: {not_looked_at(reasons)}")
        return one


def refusal(failure: Failure) -> HTTPException:
    """Return the answer to a request with this failed file."""
    message = _MESSAGES.get(failure.code, failure.message)
    if failure.code in _MESSAGES and failure.code not in {"deadline", "blocked_address"}:
        log.warning("%s: %s (%s)", failure.item.source, failure.message, failure.code)
    return problem(status_of(failure.code), f"{_name_of(failure.item)} cannot be judged: {message}")


def _name_of(item: Item) -> str:
    return item.source[:NAME_CHARS]
