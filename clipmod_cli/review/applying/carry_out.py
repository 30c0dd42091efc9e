"""Carries a plan out: the manifest first, then file by file. A killed run is continued by the same call."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from clipmod_cli.errors import OutputError
from clipmod_cli.output.moves import Move
from clipmod_cli.review.applying.folders import Place, place_below, place_of
from clipmod_cli.review.applying.manifest import Manifest
from clipmod_cli.review.applying.plan import MovePlan
from clipmod_cli.review.applying.transfer import RefusedMoveError, digest_of, opened, part_of, transfer

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
KEPT_DAYS: Final = 30
"""After so many days a deleted file may be purged."""


@dataclass(frozen=True, slots=True)
class MoveOutcome:
    """What became of one move; `why` is empty if it was carried out."""

    move: Move
    why: str = ""


def carry_out(plan: MovePlan, manifest: Manifest) -> Iterator[MoveOutcome]:
    """Write the plan to the manifest, then yield each move when its file is moved or left.

    The caller holds the lock of the manifest, which is open.

    Raises:
        OutputError: the manifest cannot be written, or no room is left for files.
    """
    _remove_parts(manifest)
    manifest.add([move for move in plan.moves if move.number not in manifest.moves])
    with top_folder(manifest.path.parent) as top:
        for move in plan.moves:
            why = _attempt(move, top)
            manifest.mark(move, "left" if why else "done", why)
            yield MoveOutcome(move, why)


@contextmanager
def top_folder(folder: Path) -> Iterator[int]:
    """Give a descriptor of the folder of a manifest.

    Raises:
        OutputError: it cannot be opened.
    """
    try:
        with place_of(str(folder / "any")) as place:
            yield place.folder
    except OSError as error:
        raise OutputError(f"cannot open {folder}: {error.strerror}") from error


def words_of(error: OSError | ValueError) -> str:
    """Return a clause that says why a file was left."""
    match error:
        case FileExistsError():
            return "there is a file of its name already"
        case FileNotFoundError():
            return "it is gone"
        case NotADirectoryError():
            return "a folder of its path is a link or a file"
        case OSError(errno=errno.ELOOP):
            return "it is a link"
    return str(getattr(error, "strerror", None) or error)


def _attempt(move: Move, top: int) -> str:
    """Carry one move out; return why its file was left, or nothing."""
    try:
        with place_of(move.source) as origin, place_below(top, move.destination, make=True) as target:
            if not _is_finished(move, origin, target):
                transfer(origin, target, move, keep=move.action == "copy")
    except RefusedMoveError as refusal:
        return str(refusal)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise OutputError(
                f"no room for {move.source}: {error.strerror}. The same command goes on from there"
            ) from error
        return words_of(error)
    return ""


def _is_finished(move: Move, origin: Place, target: Place) -> bool:
    """Finish what a killed run had begun; return whether there was something to finish."""
    there, here = target.lstat(), origin.lstat()
    if there is None or not has_bytes(target, move):
        return False
    if here is not None and move.action != "copy":
        if not is_original(origin, move) and not os.path.samestat(there, here):
            return False
        origin.unlink()
    return True


def has_bytes(place: Place, move: Move) -> bool:
    """Return whether a regular file with the bytes of the move is there."""
    try:
        with opened(place) as file:
            return digest_of(file) == move.sha256
    except RefusedMoveError:
        return False


def is_original(place: Place, move: Move) -> bool:
    """Return whether the very file that was to be moved is there: its bytes and its modification time."""
    status = place.lstat()
    return status is not None and status.st_mtime_ns == move.mtime_ns and has_bytes(place, move)


def expired(manifest: Manifest) -> list[Move]:
    """Return the deleted files that were kept long enough."""
    before = (datetime.now(UTC) - timedelta(days=KEPT_DAYS)).isoformat(timespec="seconds")
    return [
        move
        for move in manifest.in_state("done", "undoing")
        # not since it was planned: a killed run may have gone on much later
        if move.action == "delete" and manifest.since[move.number] < before
    ]


def purge(manifest: Manifest, moves: list[Move]) -> list[MoveOutcome]:
    """Delete these files for good, and return what became of each; the manifest is open.

    Raises:
        OutputError: the manifest cannot be written.
    """
    outcomes = []
    with top_folder(manifest.path.parent) as top:
        for move in moves:
            try:
                _purge(move, top)
            except RefusedMoveError as refusal:
                outcomes.append(MoveOutcome(move, str(refusal)))
            except (OSError, ValueError) as error:
                outcomes.append(MoveOutcome(move, words_of(error)))
            else:
                manifest.mark(move, "purged")
                outcomes.append(MoveOutcome(move))
    return outcomes


def _purge(move: Move, top: int) -> None:
    """Delete one file for good, if it is there with the bytes that were deleted."""
    with suppress(FileNotFoundError), place_below(top, move.destination, make=False) as place:
        if place.lstat() is None:
            return
        if not has_bytes(place, move):
            raise RefusedMoveError("it has changed since it was deleted, and is left there")
        place.unlink()


def _remove_parts(manifest: Manifest) -> None:
    """Remove the unfinished copies that killed runs of `apply` and `undo` left at either end."""
    with top_folder(manifest.path.parent) as top:
        for move in manifest.in_state("planned", "undoing"):
            with suppress(OSError), place_of(move.source) as place:
                remove_part(place, move)
            with suppress(OSError), place_below(top, move.destination, make=False) as place:
                remove_part(place, move)


def remove_part(place: Place, move: Move) -> None:
    """Remove a copy that a killed run left unfinished beside this place."""
    with suppress(FileNotFoundError):
        place.beside(part_of(move)).unlink()
