"""Adding entries to a bank and removing them: a table with the columns `sha256`, `type` and `note`."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from clipmod_cli.atomic import atomic_file
from clipmod_cli.banks.bank import Bank, BankSpec
from clipmod_cli.banks.entries import OWN_HASH, BankKind, is_comment
from clipmod_cli.decode.formats import HEAD_BYTES, kind_of
from clipmod_cli.decode.reading.items import open_regular
from clipmod_cli.errors import BankError, ItemError, OutputError, UsageError
from clipmod_cli.output.lock import OutputLock

COLUMNS: Final = (OWN_HASH, "type", "note")
MODE: Final = 0o600
"""Of a new bank: its hashes tell what was looked at."""

PATIENCE_S: Final = 30.0
"""How long another process may hold the bank."""


def default_bank(kind: BankKind) -> Path:
    """Return the bank that `clipmod allow` or `clipmod deny` edits unless another is named."""
    from platformdirs import user_data_path

    return user_data_path("clipmod", appauthor=False) / f"{kind}.csv"


def hash_file(name: str) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises:
        UsageError: it cannot be read, is empty, or is an archive, whose members are judged in its place.
    """
    try:
        with open_regular(name) as (descriptor, status), os.fdopen(os.dup(descriptor), "rb") as file:
            head = file.read(HEAD_BYTES)
            if not status.st_size:
                raise UsageError(f"{name} is empty, so nothing was changed")
            if kind_of(head, name) == "archive":
                raise UsageError(
                    f"{name} is an archive, and its own hash decides nothing: its members are judged one by "
                    "one. Unpack it and name them, or give their --sha256"
                )
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except ItemError as e:
        raise UsageError(f"{name}: {e.message}. Nothing was changed") from e


@dataclass
class BankTable:
    """The rows of a bank that is being edited; comments keep their place.

    Attributes:
        rows: with the names of the columns as the first that is no comment.
        changed: whether it differs from the file.
    """

    path: Path
    rows: list[list[str]] = field(default_factory=list)
    changed: bool = False

    @classmethod
    def read(cls, path: Path, kind: BankKind) -> Self:
        """Return the table of a file; an empty one if there is none.

        Raises:
            BankError: the file is broken, or no table of SHA-256.
        """
        if not path.exists():
            return cls(path, [list(COLUMNS)])
        table = cls(path, _rows_of(path))
        if OWN_HASH not in table.columns:
            raise BankError(
                f"{path} is no table with the columns {','.join(COLUMNS)}, so it is left alone. "
                "Name another --bank"
            )
        if len(table.entries):
            Bank.read(BankSpec(kind=kind, path=path))  # refuses what scans refuse
        return table

    @property
    def columns(self) -> list[str]:
        """The names of the columns in lower case."""
        first = next((row for row in self.rows if not is_comment(row, ())), [])
        return [name.strip().lower() for name in first]

    @property
    def entries(self) -> list[dict[str, str]]:
        """The entries by column, in their order."""
        return [dict(zip(self.columns, row, strict=False)) for row in self._entry_rows()]

    def add(self, hashes: Iterable[str], *, type_: str | None, note: str | None) -> int:
        """Add hashes, give type and note also to those that are there, and return how many are new."""
        known = {self._hash_in(row): row for row in self._entry_rows()}
        new = 0
        for sha256 in dict.fromkeys(hashes):
            row = known.get(sha256)
            if row is None:
                new += 1
                row = [""] * len(self.columns)
                self.rows.append(row)
                self._put(row, OWN_HASH, sha256)
            self._put(row, "type", type_)
            self._put(row, "note", note)
        return new

    def remove(self, hashes: Iterable[str]) -> int:
        """Remove the entries of hashes; return how many there were."""
        gone = set(hashes)
        columns = self.columns
        left = [row for row in self.rows if is_comment(row, columns) or self._hash_in(row) not in gone]
        count = len(self.rows) - len(left)
        self.rows, self.changed = left, self.changed or bool(count)
        return count

    def write(self) -> None:
        """Write the file whole or not at all, if it changed; a new one is for its owner alone.

        Raises:
            OutputError: it cannot be written.
        """
        if not self.changed:
            return
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(self.rows)
        try:
            mode = self.path.stat().st_mode & 0o7777 if self.path.exists() else MODE
            with atomic_file(self.path, mode=mode, sync=True) as file:
                file.write(text.getvalue().encode())
        except OSError as e:
            raise OutputError(f"cannot write {self.path}: {e.strerror}") from e

    def _entry_rows(self) -> Sequence[list[str]]:
        columns = self.columns
        return [row for row in self.rows if not is_comment(row, columns)][1:]

    def _hash_in(self, row: list[str]) -> str:
        at = self.columns.index(OWN_HASH)
        return row[at].strip().lower() if at < len(row) else ""

    def _put(self, row: list[str], column: str, value: str | None) -> None:
        if value is None:
            return
        if column not in self.columns:
            raise UsageError(f"{self.path} has no column {column}, so nothing was changed")
        at = self.columns.index(column)
        row += [""] * (at + 1 - len(row))
        if row[at] != value:
            row[at], self.changed = value, True


def _rows_of(path: Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        return list(csv.reader(text.splitlines(keepends=True), strict=True))
    except OSError as e:
        raise BankError(f"the bank {path} cannot be read: {e.strerror}") from e
    except (UnicodeDecodeError, csv.Error) as e:
        raise BankError(f"the bank {path} is no table: {e}. Nothing was changed") from e


@contextmanager
def editing(path: Path, kind: BankKind) -> Iterator[BankTable]:
    """Give the table of a bank, which no other process edits meanwhile, and write it at the end.

    Raises:
        BankError: the file is no table of SHA-256.
        OutputError: it cannot be written, or another process holds it.
    """
    path = Path(os.path.realpath(path))  # a link stays a link
    with OutputLock(path, patience_s=PATIENCE_S):
        table = BankTable.read(path, kind)
        yield table
        table.write()
