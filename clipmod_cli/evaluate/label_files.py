"""Reads labels: decisions of `clipmod review`, a folder a class, an imagefolder, or a table."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from clipmod_cli.decode.reading.items import hash_item, hash_path
from clipmod_cli.errors import UsageError
from clipmod_cli.evaluate.labels import LabelRow
from clipmod_cli.review.decisions import are_decisions, read_decisions
from clipmod_cli.review.labels import count_left_out
from clipmod_cli.review.sampling import inclusion_probabilities
from clipmod_cli.sources.base import Rules
from clipmod_cli.sources.lists import is_table, read_columns
from clipmod_cli.sources.registry import expand
from clipmod_cli.types import Failure, Item

log = logging.getLogger(__name__)

METADATA: Final = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
SPLITS: Final = frozenset({"train", "test", "validation", "val", "valid", "dev"})
"""Names of folders in a data set that are parts of it, not classes."""

_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_PATHS: Final = ("source", "file_name", "path")
"""Columns that name an input, the first there wins."""


def read_labels(names: Iterable[str], *, column: str = "label") -> list[LabelRow]:
    """Return the labels of folders and tables, in order.

    Args:
        names: files of decisions of `clipmod review`; folders whose subfolders are named as labels, or that
            hold a `metadata.csv`, `.jsonl` or `.parquet` with `file_name`; or tables with `sha256` or
            `source`, and perhaps `member`, and `weight` or `probability`. Inputs of a folder that lie in no
            subfolder have no label.
        column: the column of tables that holds the label.

    Raises:
        UsageError: one cannot be read, or a row is wrong.
    """
    named = list(names)
    rows = [row for name in named for row in _read(name, column)]
    if not rows:
        raise UsageError(
            f"no labels in {', '.join(named)}: a folder must hold folders that are named as labels, "
            "with the inputs in them, and a file of decisions one that is unsafe or safe"
        )
    unweighted = [row for row in rows if row.weight is None]
    if unweighted and len(unweighted) < len(rows):
        raise UsageError(
            f"{len(unweighted)} of {len(rows)} labels have no weight, the first is {unweighted[0].name}: "
            "give all a weight (or probability) or none"
        )
    return rows


def _read(name: str, column: str) -> Iterator[LabelRow]:
    path = os.path.expanduser(name)  # noqa: PTH111 — paths stay strings: they may hold any byte
    if os.path.isdir(path):  # noqa: PTH112
        yield from _read_folder(path, column)
    elif not os.path.exists(path):  # noqa: PTH110
        raise UsageError(f"no labels at {name}: no such file or folder")
    elif not os.path.getsize(path):  # noqa: PTH202
        raise UsageError(f"{name} is empty: no labels and no decisions in it yet")
    elif are_decisions(Path(path)):
        yield from _read_decisions(path)
    elif is_table(path):
        yield from _read_table(path, column)
    else:
        raise UsageError(
            f"{name} has no labels: give a folder a class, a .csv, .tsv, .jsonl or .parquet with rows, or "
            "decisions of `clipmod review`"
        )


def _read_decisions(path: str) -> Iterator[LabelRow]:
    """Yield the labels of `clipmod review`; undecided and withheld inputs have none.

    Where inputs were drawn at random, each label stands for as many as its probability tells.
    """
    state = read_decisions(Path(path))
    drawn = any(one.why == "audit" or one.order == "random" for one in state.current.values())
    probabilities = inclusion_probabilities(state) if drawn else {}
    left_out = count_left_out(state)
    if left_out:
        log.warning(
            "%s: decisions left out: %d unsure, %d withheld",
            path, left_out["unsure"], left_out["minor"],
        )  # fmt: skip
    for key, one in state.current.items():
        if one.label in {"unsafe", "safe"}:
            probability = probabilities.get(key)
            yield LabelRow(
                text=one.category or one.label,
                sha256=one.sha256,
                source=one.exact_source,
                member=one.exact_member,
                weight=None if probability is None else 1 / probability,
                undrawn_unsure=None if drawn else left_out["unsure"],
            )


def _read_folder(folder: str, column: str) -> Iterator[LabelRow]:
    parts = [folder, *sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())]
    tables = [
        table for part in parts for table in (f"{part}/{name}" for name in METADATA) if Path(table).is_file()
    ]
    if tables:
        for table in tables:
            yield from _read_table(table, column, files_in=os.path.dirname(table))  # noqa: PTH120
        return
    for found in expand([folder], Rules()):
        item = found.item if isinstance(found, Failure) else found
        label = _class_of(os.path.relpath(item.source, folder))
        if label is not None:
            yield LabelRow(text=label, sha256=_digest(item), source=item.source, member=item.member)


def _class_of(relative: str) -> str | None:
    """Return the label that a path names: its first folder that is no split of a data set."""
    folders = os.path.dirname(relative).split(os.sep)  # noqa: PTH120, PTH206
    if folders[0].lower() in SPLITS:
        folders = folders[1:] or folders
    return folders[0] or None


def _read_table(table: str, column: str, *, files_in: str | None = None) -> Iterator[LabelRow]:
    known = (column, "sha256", "source", "file_name", "path", "member", "weight", "probability")
    unlabelled, number = 0, 0
    for number, row in enumerate(read_columns(table, known), start=1):
        where = f"{table}, row {number}"
        if column not in row:
            unlabelled += 1
            continue
        yield _row_of(row, column, where, files_in)
    if number and unlabelled == number:
        raise UsageError(f"{table} has no label in any row: --label-column names the column that holds it")


def _row_of(row: dict[str, str], column: str, where: str, files_in: str | None) -> LabelRow:
    sha256 = row.get("sha256", "").lower() or None
    if sha256 and not _SHA256.fullmatch(sha256):
        raise UsageError(f"{where}: sha256 must be 64 hexadecimal digits, not {sha256!r}")
    source = next((row[name] for name in _PATHS if name in row), None)
    if sha256 is None and source is None:
        raise UsageError(f"{where} names no input: it needs sha256 or source")
    if files_in is not None and source is not None:
        source = os.path.join(files_in, source)  # noqa: PTH118
        sha256 = sha256 or hash_path(source)
    return LabelRow(
        text=row[column], sha256=sha256, source=source, member=row.get("member"), weight=_weight(row, where)
    )


def _weight(row: dict[str, str], where: str) -> float | None:
    """Return how many inputs a row stands for: its weight, or one over the probability that it was drawn."""
    for name in ("weight", "probability"):
        if name not in row:
            continue
        try:
            value = float(row[name])
        except ValueError:
            value = math.nan
        if not (0 < value < math.inf) or (name == "probability" and value > 1):
            most = "a number over 0" if name == "weight" else "a number over 0 and at most 1"
            raise UsageError(f"{where}: {name} must be {most}, not {row[name]!r}")
        return value if name == "weight" else 1 / value
    return None


def _digest(item: Item) -> str | None:
    """Return the hash of an item's bytes; None for a member of an archive that was not extracted."""
    is_here = item.member is None or item.data is not None or item.spilled is not None
    return hash_item(item) if is_here else None
