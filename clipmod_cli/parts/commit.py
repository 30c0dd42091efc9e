"""The commit of a part, `done/part-NNNNNN.json`: created by one process alone, it names the records' file."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from operator import itemgetter
from pathlib import Path
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from clipmod_cli.errors import OutputMismatchError
from clipmod_cli.parts.heartbeat import is_lost
from clipmod_cli.parts.store import PartStore, checked_file

DONE_SCHEMA: Final = "clipmod-part/1"
_DONE: Final = re.compile(r"done/part-(\d{6,})\.json")
_NOTE: Final = re.compile(r"attempts/part-(\d{6,})\.[0-9a-f]+\.json")
_FILE: Final = re.compile(r"parts/part-(\d{6,})\.[0-9a-f]+\.[a-z]+")


class DonePart(BaseModel):
    """A part that was judged and committed.

    Attributes:
        file: the records, under an attempt's own name.
        first_index: the least index of its inputs.
        inputs: planned inputs, of which an archive is one.
        records: lines of the file.
        sha256: of the file.
        counts: records by kind: nsfw, safe, review, error.
        codes: records by error code.
        device: on which the models computed.
        seconds: how long it was judged.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    schema_: str = Field(default=DONE_SCHEMA, alias="schema")
    part: int
    file: str
    first_index: int
    inputs: int
    records: int
    sha256: str
    counts: dict[str, int]
    codes: dict[str, int]
    run_key: str
    run_id: str
    host: str
    device: str
    ended_at: AwareDatetime
    seconds: float

    def to_bytes(self) -> bytes:
        """Return the content of its file."""
        return self.model_dump_json(by_alias=True).encode() + b"\n"


def done_name(part: int) -> str:
    """Return the name of the file that commits a part."""
    return f"done/part-{part:06}.json"


def part_name(part: int, attempt: str, form: str) -> str:
    """Return the name of an attempt's records."""
    return f"parts/part-{part:06}.{attempt}.{form}"


def read_done(store: PartStore, part: int) -> DonePart | None:
    """Return the commit of a part, None if there is none.

    Raises:
        OutputMismatchError: the file is not one, or that of another part.
    """
    content = store.read(done_name(part))
    if content is None:
        return None
    try:
        done = DonePart.model_validate_json(content)
    except ValidationError as error:
        raise wrong_commit(store, part) from error
    file = _FILE.fullmatch(done.file)
    if done.part != part or file is None or int(file[1]) != part:
        raise wrong_commit(store, part)
    return done


def wrong_commit(store: PartStore, part: int) -> OutputMismatchError:
    """Return the error for a commit that is not what its name says."""
    return OutputMismatchError(
        f"{store.name}{done_name(part)} does not commit part {part} of this run. {judge_again(store, part)}"
    )


def committed_file(store: PartStore, done: DonePart) -> AbstractContextManager[Path]:
    """Give a local path of the records of a part; raises as `checked_file`."""
    return checked_file(store, done.file, done.sha256, judge_again(store, done.part))


def judge_again(store: PartStore, part: int) -> str:
    """Return a sentence that tells how a part is judged again."""
    return f"Delete {store.name}{done_name(part)} and give the command of the run again: it judges this part"


def list_done(store: PartStore) -> list[int]:
    """Return the numbers of the parts that are committed, in order."""
    found = map(_DONE.fullmatch, store.list("done"))
    return sorted(int(name[1]) for name in found if name is not None)


def commit(store: PartStore, done: DonePart, path: Path) -> bool:
    """Commit a part; return False, and leave nothing, if another process has.

    Args:
        store: of the run.
        done: what is to be committed.
        path: the local file of its records, which is moved into the store.
    """
    store.put(done.file, path)
    if store.create(done_name(done.part), done.to_bytes()):
        return True
    store.delete(done.file)
    return False


def remove_orphans(store: PartStore) -> None:
    """Delete what attempts left that can never be committed, since another one was or they were killed."""
    store.remove_unfinished()
    for name in [*_orphaned_files(store), *_orphaned_notes(store)]:
        store.delete(name)


def _orphaned_files(store: PartStore) -> Iterator[str]:
    """Yield the files of parts that were committed with another file."""
    files = [(int(match[1]), match[0]) for match in map(_FILE.fullmatch, store.list("parts")) if match]
    for part, group in itertools.groupby(files, key=itemgetter(0)):
        names = [name for _, name in group]
        if len(names) > 1 and (done := read_done(store, part)) is not None:
            yield from (name for name in names if name != done.file)


def _orphaned_notes(store: PartStore) -> Iterator[str]:
    """Yield the notes of lost processes about parts that are committed."""
    for match in map(_NOTE.fullmatch, store.list("attempts")):
        if match is None or store.read(done_name(int(match[1]))) is None:
            continue
        content = store.read(match[0])
        if content is not None and is_lost(store, match[0], content):
            yield match[0]
