"""Checks uploads before an application keeps or shows them. Fails closed; knows no web framework.

    guard = UploadGuard(policy="nsfw")
    if not guard.check(file, name).is_clean:
        ...

`fastapi` and `django` beside this module do so for those frameworks.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import fields
from time import monotonic
from typing import Any, Final, Literal, TypeAlias

from clipmod_cli.decode.unread import identify, is_media_name
from clipmod_cli.errors import ClipmodError, SettingsError, did_you_mean
from clipmod_cli.integrations.local import LocalJudge, size_of
from clipmod_cli.integrations.per_process import PerProcess
from clipmod_cli.integrations.remote import RemoteJudge
from clipmod_cli.integrations.uploads import (
    NamedUpload,
    Outcome,
    SeekableFile,
    UploadCheck,
    UploadFinding,
    UploadJudge,
)
from clipmod_cli.settings.definition import Settings, option_of

log = logging.getLogger("clipmod.uploads")
"""A name of its own, for the application's settings of logging."""

MOST_AT_ONCE: Final = 64
"""Requests of one process whose uploads are judged at once; the next one is refused as `unavailable`."""

PROMPT_S: Final = 0.5
"""How long after the deadline the judge may still say what it knows."""

Checking: TypeAlias = "Future[list[UploadCheck]]"

_LEVELS: Final[dict[Outcome, int]] = {"clean": logging.DEBUG, "unavailable": logging.ERROR}


class UploadGuard:
    """Checks uploads by models in this process or by a service. Safe to use from any thread.

    Nothing is loaded before the first upload or `warm`, and once a process.
    """

    def __init__(
        self,
        policy: str | None = None,
        models: str | Sequence[str] | None = None,
        threshold: float | None = None,
        *,
        url: str | None = None,
        key: str | None = None,
        review: Literal["pass", "refuse"] = "pass",
        other: Literal["refuse", "pass"] = "refuse",
        deadline_s: float = 30.0,
        on_check: Callable[[UploadCheck], None] | None = None,
        **settings: Any,
    ) -> None:
        """Read no settings yet: a wrong one is told by `warm`, or in the log at the first upload.

        Args:
            policy: a built-in policy or a TOML file; with `url` the name of the one that the service has.
            models: as `--models`.
            threshold: as `--threshold`.
            url: of a `clipmod serve` that judges in place of models in this process.
            key: one of its API keys.
            review: what becomes of an upload that is Safe, and of which the models were not sure. One of
                which not all was looked at is always refused.
            other: what becomes of a file that is no picture, film or archive, by its content and its name.
            deadline_s: for all uploads of one request, in seconds; what is not judged by then is refused.
            on_check: called with what was found of each upload, clean ones included, in some thread; what it
                raises is logged.
            settings: further settings of judging and of the machine, as `device="cpu"`, and `heic`,
                `max_image_mb`, `max_video_mb`; those that are not given come from the environment and the
                settings file.

        Raises:
            SettingsError: values that cannot be right.
        """
        for name, word in (("review", review), ("other", other)):
            if word not in ("pass", "refuse"):
                raise SettingsError(f"{name} must be pass or refuse, not {word!r}")
        if not 0 < deadline_s < threading.TIMEOUT_MAX:
            raise SettingsError(f"deadline_s must be a number of seconds above 0, not {deadline_s!r}")
        if settings.get("early_exit") == "calibrated":
            raise SettingsError("early_exit must be off or exact: a stated risk is for whole scans")
        given = {"policy": policy, "models": models, "threshold": threshold, **settings}
        self._judge = _judge_of({n: v for n, v in given.items() if v is not None}, url, key, review)
        self._other = other
        self._deadline_s = deadline_s
        self._on_check = on_check
        self._places = PerProcess(lambda: threading.BoundedSemaphore(MOST_AT_ONCE))

    def warm(self) -> None:
        """Load the models now, or ask the service whether it is ready; call it after the server has forked.

        Raises:
            ClipmodError: a setting, the policy, a model or the service is wrong or missing.
        """
        self._judge.warm()

    def close(self) -> None:
        """End threads, decoding workers and connections; a later check starts them again."""
        self._judge.close()

    def check(self, file: SeekableFile, name: str = "") -> UploadCheck:
        """Return what was found of an upload; blocks. The file is then at its beginning, and unchanged.

        Args:
            file: open for reading in binary; read from its beginning, wherever it is.
            name: as its sender gave it, for the log.
        """
        return self.check_all([NamedUpload(file, name)])[-1]

    def check_all(self, uploads: Iterable[NamedUpload]) -> list[UploadCheck]:
        """Return what was found of each upload, in order, up to the first that is not clean; blocks."""
        files = list(uploads)
        until = monotonic() + self._deadline_s
        try:
            return self._start(files, until).result(until + PROMPT_S - monotonic())
        except TimeoutError:
            return [self._late(files[0])]
        finally:
            _rewind(files)

    async def check_all_async(self, uploads: Iterable[NamedUpload]) -> list[UploadCheck]:
        """Return the same as `check_all`, without blocking asyncio's event loop."""
        files = list(uploads)
        until = monotonic() + self._deadline_s
        waiting = asyncio.wrap_future(self._start(files, until))
        try:
            return await asyncio.wait_for(waiting, until + PROMPT_S - monotonic())
        except TimeoutError:
            return [self._late(files[0])]
        finally:
            _rewind(files)

    def _start(self, files: Sequence[NamedUpload], until: float) -> Checking:
        """Check the uploads in a thread of their own: a model that hangs must not hold the request."""
        checking: Checking = Future()
        places = self._places.get()
        if not places.acquire(blocking=False):
            busy = UploadFinding("unavailable", f"{MOST_AT_ONCE} requests are being judged already")
            checking.set_result([self._tell(files[0], busy)] if files else [])
            return checking

        def work() -> None:
            try:
                if checking.set_running_or_notify_cancel():
                    checking.set_result(self._check(files, until))
            finally:
                places.release()

        threading.Thread(target=work, name="clipmod-upload", daemon=True).start()
        return checking

    def _late(self, upload: NamedUpload) -> UploadCheck:
        return self._tell(upload, UploadFinding("unavailable", f"not judged within {self._deadline_s:g} s"))

    def _check(self, files: Sequence[NamedUpload], until: float) -> list[UploadCheck]:
        """Return what was found, up to the first that is not clean; never raises."""
        checks: list[UploadCheck] = []
        try:
            others = [self._other == "pass" and _is_other(one) for one in files]
            media = [one for one, is_other in zip(files, others, strict=True) if not is_other]
            with closing(self._judge.judge(media, until)) as findings:
                for one, is_other in zip(files, others, strict=True):
                    found = _OTHER if is_other else next(findings, None)
                    checks.append(self._late(one) if found is None else self._tell(one, found))
                    if not checks[-1].is_clean:
                        break
        except ClipmodError as e:
            checks.append(self._tell(files[len(checks)], UploadFinding("unavailable", str(e))))
        except Exception as e:
            log.exception("uploads could not be checked")
            checks.append(
                self._tell(files[len(checks)], UploadFinding("unavailable", f"{type(e).__name__}: {e}"))
            )
        return checks

    def _tell(self, upload: NamedUpload, found: UploadFinding) -> UploadCheck:
        """Return the finding as the upload's check, and write it into the log."""
        check = UploadCheck(name=upload.name, outcome=found.outcome, reason=found.reason, record=found.record)
        level = _LEVELS.get(check.outcome, logging.WARNING)
        text, extra = "upload %r: %s (%s)%s", {"clipmod_record": check.record}
        log.log(level, text, check.name, check.outcome, check.reason, _scores(check), extra=extra)
        if self._on_check is not None:
            try:
                self._on_check(check)
            except Exception:
                log.exception("on_check failed for the upload %r", check.name)
        return check


_LIMITS: Final = frozenset({"config", "heic", "max_image_mb", "max_video_mb"})
"""Settings of a guard besides those of judging and of the machine."""

_OF_SCANS: Final = frozenset({"risk", "screen"})
"""Those of judging that only scans have: early exit at a stated risk."""

_OTHER: Final = UploadFinding("clean", "no picture, film or archive")


def _judge_of(
    given: dict[str, Any], url: str | None, key: str | None, review: Literal["pass", "refuse"]
) -> UploadJudge:
    """Return what judges: a service where a URL is given, else models in this process.

    Raises:
        SettingsError: names that are no settings, or have no effect.
    """
    known = {
        one.name
        for one in fields(Settings)
        if one.name in _LIMITS or option_of(one.name).group in {"judging", "machine"}
    } - _OF_SCANS
    if unknown := sorted(given.keys() - known):
        raise SettingsError(f"{unknown[0]} is no setting of a guard{did_you_mean(unknown[0], known)}")
    if url is None:
        if key is not None:
            raise SettingsError("key has no effect without url")
        return LocalJudge(given, review)
    if without := sorted(given.keys() - {"policy"}):
        raise SettingsError(f"{', '.join(without)}: with url this is set where the service is started")
    return RemoteJudge(url, key, given.get("policy"), review)


def _is_other(upload: NamedUpload) -> bool:
    """Return whether a file is no picture, film or archive, of any format, by its content and its name."""

    def read(at: int, count: int) -> bytes:
        upload.file.seek(at)
        return upload.file.read(count)

    size = size_of(upload.file)
    known, unread = identify(read, size, upload.name)
    is_media = known is not None or (unread is not None and unread.counted_as is None)
    return bool(size) and not is_media and not is_media_name(upload.name)


def _scores(check: UploadCheck) -> str:
    """Return what finds the upload again, and its score, for the log."""
    record = check.record or {}
    told = (f"{name}={record[name]}" for name in ("unsafe_score", "threshold", "sha256") if name in record)
    return "".join(f" {one}" for one in told)


def _rewind(files: Sequence[NamedUpload]) -> None:
    for one in files:
        with suppress(OSError, ValueError):  # a closed file is not read again
            one.file.seek(0)
