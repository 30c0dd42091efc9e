"""Judges uploads by models in this process, loaded at first use, as `clipmod serve` does without HTTP."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any, Final, Literal, cast

from clipmod_cli.assemble import policy_of
from clipmod_cli.errors import ERROR_CODES, ErrorCode, SettingsError
from clipmod_cli.integrations.per_process import PerProcess
from clipmod_cli.integrations.uploads import NamedUpload, Outcome, SeekableFile, UploadFinding, finding_of
from clipmod_cli.judge.choice import choose
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.server.configuration import MB
from clipmod_cli.server.service import JudgedItem, Service, open_service
from clipmod_cli.settings.reading import resolve
from clipmod_cli.types import Failure, Item

log = logging.getLogger(__name__)

MEMORY_BYTES: Final = 8_000_000
"""Of one upload; a larger one goes to the decoding worker through a temporary file."""

COPY_BYTES: Final = 1 << 20

USUAL: Final[Mapping[str, Any]] = {"workers": "1"}
"""Defaults that differ: a web server has many processes, each with its own models and decoding workers."""

OURS: Final[Mapping[str, Any]] = {"no_db": True, "unseen": "error"}
"""Settings of a guard: no statistics, and nothing is Safe of which something was not looked at."""


class LocalJudge:
    """The models of this process."""

    def __init__(self, settings: Mapping[str, Any], review: Literal["pass", "refuse"]) -> None:
        """Load nothing yet.

        Args:
            settings: those that are given here, by name; others come from the environment and the settings
                file, as for the command line.
            review: as `finding_of`.
        """
        self._settings = {**settings, **OURS}
        self._review = review
        self._service = PerProcess(self._open)

    def warm(self) -> None:
        """Load the models.

        Raises:
            ClipmodError: a setting, the policy or a model is wrong or missing.
        """
        self._service.get()

    def judge(self, uploads: Sequence[NamedUpload], until: float) -> Generator[UploadFinding]:
        """Yield what was found, in order; fewer at the deadline `until`, a `time.monotonic()`."""
        service = self._service.get()
        items = (_item_of(one, index, service) for index, one in enumerate(uploads))
        caller = service.caller_of(deadline_s=max(0.0, until - monotonic()))
        with closing(cast("Generator[JudgedItem]", service.judge(items, caller))) as judging:
            for judged in judging:
                if isinstance(judged.result, Failure):
                    yield _failed(judged.result)
                else:
                    yield finding_of(judged.record.model_dump(mode="json"), self._review)

    def close(self) -> None:
        """End the threads and decoding workers."""
        if (service := self._service.take()) is not None:
            service.close()

    def _open(self) -> Service:
        resolved = resolve(self._settings, USUAL)
        for warning in resolved.warnings:
            log.warning("%s", warning)
        policy = policy_of(resolved)
        if not policy.unsafe:
            raise SettingsError(f"the policy {policy.name} has no UNSAFE category: it can refuse nothing")
        hub = Hub.from_environment(offline=resolved.settings.offline)
        choice = choose(resolved.settings.models, policy, hub)
        log.info("loading %s for uploads; policy %s", ", ".join(choice.names), policy.name)
        return open_service(resolved, choice, policy, hub, command="upload guard")


def _item_of(upload: NamedUpload, index: int, service: Service) -> Item | Failure:
    """Return the upload as an Item. The pipeline removes its temporary file, however it ends."""
    item = Item(source=upload.name or "upload", index=index, data=b"")
    size = size_of(upload.file)
    most = max(service.limits.image_bytes, service.limits.video_bytes)
    if size > most:  # before a byte is read
        message = f"it is larger than the limit of {most / MB:g} MB"
        return Failure(item=item, stage="source", code="file_too_large", message=message)
    upload.file.seek(0)
    if size <= MEMORY_BYTES:
        return replace(item, data=upload.file.read(size))
    return replace(item, data=None, spilled=_copy(upload.file))


def _copy(file: SeekableFile) -> str:
    """Return the path of a temporary file with what is left of `file`."""
    descriptor, path = tempfile.mkstemp(prefix="clipmod-upload-")
    try:
        with os.fdopen(descriptor, "wb") as copy:
            shutil.copyfileobj(file, copy, COPY_BYTES)
    except BaseException:
        Path(path).unlink()
        raise
    return path


def size_of(file: SeekableFile) -> int:
    """Return the size in bytes; the position is then at the end."""
    file.seek(0, os.SEEK_END)
    return file.tell()


def _failed(failure: Failure) -> UploadFinding:
    return UploadFinding(outcome_of(failure.code), f"{failure.code}: {failure.message}")


def outcome_of(code: ErrorCode) -> Outcome:
    """Return whose fault it is that a file could not be judged: the file's, or ours."""
    info = ERROR_CODES[code]
    if info.http_status == 413:
        return "too_large"
    if code in {"decode_crash", "decode_timeout"}:  # it would do so again
        return "unreadable"
    return "unreadable" if info.http_status == 400 and not info.retryable else "unavailable"
