"""The inputs that are grouped, as they are now: a table `items` of their records, and one `contents`.

A file that is gone or has changed since it was scanned is left out, and so is a second name of one file: what
is called a copy of it may be deleted.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from clipmod_cli.output.reading.records import RecordReader
from clipmod_cli.records import read_name
from clipmod_cli.sources.base import same_file

LeftOut: TypeAlias = Literal["gone", "changed", "same file", "no hash"]
"""Why an input is not grouped. `same file`: another record names it too, as by a link."""

ROWS_AT_ONCE: Final = 10_000

_ITEMS: Final = """
    CREATE TABLE items AS SELECT row_number() OVER () - 1 AS line, source, source_b64, member, member_b64,
    kind, status, sha256, pdq, width, height, bytes, mtime_ns, run_id FROM records
"""
_CONTENTS: Final = """
    CREATE TABLE contents AS
    SELECT row_number() OVER (ORDER BY pixels DESC NULLS LAST, bytes DESC NULLS LAST, line) - 1 AS content, *
    FROM (SELECT sha256, max(width * height) AS pixels, max(bytes) AS bytes, min(line) AS line,
          arg_min(line, (member IS NOT NULL, contains(source, '://'), line)) AS item,
          bool_and(coalesce(kind, 'image') = 'image' AND status = 'ok') AS is_still
          FROM items GROUP BY sha256)
"""
_NAMES: Final = (
    "line, source, source_b64, member, member_b64, sha256, pdq, width, height, bytes, mtime_ns, run_id"
)
_STILLS: Final = (
    f"SELECT content, items.* FROM contents JOIN (SELECT {_NAMES} FROM items) AS items "  # noqa: S608
    "ON contents.item = items.line WHERE is_still"
)


@dataclass(frozen=True, slots=True)
class FoundItem:
    """One input whose file is to be found.

    Attributes:
        line: its number among all records.
        path: as seen from here, or a URL; a name that is not UTF-8 holds surrogate escapes.
        pdq: as in the record: the hash, empty where none is good enough, None where none was made.
        pixels: as the record tells them, 0 where it does not.
    """

    line: int
    path: str
    member: str | None
    sha256: str | None
    pdq: str | None
    pixels: int

    @property
    def is_file(self) -> bool:
        """Whether it is a whole file of this machine."""
        return self.member is None and not self.is_remote

    @property
    def is_remote(self) -> bool:
        """Whether it is not on this machine."""
        return "://" in self.path


@dataclass(slots=True)
class DedupeItems:
    """The inputs that are grouped.

    The table `items` has `line` and fields of the record; `contents` has each hash once, `content` rising
    from the largest (by pixels, then bytes) on, with the `line` of its first item, the one that stands for it
    (`item`: a file rather than a member, that rather than a URL), and whether it may be a readable still:
    compact records tell neither sizes nor kinds.

    Attributes:
        left_out: counts of inputs that are not grouped.
    """

    reader: RecordReader
    left_out: Counter[LeftOut] = field(default_factory=Counter)

    @property
    def contents(self) -> int:
        """How many different contents there are."""
        return int(self.reader.rows("SELECT count(*) AS n FROM contents")[0]["n"])

    def build(self) -> None:
        """Make both tables.

        Raises:
            UsageError: a record cannot be read.
            OutputError: no temporary file can be written.
        """
        self.reader.execute(_ITEMS)
        faults = array("q")
        for line, reason in self._faults():
            faults.append(line)
            self.left_out[reason] += 1
        self.reader.connection.register("faults", {"line": np.asarray(faults, dtype=np.int64)})
        self.reader.execute("DELETE FROM items WHERE line IN (SELECT line FROM faults)")
        self.reader.connection.unregister("faults")
        self.reader.execute(_CONTENTS)

    def find(self, where: str) -> Iterator[tuple[FoundItem, dict[str, Any]]]:
        """Yield the items of which an SQL condition holds, with their rows, by line.

        Raises:
            OutputError: no temporary file can be written.
        """
        for row in self._paged(f"SELECT {_NAMES} FROM items WHERE {where}"):  # noqa: S608
            yield self._found(row), row

    def stills(self) -> Iterator[tuple[int, FoundItem]]:
        """Yield the number of each content that may be a readable still, and the item that stands for it.

        Raises:
            OutputError: no temporary file can be written.
        """
        for row in self._paged(_STILLS):
            yield row["content"], self._found(row)

    def _paged(self, query: str) -> Iterator[dict[str, Any]]:
        last = -1
        while rows := self.reader.rows(
            f"SELECT * FROM ({query}) WHERE line > ? ORDER BY line LIMIT {ROWS_AT_ONCE}",  # noqa: S608
            [last],
        ):
            yield from rows
            last = rows[-1]["line"]

    def _found(self, row: dict[str, Any]) -> FoundItem:
        source = read_name(row["source"], row["source_b64"])
        return FoundItem(
            line=row["line"],
            path=self.reader.cards.path_of(source, row["run_id"]),
            member=None if row["member"] is None else read_name(row["member"], row["member_b64"]),
            sha256=row["sha256"],
            pdq=row["pdq"],
            pixels=(row["width"] or 0) * (row["height"] or 0),
        )

    def _faults(self) -> Iterator[tuple[int, LeftOut]]:
        seen: set[tuple[object, str | None]] = set()
        for item, row in self.find("true"):
            if item.sha256 is None:
                yield item.line, "no hash"
                continue
            state, identity = _look_at(item, row)
            if state is None and (identity, item.member) in seen:
                state = "same file"
            if state is not None:
                yield item.line, state
            else:
                seen.add((identity, item.member))


def _look_at(item: FoundItem, row: dict[str, Any]) -> tuple[LeftOut | None, object]:
    """Return why an item is left out, and what identifies its file by whatever name."""
    if item.is_remote:
        return None, item.path
    try:
        info = os.stat(item.path)  # noqa: PTH116 - the name may hold any byte
    except (OSError, ValueError):
        return "gone", None
    if row["mtime_ns"] is not None and not same_file(row, info.st_size, info.st_mtime_ns):
        return "changed", None
    return None, (info.st_dev, info.st_ino)
