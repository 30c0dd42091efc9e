"""Erases inputs from stored evidence. Parts are written again without them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clipmod_cli.errors import OutputError
from clipmod_cli.evidence.folder import (
    EvidenceFolder,
    EvidencePart,
    locked,
    open_folder,
    parts_of,
    read_rows,
    read_superseded,
    read_vectors,
    write_part,
    write_superseded,
)
from clipmod_cli.records import read_name


def forget(
    path: Path, *, source: str | None = None, sha256: str | None = None, before: float | None = None
) -> int:
    """Erase the evidence of inputs from a folder, and return how many there were.

    Args:
        path: the folder.
        source: erase this path or URL, as in its records, with all members of an archive.
        sha256: erase the content with this hash.
        before: erase what was judged before this Unix time, in seconds.

    Raises:
        EvidenceError: it holds no evidence, or a part is damaged.
        OutputError: it cannot be written, or a scan is writing to it.
    """
    stored = open_folder(path)
    wanted = None if sha256 is None else sha256.lower()

    def goes(row: Mapping[str, Any]) -> bool:
        if source is not None:
            return read_name(row["source"], row["source_b64"]) == source
        if wanted is not None:
            return (row["media"] or {}).get("sha256") == wanted
        return before is not None and row["judged_at"] < before

    with locked(path):
        erased = 0
        for part in parts_of(path):
            rows = list(read_rows(part))
            gone = {number for number, row in enumerate(rows) if goes(row)}
            if gone:
                erased += len(gone)
                _replace(stored, part, rows, gone | stored.superseded.get(part.rows.name, frozenset()))
        return erased


def _replace(stored: EvidenceFolder, part: EvidencePart, rows: list[dict[str, Any]], gone: set[int]) -> None:
    """Write a part again without some rows. It is deleted last: killed before, the next call erases it."""
    kept: list[dict[str, Any]] = []
    chosen: list[int] = []
    first = 0
    for number, row in enumerate(rows):
        views = len(row["views"]) + len(row["recheck_views"])
        if number not in gone:
            kept.append({**row, "first_row": first})
            chosen += range(row["first_row"], row["first_row"] + views)
            first += views
    at = np.asarray(chosen, dtype=np.intp)
    vectors = {name: found[at] for name, found in read_vectors(part, stored.identity.members).items()}
    if kept:
        write_part(stored.path, kept, vectors)
    superseded = read_superseded(stored.path)
    write_superseded(stored.path, {**superseded, part.rows.name: frozenset(range(len(rows)))})
    try:
        part.rows.unlink()
        part.vectors.unlink(missing_ok=True)
        superseded.pop(part.rows.name, None)
    except OSError as e:
        raise OutputError(f"cannot erase {part.rows}: {e.strerror}") from e
    write_superseded(stored.path, superseded)
