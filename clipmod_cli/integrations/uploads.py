"""Uploaded files, and what was found of each: the values of the guard."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from clipmod_cli.errors import SettingsError
from clipmod_cli.types import UNSEEN_REASONS

Outcome: TypeAlias = Literal["clean", "flagged", "unreadable", "too_large", "unavailable"]


class SeekableFile(Protocol):
    """An open binary file, as both frameworks hand uploads over."""

    def read(self, size: int = ..., /) -> bytes:
        """Return at most so many bytes."""
        ...

    def seek(self, offset: int, whence: int = ..., /) -> Any:
        """Go to a position."""
        ...

    def tell(self) -> int:
        """Return the position."""
        ...


class NamedUpload(NamedTuple):
    """An upload, with the name that its sender gave it."""

    file: SeekableFile
    name: str


class UploadFinding(NamedTuple):
    """What a judge found of an upload.

    Attributes:
        reason: why, for the log.
        record: the record of `clipmod scan`, or the answer of the service; None if it was not judged.
    """

    outcome: Outcome
    reason: str
    record: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadCheck:
    """What a guard found of one upload. For the log and for moderators: nothing here is for its sender.

    Attributes:
        name: as the sender gave it.
        outcome: `clean` alone is accepted. `flagged`: NSFW, or for review where that is refused.
            `unreadable`: no picture or video, damaged, or not all of it could be looked at.
            `too_large`: over a limit. `unavailable`: not judged, and the file is not at fault.
        reason: why, in short: the decision with its category, or an error code with its message.
        record: the record of `clipmod scan`, or the answer of the service; None if it was not judged.
    """

    name: str
    outcome: Outcome
    reason: str
    record: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def is_clean(self) -> bool:
        """Whether the upload is accepted."""
        return self.outcome == "clean"


class UploadJudge(Protocol):
    """Judges uploads: by models in this process, or by a service."""

    def warm(self) -> None:
        """Do ahead what the first upload would wait for; raises ClipmodError if it cannot be done."""
        ...

    def judge(self, uploads: Sequence[NamedUpload], until: float) -> Generator[UploadFinding]:
        """Yield what was found, in order; fewer at the deadline `until`, a `time.monotonic()`."""
        ...

    def close(self) -> None:
        """Release models, threads and connections."""
        ...


MESSAGES: Final[Mapping[Outcome, str]] = {
    "flagged": "This file cannot be accepted.",
    "unreadable": "This file cannot be checked. Please try another one.",
    "too_large": "This file is too large.",
    "unavailable": "Files cannot be checked at the moment. Please try again later.",
}
"""What the sender is told: neither scores nor categories, by which a sender could try until it passes."""


def checked_messages(given: Mapping[Outcome, Any]) -> Mapping[Outcome, Any]:
    """Return `MESSAGES` with those that are given in their place.

    Raises:
        SettingsError: one is for no outcome.
    """
    if unknown := sorted(given.keys() - MESSAGES.keys()):
        raise SettingsError(f"messages: {unknown[0]!r} is none of {', '.join(MESSAGES)}")
    return {**MESSAGES, **given}


STATUS: Final[Mapping[Outcome, int]] = {
    "flagged": 422,
    "unreadable": 422,
    "too_large": 413,
    "unavailable": 503,
}
"""HTTP status of the refusal."""

RETRY_AFTER_S: Final = 10
"""Told with 503."""


def finding_of(record: Mapping[str, Any], review: Literal["pass", "refuse"]) -> UploadFinding:
    """Return what a judged upload's record says: `clean` only where all was looked at, and it is Safe.

    Args:
        record: of `clipmod scan`, or the answer of `/predict/single`, with the same names.
        review: what becomes of an upload that is Safe, and of which the models were not sure.
    """
    decision, reasons = record.get("final_decision"), record.get("review_reasons")
    category = str(record.get("ensemble_category") or "")
    if decision == "NSFW":
        return UploadFinding("flagged", f"NSFW, {category}".rstrip(", "), record)
    if decision != "Safe" or not isinstance(reasons, (list, tuple)):
        return UploadFinding("unavailable", "no decision", record)
    if unseen := [one for one in reasons if one in UNSEEN_REASONS]:
        return UploadFinding("unreadable", f"not all of it was looked at: {', '.join(unseen)}", record)
    needs_review = bool(reasons) or record.get("needs_review") is not False
    if needs_review and review == "refuse":
        return UploadFinding("flagged", f"needs review: {', '.join(map(str, reasons))}", record)
    return UploadFinding("clean", "Safe" + (", needs review" if needs_review else ""), record)
