"""Maintains the files of the history: seals journals, merges small files, erases rows, removes what is left.

Everything here happens while the folder's lock is held. New files are complete and on the disk before the
inventory names them; old ones are removed after that.
"""

# ruff: noqa: S608 -- as in `clipmod_cli.output.history.views`

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

from clipmod_cli.output.database import quoted
from clipmod_cli.output.history.folder import (
    PRIVATE_FILE,
    SEALED,
    ErasedBy,
    Erasure,
    SealedFile,
    Snapshot,
    load_inventory,
    open_journals,
    remove_locks,
    snapshot_of,
    try_lock_run,
)
from clipmod_cli.output.history.views import (
    NAME_OF,
    NO_PICTURE,
    NO_ROWS,
    journal_rows,
    parquet,
    sealed_rows,
    statements,
    without_texts,
)
from clipmod_cli.output.parquet import PARQUET_FORM
from clipmod_cli.records import write_name

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SMALL_FILES: Final = (1_000, 10_000)
"""Rows. Files under each are merged once there are `MOST_SMALL`: so a year of runs leaves few files."""

MOST_SMALL: Final = 10
SEALED_BYTES: Final = 1 << 28
"""Of journals that are sealed into one file."""

FEW_JOURNALS: Final = 16
FEW_BYTES: Final = 1 << 20
"""Fewer journals of ended runs, with fewer bytes, are sealed when more have come."""

GRACE_S: Final = 60.0
"""How long files stay that count no more: a query by another program may be about to open them."""

UNFINISHED: Final = (".part", ".duckdb", ".wal")
"""Suffixes of files that are renamed when they are complete."""

END_BYTES: Final = 1 << 16
"""Of a journal, in which the line of how its run ended is, if there is one."""


class Keeper:
    """The files of a folder, whose lock the caller holds."""

    def __init__(
        self, folder: Path, connection: DuckDBPyConnection, clock: Callable[[], float] = time.time
    ) -> None:
        """Read the inventory.

        Raises:
            OutputError: it is damaged.
        """
        self.connection = connection
        self._folder = folder
        self._clock = clock
        self.inventory = load_inventory(folder)

    def snapshot(self) -> Snapshot:
        """Return the rows now."""
        return snapshot_of(self._folder, self.inventory)

    def make_views(self) -> None:
        """Make the views of the rows now in the connection; those of an earlier call are replaced."""
        for statement in statements(self.snapshot()):
            self.connection.execute(statement)

    def register(self, data_folder: Path) -> None:
        """Remember where a service keeps hosted pictures.

        Raises:
            OSError: the folder cannot be written.
        """
        with suppress(FileNotFoundError):  # no picture is hosted
            (data_folder / "hosted" / NO_PICTURE).touch(PRIVATE_FILE)
            if (name := str(data_folder)) not in self.inventory.data_folders:
                self._save(data_folders=(*self.inventory.data_folders, name))

    def seal(self, *, few: bool = True) -> None:
        """Seal the journals that nothing is appended to any more.

        Args:
            few: also if they are fewer than `FEW_JOURNALS`, have less than `FEW_BYTES` and no row was erased.

        Raises:
            duckdb.Error: a file cannot be written; the journals stay.
            OSError: likewise.
        """
        with ExitStack() as locks:
            closed: list[Path] = []
            ended: list[str] = []
            for run_id, journals in open_journals(self._folder, self.inventory).items():
                if locks.enter_context(try_lock_run(self._folder, run_id)):
                    _end(journals[-1])
                    ended.append(run_id)
                closed += journals if run_id in ended else journals[:-1]
            if not few and not self.inventory.erasures and _are_few(closed):
                return
            for group in _groups(closed):
                query = journal_rows(group, self.inventory.erasures)
                self._replace(query, done=[path.name for path in group])
            for run_id in ended:
                (self._folder / f"{run_id}.lock").unlink(missing_ok=True)
        if self.inventory.erasures:
            still_open = {path.name for path in self.snapshot().journals}
            kept = tuple(one for one in self.inventory.erasures if still_open.intersection(one.journals))
            if kept != self.inventory.erasures:
                self._save(erasures=kept)
            self.clean(at_once=True)

    def merge_small(self) -> None:
        """Merge small files into larger ones. Raises as `seal`."""
        for most in SMALL_FILES:
            there = {path.name for path in self.snapshot().sealed}
            small = [file for file in self.inventory.files if file.rows < most and file.name in there]
            if len(small) >= MOST_SMALL:
                small.sort(key=lambda file: file.first_us)
                self._replace(self._rows_of(small), gone=small)

    def erase(self, by: ErasedBy, value: str | float, *, in_journals: bool = True) -> int:
        """Erase rows: of a name, of a content, or from before a time in seconds; return how many records.

        Rows of journals that are being written are left out from now on, and stay on the disk until those are
        sealed; with `in_journals` false they are not meant. Raises as `seal`.
        """
        at_us = round(self._clock() * 1e6)
        match by:
            case "source":
                text, encoded = write_name(str(value))
                name, meant = encoded or text, f"{NAME_OF} = {quoted(encoded or text)}"
                texts = (
                    f" OR contains(run.command, {quoted(text)}) OR contains(request.error, {quoted(text)})"
                )
                one = Erasure(at_us=at_us, by=by, digest=_digest(name))
                changed = without_texts(text)
            case "sha256":
                meant, texts, changed = f'"sha256" = {quoted(str(value))}', "", {}
                one = Erasure(at_us=at_us, by=by, digest=_digest(str(value)))
            case "before":
                before_us = min(round(float(value) * 1e6), at_us)
                self._find_old_runs(before_us)
                old_run = "run IS NOT NULL AND run.run_id IN (SELECT run_id FROM old_runs)"
                meant, texts, changed = f"(run IS NULL AND written_us < {before_us}) OR ({old_run})", "", {}
                one = Erasure(at_us=at_us, by=by, before_us=before_us)
        self.make_views()
        found = f'SELECT count(*) FROM stored_rows WHERE "schema" IS NOT NULL AND ({meant})'
        records = self.number(found)
        if (journals := self.snapshot().journals) and in_journals:
            named: list[Any] = []
            if by == "source":
                rows = journal_rows(journals)
                listed = f"SELECT DISTINCT run.run_id FROM ({rows}) WHERE contains(run.command, ?)"
                named = self.connection.execute(listed, [write_name(str(value))[0]]).fetchall()
            one = replace(
                one,
                journals=tuple(path.name for path in journals),
                commands=tuple(run_id for (run_id,) in named),
            )
            self._save(erasures=(*self.inventory.erasures, one))
        self._rewrite(f"({meant}){texts}", f"coalesce({meant}, false)", changed)
        self.clean(at_once=True)
        return records

    def erase_days(self, before: float) -> None:
        """Erase all rows from before a time in seconds, if there are any. Raises as `seal`."""
        if any(file.first_us < before * 1e6 for file in self.inventory.files):
            self.erase("before", before, in_journals=False)

    def add(self, query: str) -> None:
        """Add the rows of a query as a sealed file. Raises as `seal`."""
        self._replace(f"{NO_ROWS} UNION ALL BY NAME {query}")

    def clean(self, *, at_once: bool = False) -> None:
        """Remove files that have counted no more for `GRACE_S`, or all; and what killed writers left."""
        counting = {file.name for file in self.inventory.files}
        done = set(self.inventory.done)
        latest = self._clock() - GRACE_S
        for path in self._folder.iterdir():
            counts_no_more = path.name in done or (SEALED.fullmatch(path.name) and path.name not in counting)
            is_unfinished = path.name.startswith(".") and path.suffix in UNFINISHED
            if counts_no_more or is_unfinished:
                with suppress(OSError):
                    if (at_once and counts_no_more) or path.stat().st_mtime <= latest:
                        path.unlink()
        left = tuple(name for name in self.inventory.done if (self._folder / name).exists())
        if left != self.inventory.done:
            self._save(done=left)
        remove_locks(self._folder)

    def number(self, statement: str) -> int:
        """Return the number that a statement returns, as that of the rows that it wrote."""
        found = self.connection.execute(statement).fetchone()
        return int(found[0]) if found else 0

    def _find_old_runs(self, before_us: int) -> None:
        """Make a table of the runs that have no rows since a time."""
        self.make_views()
        self.connection.execute(
            f"""
            CREATE OR REPLACE TEMP TABLE old_runs AS
            SELECT run_id FROM runs WHERE started_at < make_timestamp({before_us}) AND ended <> 'running'
            AND run_id NOT IN (
                SELECT coalesce(run_id, request.run_id) FROM stored_rows
                WHERE run IS NULL AND written_us >= {before_us}
            )
            """
        )

    def _rewrite(self, touched: str, erased: str, changed: dict[str, str]) -> None:
        """Replace the files with touched rows by files without the erased ones; no byte of these is left."""
        if not self.snapshot().sealed:
            return
        found = self.connection.execute(
            "SELECT DISTINCT parse_filename(filename) "
            f"FROM ({sealed_rows(self.snapshot().sealed, with_names=True)}) WHERE {touched}"
        ).fetchall()
        names = {name for (name,) in found}
        for file in [file for file in self.inventory.files if file.name in names]:
            replaced = ", ".join(f'{value} AS "{name}"' for name, value in changed.items())
            columns = f"* REPLACE ({replaced})" if replaced else "*"
            self._replace(f"SELECT {columns} FROM ({self._rows_of([file])}) WHERE NOT {erased}", gone=[file])

    def _rows_of(self, files: Sequence[SealedFile]) -> str:
        return sealed_rows([self._folder / file.name for file in files])

    def _replace(self, query: str, *, gone: Sequence[SealedFile] = (), done: Sequence[str] = ()) -> None:
        """Write a sealed file, and let it count in place of other files and journals."""
        if not self.inventory.version:
            self._save()  # sealed files without an inventory are taken for those of a lost one
        path = self._folder / f"{token_hex(16)}.parquet"
        try:
            rows = self.number(f"COPY ({query}) TO {quoted(str(path))} ({PARQUET_FORM}, USE_TMP_FILE false)")
            new = self._sealed(path, rows) if rows else None
        except BaseException:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise
        if new is None:
            path.unlink()
        files = [file for file in self.inventory.files if file not in gone]
        self._save(files=(*files, *([new] if new else [])), done=(*self.inventory.done, *done))
        now = self._clock()
        for name in (*done, *(file.name for file in gone)):
            with suppress(OSError):
                os.utime(self._folder / name, (now, now))  # `clean` waits from now on

    def _sealed(self, path: Path, rows: int) -> SealedFile:
        path.chmod(PRIVATE_FILE)
        with path.open("rb") as file:
            os.fsync(file.fileno())
        first, last = self.connection.execute(
            "SELECT coalesce(min(written_us) FILTER (run IS NULL), max(written_us)), max(written_us) "
            f"FROM {parquet([path])}"
        ).fetchall()[0]
        return SealedFile(name=path.name, rows=rows, first_us=first, last_us=last)

    def _save(self, **changes: Any) -> None:
        self.inventory = replace(self.inventory, **changes).save(self._folder)


def _end(journal: Path) -> None:
    """Add to the last journal of a run whose writer has ended that it was killed, if no end is there."""
    with journal.open("rb+") as file:
        first = _run_row(file.readline())
        file.seek(max(0, file.seek(0, os.SEEK_END) - END_BYTES))
        *_, last, torn = [b"", *file.read().split(b"\n")]
        if first and not _run_row(last).get("run", {}).get("ended"):
            first["run"]["ended"] = "killed"
            file.write((b"\n" if torn else b"") + json.dumps(first).encode() + b"\n")


def _run_row(line: bytes) -> dict[str, Any]:
    """Return the row of a run, empty for any other line."""
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return row if isinstance(row, dict) and isinstance(row.get("run"), dict) else {}


def _are_few(journals: Sequence[Path]) -> bool:
    return len(journals) < FEW_JOURNALS and sum(path.stat().st_size for path in journals) < FEW_BYTES


def _groups(journals: Sequence[Path]) -> Iterator[list[Path]]:
    """Yield journals that are sealed together."""
    group: list[Path] = []
    size = 0
    for journal in journals:
        group.append(journal)
        size += journal.stat().st_size
        if size >= SEALED_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
