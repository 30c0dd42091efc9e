"""Gives back what `apply` moved, copied or deleted, file by file; replaces nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Final

from clipmod_cli.output.moves import Move
from clipmod_cli.review.applying.carry_out import (
    MoveOutcome,
    has_bytes,
    is_original,
    remove_part,
    top_folder,
    words_of,
)
from clipmod_cli.review.applying.folders import Place, place_below, place_of
from clipmod_cli.review.applying.manifest import Manifest
from clipmod_cli.review.applying.plan import is_below
from clipmod_cli.review.applying.transfer import RefusedMoveError, restore, transfer

PURGED: Final = "it was deleted for good"


def moves_to_undo(manifest: Manifest, *, last: bool = False, paths: Iterable[str] = ()) -> list[Move]:
    """Return the moves that are not undone, the latest first.

    Args:
        manifest: that lists them.
        last: only those of the last `apply`.
        paths: only files at or below one of these, by where they were or where they are; absolute, with
            links resolved. All if there are none.
    """
    chosen = list(paths)
    folder = os.path.realpath(manifest.path.parent)

    def is_chosen(move: Move) -> bool:
        names = move.source, os.path.join(folder, move.destination)  # noqa: PTH118
        return any(is_below(name, path) for name in names for path in chosen)

    return [
        move
        for move in reversed(manifest.in_state("planned", "done", "undoing", "purged"))
        if (not last or move.run == manifest.last_run) and (not chosen or is_chosen(move))
    ]


def undo_moves(manifest: Manifest, moves: Iterable[Move]) -> Iterator[MoveOutcome]:
    """Yield each move when its file is given back, or why it is not.

    The caller holds the lock of the manifest, which is open.

    Raises:
        OutputError: the manifest cannot be written.
    """
    with top_folder(manifest.path.parent) as top:
        for move in moves:
            state = manifest.states[move.number]
            if state == "done":
                manifest.mark(move, "undoing")
            why = PURGED if state == "purged" else _attempt(move, top, is_planned=state == "planned")
            if not why:
                manifest.mark(move, "undone")
            yield MoveOutcome(move, why)


def _attempt(move: Move, top: int, *, is_planned: bool) -> str:
    """Give one file back; return why it is not, or nothing."""
    try:
        with ExitStack() as stack:
            try:
                origin = stack.enter_context(place_of(move.source))
            except FileNotFoundError:
                if move.action != "copy":
                    return f"the folder {os.path.dirname(move.source)} is gone: make it, and undo again"  # noqa: PTH120
                origin = None
            try:
                target = stack.enter_context(place_below(top, move.destination, make=False))
            except FileNotFoundError:
                target = None
            _give_back(move, origin, target, is_planned=is_planned)
    except RefusedMoveError as refusal:
        return str(refusal)
    except (OSError, ValueError) as error:
        return words_of(error)
    return ""


def _give_back(move: Move, origin: Place | None, target: Place | None, *, is_planned: bool) -> None:
    """Bring the files to the state before the move.

    Raises:
        RefusedMoveError: they are in none of the states in which a move or a kill leaves them.
        OSError: a file cannot be moved.
    """
    for place in (origin, target):
        if place is not None:
            remove_part(place, move)
    if target is None or target.lstat() is None:
        _check_in_place(move, origin, is_planned=is_planned)
        return
    if not has_bytes(target, move):
        raise RefusedMoveError("it has changed since it was moved, and is left there")
    if move.action == "copy" or _is_twice(move, origin, target):
        target.unlink()
    elif origin is None:
        raise AssertionError("only a copy has no folder to go back to")
    elif origin.lstat() is not None:
        raise RefusedMoveError("there is a file of its name again, which is not replaced")
    else:
        transfer(target, origin, move)
        restore(origin, move)


def _check_in_place(move: Move, origin: Place | None, *, is_planned: bool) -> None:
    """Check that a file that is not at its destination is where it was.

    Raises:
        RefusedMoveError: it is not.
    """
    if move.action == "copy":
        return
    status = None if origin is None else origin.lstat()
    if status is None:
        raise RefusedMoveError("it is neither where it was nor where it was moved to")
    if not is_planned and origin is not None and not has_bytes(origin, move):
        raise RefusedMoveError("it is not where it was moved to; there is another file of its name")


def _is_twice(move: Move, origin: Place | None, target: Place) -> bool:
    """Return whether a kill left the file at both places: under two names, or copied and not yet removed."""
    here, there = None if origin is None else origin.lstat(), target.lstat()
    if origin is None or here is None or there is None:
        return False
    return os.path.samestat(here, there) or is_original(origin, move)
