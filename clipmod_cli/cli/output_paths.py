"""Refuses outputs that would destroy an input or each other, and writes those that are one document."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from clipmod_cli.atomic import atomic_file
from clipmod_cli.errors import OutputError, UsageError
from clipmod_cli.output.reading.withheld import withheld_path
from clipmod_cli.output.resuming.card import card_path
from clipmod_cli.output.resuming.files import ENDINGS, part_path, records_path
from clipmod_cli.output.resuming.gone import gone_path
from clipmod_cli.output.resuming.moved import moved_path
from clipmod_cli.settings.definition import Settings

STREAMS = ("/dev/", "/proc/")
"""Under these names are devices and open descriptors, which two options may share."""


def check_output_paths(settings: Settings, inputs: Iterable[str]) -> None:
    """Check where a run writes, before anything is opened for writing.

    Raises:
        UsageError: an output is an input, another output, or a picture, video or archive.
    """
    outputs = _outputs(settings)
    for (option, path), (other, second) in itertools.combinations(outputs, 2):
        if _same_file(path, second):
            raise UsageError(
                f"{option} {path} and {other} {second} are the same file. Give each a path of its own"
            )
    for name in inputs:
        _check_input(name, outputs)
    for option, path in outputs:
        if option in {"--errors-to", "--log-file"}:
            _check_media(option, path)


def check_result_path(path: Path, records: Iterable[str], *, overwrite: bool, option: str = "-o") -> None:
    """Check where a file made from records (an export, a report) is written, before anything is read.

    Raises:
        UsageError: it is one of the records, a picture, video or archive, no regular file, or it exists and
            must not be overwritten.
    """
    for name in records:
        _check_input(name, [(option, path)])
    if _is_stream(path) or path.is_dir():
        raise UsageError(f"{option} {path} must be the name of a file")
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path}: there is no folder {path.parent}")
    _check_media(option, path)
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists; --overwrite replaces it")


def write_document(path: Path, document: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        with atomic_file(path) as file:
            file.write(document)
    except OSError as e:
        raise OutputError(f"cannot write to {path}: {e.strerror}") from e


def _outputs(settings: Settings) -> list[tuple[str, Path]]:
    """Return the option and path of each output that can replace or change a file."""
    given = {
        "--output": settings.output,
        "--errors-to": settings.errors_to,
        "--save-to": settings.save_to,
        "--db": None if settings.no_db else settings.db,
    }
    found = [(option, Path(name).expanduser()) for option, name in given.items() if name]
    if settings.output and not _is_stream(path := Path(settings.output).expanduser()):
        found += [
            ("the run card", card_path(path)),
            ("the list of what is gone", gone_path(path)),
            ("the list of what was moved", moved_path(path)),
            ("the list of what is withheld", withheld_path(path)),
            ("the lines of an unfinished table", part_path(path)),
            ("the records of a table", records_path(path)),
        ]
    if settings.log_file:
        # logging does not expand a ~
        found.append(("--log-file", Path(settings.log_file)))
    return [(option, path) for option, path in found if not _is_stream(path)]


def _check_input(name: str, outputs: list[tuple[str, Path]]) -> None:
    if name == "-" or "://" in name or _is_stream(Path(name)):
        return
    for option, path in outputs:
        if _same_file(path, Path(name)):
            raise UsageError(
                f"{option} {path} and the input {name} are the same file. Give {option} another path"
            )


def _check_media(option: str, path: Path) -> None:
    from clipmod_cli.decode.formats import HEAD_BYTES, sniff

    try:
        with path.open("rb") as file:
            known = sniff(file.read(HEAD_BYTES))
    except OSError:
        return
    is_lines = path.suffix.lower() in ENDINGS and path.stem.lower().endswith(".jsonl")
    if known is not None and not is_lines:
        article = "an" if known.kind[0] in "aeiou" else "a"
        raise UsageError(
            f"{option} {path} is {article} {known.kind} file and would be overwritten. "
            f"Give {option} another path"
        )


def _is_stream(path: Path) -> bool:
    """Return whether a path is stdout, a device, a pipe or a socket."""
    if str(path) == "-" or str(path).startswith(STREAMS):
        return True
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _same_file(one: Path, other: Path) -> bool:
    """Return whether two paths are one file, also through links and hard links."""
    try:
        return os.path.samefile(one, other)  # noqa: PTH121
    except (OSError, ValueError):
        return os.path.realpath(one) == os.path.realpath(other)
