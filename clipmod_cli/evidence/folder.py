"""A folder of evidence: parts that appear whole, by rename, and a list of rows that newer ones replaced.

    EV/evidence.json             models, weights, decoding (`clipmod_cli.evidence.identity`)
    EV/part-000000.parquet       one row an input (`clipmod_cli.evidence.rows`); its rename commits the part
    EV/part-000000.safetensors   embeddings, one float16 matrix a text-image model; written before the rows
    EV/superseded.json           by part, rows that count no more

Everything is readable by the user alone: it is personal data.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from clipmod_cli.atomic import atomic_file
from clipmod_cli.errors import EvidenceError, OutputError
from clipmod_cli.evidence.identity import EvidenceIdentity, StoredMember, read_identity
from clipmod_cli.evidence.rows import COLUMNS, ItemEvidence, Vectors, from_row
from clipmod_cli.output.database import connect
from clipmod_cli.records import read_name

ROWS_AT_ONCE: Final = 1_000
"""Rows that are turned into Python objects at a time."""
_SUPERSEDED: Final = "superseded.json"
_MEMORY: Final = "80%"
"""DuckDB asks for gigabytes before it reads a row group of nested lists, and uses a few megabytes of them."""
_INPUTS: Final = (
    "SELECT file_row_number, source, source_b64, member, member_b64, media.sha256, media.kind "
    "FROM read_parquet($path, file_row_number = true)"
)


def open_database(**config: Any) -> duckdb.DuckDBPyConnection:
    """Return a connection for queries over evidence; see `clipmod_cli.output.database.connect`."""
    return connect(memory_limit=_MEMORY, **config)


@dataclass(frozen=True, slots=True)
class EvidencePart:
    """One part of a folder of evidence; `rows` is its Parquet file."""

    rows: Path

    @property
    def vectors(self) -> Path:
        """The file of its embeddings; absent if no member is a text-image model."""
        return self.rows.with_suffix(".safetensors")


def parts_of(folder: Path) -> list[EvidencePart]:
    """Return the parts of a folder, in the order in which they were written."""
    return [EvidencePart(path) for path in sorted(folder.glob("part-*.parquet"))]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder of evidence for this process alone; it is created if it is missing.

    Raises:
        OutputError: another process holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(folder / ".lock", mode=0o600)
        lock.acquire(blocking=False)
    except Timeout:
        raise OutputError(f"another process is writing evidence to {folder}") from None
    except OSError as e:
        raise OutputError(f"cannot write evidence to {folder}: {e.strerror}") from e
    try:
        yield
    finally:
        lock.release()


def write_part(
    folder: Path, rows: Sequence[Mapping[str, Any]], vectors: Mapping[str, NDArray[np.float16]]
) -> None:
    """Write the next part.

    Raises:
        OutputError: it cannot be written.
    """
    number = max((int(part.rows.stem.removeprefix("part-")) for part in parts_of(folder)), default=-1) + 1
    part = EvidencePart(folder / f"part-{number:06}.parquet")
    try:
        if vectors:
            with atomic_file(part.vectors, mode=0o600, sync=True) as file:
                file.write(_serialise(vectors))
        _write_rows(part.rows, rows)
    except (OSError, duckdb.Error) as e:
        raise OutputError(f"cannot write evidence to {folder}: {e}") from e


def _serialise(vectors: Mapping[str, NDArray[np.float16]]) -> bytes:
    from safetensors.numpy import save

    return save(dict(vectors))


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as Parquet, by way of JSON Lines: DuckDB reads these into nested columns."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        lines, written = Path(scratch, "rows.jsonl"), Path(scratch, "rows.parquet")
        with lines.open("wb") as file:
            for row in rows:
                file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
        with open_database() as con:
            con.execute(
                "COPY (SELECT * FROM read_json($lines, format = 'newline_delimited', columns = $columns, "
                "maximum_object_size = 1000000000)) TO $written (FORMAT parquet, COMPRESSION zstd)",
                {"lines": str(lines), "columns": COLUMNS, "written": str(written)},
            )
        _sync(written)
        written.chmod(0o600)
        written.replace(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceFolder:
    """A folder of evidence to read.

    Attributes:
        superseded: by the file name of a part, the numbers of its rows that count no more.
    """

    path: Path
    identity: EvidenceIdentity
    superseded: Mapping[str, frozenset[int]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[ItemEvidence]:
        """Yield the evidence of each input, in the order in which it was written.

        Raises:
            EvidenceError: a part is damaged, or its embeddings are missing.
        """
        for part in parts_of(self.path):
            gone = self.superseded.get(part.rows.name, frozenset())
            vectors = read_vectors(part, self.identity.members)
            for number, row in enumerate(read_rows(part)):
                if number not in gone:
                    yield from_row(row, self.identity.members, vectors)


def open_folder(path: Path) -> EvidenceFolder:
    """Return a folder of evidence to read.

    Raises:
        EvidenceError: it holds none.
    """
    identity = read_identity(path)
    if identity is None:
        raise EvidenceError(f"{path} holds no evidence: it is written by `clipmod scan --evidence {path}`")
    return EvidenceFolder(path=path, identity=identity, superseded=read_superseded(path))


def read_rows(
    part: EvidencePart, columns: Sequence[str] = tuple(COLUMNS), *, rows: Sequence[int] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield rows of a part in order, with these columns.

    Args:
        part: the part.
        columns: names of `COLUMNS`.
        rows: the numbers of the rows, rising; None is all.

    Raises:
        EvidenceError: the file is damaged.
    """
    if rows is not None and not rows:
        return
    named = ", ".join(f'"{column}"' for column in columns)
    wanted = "" if rows is None else "WHERE list_contains($rows, file_row_number)"
    values = {"path": str(part.rows)} | ({} if rows is None else {"rows": rows})
    try:
        with open_database() as con:
            found = con.execute(
                f"SELECT {named} FROM read_parquet($path, file_row_number = true) {wanted}",  # noqa: S608
                values,
            )
            while fetched := found.fetchmany(ROWS_AT_ONCE):
                for row in fetched:
                    yield dict(zip(columns, row, strict=True))
    except duckdb.Error as e:
        raise EvidenceError(f"{part.rows} is damaged: {e}") from e


@dataclass(frozen=True, slots=True)
class StoredInput:
    """An input of a folder of evidence, by name and hash, and where its evidence is.

    Attributes:
        source: as in its record.
        sha256: of its bytes; None where they could not be read.
        kind: None if it failed before this was known.
    """

    part: EvidencePart
    row: int
    source: str
    member: str | None
    sha256: str | None
    kind: str | None

    @property
    def name(self) -> str:
        """The input's name for people."""
        return f"{self.member} in {self.source}" if self.member else self.source


def stored_inputs(stored: EvidenceFolder) -> Iterator[StoredInput]:
    """Yield the inputs of a folder that count, in the order of the evidence, without what the models saw.

    Raises:
        EvidenceError: a part is damaged.
    """
    for part in parts_of(stored.path):
        gone = stored.superseded.get(part.rows.name, frozenset())
        try:
            with open_database() as con:
                found = con.execute(_INPUTS, {"path": str(part.rows)})
                while rows := found.fetchmany(ROWS_AT_ONCE):
                    for row, source, source_b64, member, member_b64, sha256, kind in rows:
                        if row in gone:
                            continue
                        inside = None if member is None else read_name(member, member_b64)
                        yield StoredInput(part, row, read_name(source, source_b64), inside, sha256, kind)
        except duckdb.Error as e:
            raise EvidenceError(f"{part.rows} is damaged: {e}") from e


def read_vectors(part: EvidencePart, members: Sequence[StoredMember]) -> Vectors:
    """Return the embeddings of a part by member, float16 `(rows, d)`.

    Raises:
        EvidenceError: they are missing or damaged.
    """
    wanted = {member.name for member in members if member.kind == "text-image"}
    if not wanted:
        return {}
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        vectors = load_file(part.vectors)
    except (OSError, SafetensorError) as e:
        raise EvidenceError(f"{part.vectors} is missing or damaged: {e}") from e
    if missing := wanted - vectors.keys():
        raise EvidenceError(f"{part.vectors} has no embeddings of {', '.join(sorted(missing))}")
    return vectors


def read_superseded(folder: Path) -> dict[str, frozenset[int]]:
    """Return the rows of each part that count no more.

    Raises:
        EvidenceError: the list is damaged.
    """
    path = folder / _SUPERSEDED
    try:
        return {part: frozenset(rows) for part, rows in json.loads(path.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as e:
        raise EvidenceError(f"{path} is damaged: {e}") from e


def write_superseded(folder: Path, superseded: Mapping[str, frozenset[int]]) -> None:
    """Write the list of rows that count no more.

    Raises:
        OutputError: it cannot be written.
    """
    content = json.dumps({part: sorted(rows) for part, rows in superseded.items() if rows})
    try:
        with atomic_file(folder / _SUPERSEDED, mode=0o600, sync=True) as file:
            file.write(content.encode() + b"\n")
    except OSError as e:
        raise OutputError(f"cannot write evidence to {folder}: {e.strerror}") from e
