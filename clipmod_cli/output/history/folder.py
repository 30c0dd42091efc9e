"""The folder of the history: its files, the locks of its runs, and the inventory of what counts.

    FILE.duckdb                          the catalogue: views over what follows
    FILE.duckdb.runs/RUN.000000.jsonl    a journal: rows of a run, appended by its process alone
    FILE.duckdb.runs/RUN.lock            held by that process
    FILE.duckdb.runs/*.parquet           sealed rows
    FILE.duckdb.runs/inventory.json      which files count; replaced whole, with the lock `.lock` held

A sealed file counts once the inventory names it, and the journals that it was made of no longer from then on:
so a process that is killed at any moment leaves each row in one place that counts. Files that the inventory
does not name are removed by `clipmod_cli.output.history.keeper`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from filelock import FileLock, Timeout

from clipmod_cli.atomic import atomic_file
from clipmod_cli.errors import OutputError

INVENTORY: Final = "inventory.json"
PRIVATE_FILE: Final = 0o600  # File names and their scores are private to the user.
PRIVATE_FOLDER: Final = 0o700
RUN_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")  # It becomes part of file names.
JOURNAL: Final = re.compile(rf"({RUN_ID.pattern})\.([0-9]{{6,}})\.jsonl")
SEALED: Final = re.compile(r"[0-9a-f]{32}\.parquet")
ORPHAN_S: Final = 3600.0
# A lock file alone belongs to a writer that has just started, or to one that was killed then. Starting never
# takes an hour.


def make_private(folder: Path) -> None:
    """Create a folder that only its owner can read, and its parent."""
    folder.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)


def lock_file(path: Path) -> FileLock:
    """Return a lock that any thread may release, in a file that only its owner can read."""
    return FileLock(path, mode=PRIVATE_FILE, thread_local=False)


def run_lock(folder: Path, run_id: str) -> FileLock:
    """Return the lock that the writer of a run holds."""
    return lock_file(folder / f"{run_id}.lock")


@contextmanager
def try_lock_run(folder: Path, run_id: str) -> Iterator[bool]:
    """Enter with whether the run's lock could be taken, which means that its writer has ended."""
    lock = run_lock(folder, run_id)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def journal_path(folder: Path, run_id: str, number: int) -> Path:
    """Return the path of a journal of a run's rows."""
    return folder / f"{run_id}.{number:06d}.jsonl"


def journals_by_run(folder: Path) -> dict[str, list[Path]]:
    """Return the journals of each run that has any, in their order."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in folder.glob("*.jsonl"):
        if match := JOURNAL.fullmatch(path.name):
            found.setdefault(match[1], []).append((int(match[2]), path))
    return {run_id: [path for _, path in sorted(found[run_id])] for run_id in sorted(found)}


def remove_locks(folder: Path) -> None:
    """Remove the locks of runs that have no journals any more."""
    known = journals_by_run(folder)
    for path in folder.glob("[!.]*.lock"):
        with suppress(OSError):
            if path.stem not in known and time.time() - path.stat().st_mtime > ORPHAN_S:
                with try_lock_run(folder, path.stem) as ended:
                    if ended:
                        path.unlink()


ErasedBy: TypeAlias = Literal["source", "sha256", "before"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedFile:
    """A Parquet file: its name, its rows, and `written_us` of the first and the last.

    Those of runs do not count as first: a run that goes on has one in each of its files.
    """

    name: str
    rows: int
    first_us: int
    last_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """Rows of journals to leave out, until all journals of that time are sealed without them.

    Attributes:
        at_us: rows that are written later are not meant: the same picture may be sent again.
        by: what is compared.
        digest: SHA-256 of the name or of the content's hash, which are being erased themselves.
        before_us: rows from before this time.
        journals: those that had rows at that time.
        commands: the runs whose command line contains the name.
    """

    at_us: int
    by: ErasedBy
    digest: str | None = None
    before_us: int | None = None
    journals: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """What counts.

    Attributes:
        files: the sealed ones.
        done: the journals whose rows are in `files`, as long as they exist.
        erasures: of rows that are not sealed yet.
        data_folders: where services keep hosted pictures.
        catalogue: digest of its text, with its size and time of change once it was written.
        version: counts the changes.
    """

    files: tuple[SealedFile, ...] = ()
    done: tuple[str, ...] = ()
    erasures: tuple[Erasure, ...] = ()
    data_folders: tuple[str, ...] = ()
    catalogue: list[Any] | None = None
    version: int = 0

    def save(self, folder: Path) -> Inventory:
        """Replace the inventory of a folder by this one; return it with its new version.

        Raises:
            OSError: it cannot be written; the old one stays.
        """
        new = replace(self, version=self.version + 1)
        with atomic_file(folder / INVENTORY, mode=PRIVATE_FILE, sync=True) as file:
            file.write(json.dumps(asdict(new), indent=1).encode())
        return new


def load_inventory(folder: Path) -> Inventory:
    """Return the inventory of a folder; an empty one if it has none.

    Raises:
        OutputError: it is damaged, or gone from among sealed files.
        OSError: it cannot be read.
    """
    path = folder / INVENTORY
    try:
        found = json.loads(path.read_bytes())
        return Inventory(
            files=tuple(SealedFile(**one) for one in found["files"]),
            done=tuple(found["done"]),
            erasures=tuple(map(_erasure, found["erasures"])),
            data_folders=tuple(found["data_folders"]),
            catalogue=found["catalogue"],
            version=found["version"],
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        if any(SEALED.fullmatch(one.name) for one in folder.glob("*.parquet")):
            raise OutputError(
                f"{path}, which names the files that count, is gone. Put it back; or remove the folder, and "
                "rebuild the statistics from your outputs: clipmod stats --rebuild FILE"
            ) from error
        return Inventory()
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{path} is damaged ({error}). Remove the folder {folder}, and rebuild the statistics from your "
            "outputs: clipmod stats --rebuild FILE"
        ) from error


def _erasure(found: dict[str, Any]) -> Erasure:
    return Erasure(**{**found, "journals": tuple(found["journals"]), "commands": tuple(found["commands"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The rows at one moment.

    Attributes:
        sealed: the files that the inventory names and that exist.
        journals: those that the inventory does not name as done.
    """

    folder: Path
    inventory: Inventory
    sealed: tuple[Path, ...]
    journals: tuple[Path, ...]

    @property
    def gone(self) -> list[SealedFile]:
        """The files that the inventory names and that do not exist any more."""
        known = {path.name for path in self.sealed}
        return [file for file in self.inventory.files if file.name not in known]


def snapshot_of(folder: Path, inventory: Inventory) -> Snapshot:
    """Return the rows of a folder by its inventory."""
    journals = tuple(path for paths in open_journals(folder, inventory).values() for path in paths)
    sealed = tuple(path for file in inventory.files if (path := folder / file.name).exists())
    return Snapshot(folder=folder, inventory=inventory, sealed=sealed, journals=journals)


def take_snapshot(folder: Path) -> Snapshot:
    """Return the rows of a folder; none if it does not exist. Raises as `load_inventory`."""
    inventory = load_inventory(folder)
    while True:
        snapshot = snapshot_of(folder, inventory)
        if (now := load_inventory(folder)).version == inventory.version:
            return snapshot
        inventory = now


def open_journals(folder: Path, inventory: Inventory) -> dict[str, list[Path]]:
    """Return the journals of each run that are not done."""
    done = set(inventory.done)
    found = {
        run_id: [path for path in journals if path.name not in done]
        for run_id, journals in journals_by_run(folder).items()
    }
    return {run_id: journals for run_id, journals in found.items() if journals}
