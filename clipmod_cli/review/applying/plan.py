"""Which of the chosen inputs can be moved, and where to. Changes nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from clipmod_cli.output.moves import Move, MoveAction, now
from clipmod_cli.review.applying.folders import place_of
from clipmod_cli.review.applying.manifest import Manifest
from clipmod_cli.review.applying.transfer import digest_of, opened
from clipmod_cli.sources.registry import scheme_of

LeftReason: TypeAlias = Literal[
    "minor", "decided safe", "archive", "store", "url", "no hash", "changed", "link", "elsewhere", "no file",
    "inside", "unreadable", "moved", "gone",
]  # fmt: skip
LEFT_REASONS: Final[tuple[LeftReason, ...]] = get_args(LeftReason)

WORDS: Final[dict[LeftReason, tuple[str, str]]] = {
    "minor": (
        "may show a minor: clipmod neither moves nor copies it",
        "may show minors: clipmod neither moves nor copies them",
    ),
    "decided safe": ("was decided safe by a person", "were decided safe by people"),
    "archive": ("is in an archive: the archive is left", "are in archives: the archives are left"),
    "store": ("is in an object store", "are in object stores"),
    "url": ("is a URL", "are URLs"),
    "no hash": (
        "could not be read whole, so its bytes are not known",
        "could not be read whole, so their bytes are not known",
    ),
    "changed": (
        "has changed since it was judged: scan again",
        "have changed since they were judged: scan again",
    ),
    "link": ("is a link", "are links"),
    "elsewhere": ("is behind a link", "are behind links"),
    "no file": ("is not a regular file", "are not regular files"),
    "inside": ("is in that folder already", "are in that folder already"),
    "unreadable": ("cannot be read", "cannot be read"),
    "moved": ("was moved or copied there before", "were moved or copied there before"),
    "gone": ("is gone", "are gone"),
}
"""What is said of one input that is left, and of several."""

SETTLED: Final[frozenset[LeftReason]] = frozenset({"minor", "decided safe", "moved", "gone"})
"""With these reasons nothing is left to do; the other ones are told by the exit code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenInput:
    """One input that was chosen.

    Attributes:
        source: as its record names it.
        directory: to which that is relative; None if it is a URL.
        folders: that its run named: the name, and the path with links resolved.
        reason: why it was chosen, for the manifest.
        refusal: why it is left whatever it is, as people decided.
    """

    source: str
    directory: str | None
    folders: tuple[tuple[str, str], ...] = ()
    member: str | None = None
    sha256: str | None = None
    bytes: int | None = None
    mtime_ns: int | None = None
    reason: str = ""
    refusal: LeftReason | None = None


@dataclass(frozen=True, slots=True)
class LeftInput:
    """An input that stays where it is."""

    source: str
    reason: LeftReason
    detail: str = ""


@dataclass
class MovePlan:
    """What one `apply` is to do.

    Attributes:
        moves: new ones first have to be written to the manifest, those of a killed run are in it.
        left: all other inputs that were chosen.
    """

    action: MoveAction
    folder: str
    moves: list[Move] = field(default_factory=list)
    left: list[LeftInput] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """How many bytes the files to move have."""
        return sum(move.bytes for move in self.moves)

    @property
    def is_all(self) -> bool:
        """Whether nothing that was chosen is left for another reason than that it is done."""
        return all(one.reason in SETTLED for one in self.left)


def plan_moves(
    action: MoveAction, folder: str, manifest: Manifest, chosen: Iterable[ChosenInput]
) -> MovePlan:
    """Return what is to be done with each chosen input, each file once.

    Args:
        action: what to do.
        folder: where files go; absolute, links resolved. It need not exist.
        manifest: of that folder.
        chosen: the inputs.
    """
    return _Planner(action, folder, manifest).plan(chosen)


class _Refusal(Exception):  # noqa: N818 - a way out of nested calls
    def __init__(self, reason: LeftReason, detail: str = "") -> None:
        super().__init__(reason)
        self.reason: LeftReason = reason
        self.detail = detail

    def of(self, one: ChosenInput) -> LeftInput:
        name = one.source if one.member is None else f"{one.source} > {one.member}"
        return LeftInput(name, self.reason, self.detail)


class _Planner:
    """Plans one run."""

    def __init__(self, action: MoveAction, folder: str, manifest: Manifest) -> None:
        self.action: MoveAction = action
        self.result = MovePlan(action, folder)
        self.manifest = manifest
        self.run = manifest.last_run + 1
        self.number = max(manifest.moves, default=0)
        self.pending = {
            (one.source, one.sha256): one for one in manifest.in_state("planned") if one.action == action
        }
        self.done = {(one.source, one.sha256): one for one in manifest.in_state("done", "undoing")}
        self.taken = {one.destination for one in self.pending.values()}
        self.planned: set[str] = set()
        self.refused: dict[str, LeftInput] = {}
        self.counters: dict[str, int] = {}

    def plan(self, chosen: Iterable[ChosenInput]) -> MovePlan:
        for one in chosen:
            try:
                self._add(one)
            except _Refusal as refusal:
                self.result.left.append(refusal.of(one))
        self.result.left.extend(self.refused.values())
        return self.result

    def _add(self, one: ChosenInput) -> None:
        directory = _check_kind(one)
        real = real_path(one.source, directory)
        if real in self.planned:
            return
        try:
            move = self._plan(one, real, directory)
        except _Refusal as refusal:  # another record may be of the bytes that the file has now
            self.refused.setdefault(real, refusal.of(one))
            return
        self.planned.add(real)
        self.refused.pop(real, None)
        self.result.moves.append(move)

    def _plan(self, one: ChosenInput, real: str, directory: str) -> Move:
        if is_below(real, self.result.folder):
            raise _Refusal("inside")
        relative = _relative(one, real, directory)
        known = real, one.sha256 or ""
        if known in self.pending:  # of a killed run, and in whatever state it left the files
            return self.pending[known]
        before = self.done.get(known)
        if self.action == "copy" and before is not None and self._is_there(before):
            raise _Refusal("moved")
        try:
            return self._move(one, real, relative)
        except FileNotFoundError:
            raise _Refusal("gone" if before is None else "moved") from None

    def _move(self, one: ChosenInput, real: str, relative: str) -> Move:
        status = _check_file(one, real)
        self.number += 1
        return Move(
            number=self.number,
            run=self.run,
            action=self.action,
            source=real,
            destination=self._free(relative),
            sha256=one.sha256 or "",
            bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            mode=stat.S_IMODE(status.st_mode),
            reason=one.reason,
            at=now(),
        )

    def _is_there(self, move: Move) -> bool:
        try:
            return os.lstat(self._path(move.destination)).st_size == move.bytes
        except OSError:
            return False

    def _path(self, destination: str) -> str:
        return os.path.join(self.result.folder, destination)  # noqa: PTH118 - any byte

    def _free(self, relative: str) -> str:
        """Return a destination at which nothing is: `a.jpg`, else `a.2.jpg` and so on."""
        stem, ending = os.path.splitext(relative)  # noqa: PTH122
        name, count = relative, self.counters.get(relative, 1)
        while name in self.taken or os.path.lexists(self._path(name)):
            count += 1
            name = f"{stem}.{count}{ending}"
        self.counters[relative] = count
        self.taken.add(name)
        return name


def _check_kind(one: ChosenInput) -> str:
    """Return the working directory of an input that is a local file of known bytes."""
    if one.refusal is not None:
        raise _Refusal(one.refusal)
    if one.directory is None or one.source.startswith(("http://", "https://")):
        raise _Refusal("url")
    if scheme_of(one.source):
        raise _Refusal("store")
    if one.member is not None:
        raise _Refusal("archive")
    if one.sha256 is None:
        raise _Refusal("no hash")
    return one.directory


def real_path(source: str, directory: str) -> str:
    """Return the absolute path of a file, links in its folders resolved; the file itself may be a link."""
    folder, base = os.path.split(os.path.join(directory, source))  # noqa: PTH118
    if base in {"", ".", ".."}:
        raise _Refusal("no file")
    try:
        return os.path.join(os.path.realpath(folder), base)  # noqa: PTH118
    except ValueError as error:  # no file system has such a name
        raise _Refusal("no file") from error


def is_below(path: str, folder: str) -> bool:
    """Return whether an absolute path is a folder or lies in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _relative(one: ChosenInput, real: str, directory: str) -> str:
    """Return the path below the destination.

    It is relative to the folder that was scanned, of several to the one that holds them all. Of a file that
    was named by itself or in a list, to the working directory, or, outside of it, to the root folder.
    """
    for name, folder in one.folders:
        prefix = name.rstrip("/") + "/"
        if one.source.startswith(prefix):
            if real != os.path.join(folder, one.source[len(prefix) :].lstrip("/")):  # noqa: PTH118
                raise _Refusal("elsewhere")
            return os.path.relpath(real, os.path.commonpath([path for _, path in one.folders]))
    here = os.path.realpath(directory)
    if is_below(real, here):
        return os.path.relpath(real, here)
    if os.path.normpath(os.path.join(directory, one.source)) != real:  # noqa: PTH118
        raise _Refusal("elsewhere")
    return real.lstrip("/")


def _check_file(one: ChosenInput, real: str) -> os.stat_result:
    """Return the status of the file; the hash is compared where its time differs, and again when it moves.

    Raises:
        FileNotFoundError: it is gone.
        _Refusal: it cannot be moved.
    """
    try:
        status = os.lstat(real)
        if stat.S_ISLNK(status.st_mode):
            raise _Refusal("link")
        if not stat.S_ISREG(status.st_mode):
            raise _Refusal("no file")
        if one.bytes is not None and status.st_size != one.bytes:
            raise _Refusal("changed")
        if status.st_mtime_ns != one.mtime_ns:
            with place_of(real) as place, opened(place) as file:
                if digest_of(file) != one.sha256:
                    raise _Refusal("changed")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(real) from error
    except (OSError, ValueError) as error:
        raise _Refusal("unreadable", str(getattr(error, "strerror", None) or error)) from error
    return status
