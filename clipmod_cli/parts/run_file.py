"""`run.json` of a run in parts: what it judges, by which models, and its plan.

It is created once, by the process that planned. Afterwards it changes by compare-and-swap alone: the first
process that has loaded the models adds their facts, and a generation is committed by naming its files.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from clipmod_cli.errors import OutputError, OutputMismatchError, UsageError
from clipmod_cli.output.resuming.card import CARD_SCHEMA
from clipmod_cli.parts.store import PartStore
from clipmod_cli.records import write_name

RUN_FILE: Final = "run.json"
MOST_SWAPS: Final = 1000
"""Tries to change `run.json` while other processes do."""

GenerationKind: TypeAlias = Literal["first", "extend", "retry"]


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class PlanFile(_Row):
    """A file of the plan.

    Attributes:
        first_part: its parts are consecutive from this one on.
        inputs: the number of its rows.
    """

    name: str
    sha256: str
    first_part: int
    parts: int
    inputs: int


class Generation(_Row):
    """What was planned at once. A record of a later generation takes the place of earlier ones of its index.

    Attributes:
        kind: the first plan, what `--extend` found, or what `--retry` judges again.
    """

    kind: GenerationKind
    files: tuple[PlanFile, ...]

    @property
    def first_part(self) -> int:
        """The number of its first part."""
        return self.files[0].first_part if self.files else 0

    @property
    def parts(self) -> int:
        """How many parts it has, with consecutive numbers; called for each part, so not a sum over files."""
        return self.files[-1].first_part + self.files[-1].parts - self.first_part if self.files else 0


class Shards(_Row):
    """How the parts are divided among processes.

    Attributes:
        count: N of `--shard I/N`; None before a process has told it.
        base: the index of the first task of an array; None before a task has told it.
    """

    count: int | None = None
    base: int | None = None


class RunFile(_Row):
    """The content of `run.json`.

    Attributes:
        facts: as in a run card, with the `run_key`; empty until a process has loaded the models.
        command: scan or urls.
        inputs: the sources and the settings by which they were listed.
        directory: the working directory, to which relative paths belong.
        format: of the parts.
        part_size: inputs in a part.
        next_index: the index of the next new input.
        generations: the plan, the first one first.
    """

    facts: dict[str, Any] = {}
    command: Literal["scan", "urls"]
    inputs: dict[str, Any]
    directory: str
    format: Literal["parquet", "jsonl"]
    part_size: int
    shards: Shards = Shards()
    next_index: int
    generations: tuple[Generation, ...]

    @property
    def run_key(self) -> str | None:
        """The `run_key` of all records; None until a process has loaded the models."""
        return self.facts.get("run_key")

    @property
    def parts(self) -> int:
        """How many parts there are; their numbers begin with 0."""
        return sum(generation.parts for generation in self.generations)

    @property
    def plan_sha256(self) -> str:
        """The digest of the files of the plan."""
        hashes = (file.sha256 for generation in self.generations for file in generation.files)
        return hashlib.sha256("".join(hashes).encode()).hexdigest()

    def generation_of(self, part: int) -> int:
        """Return the number of the generation of a part.

        Raises:
            UsageError: there is no such part.
        """
        for number, generation in enumerate(self.generations):
            if 0 <= part - generation.first_part < generation.parts:
                return number
        raise UsageError(f"there is no part {part}; the plan has {self.parts}")

    def file_of(self, part: int) -> PlanFile:
        """Return the file of the plan that has a part; raises as `generation_of`."""
        files = self.generations[self.generation_of(part)].files
        return files[bisect_right(files, part, key=lambda file: file.first_part) - 1]

    def inputs_of(self, part: int) -> int:
        """Return how many inputs a part has; raises as `generation_of`."""
        file = self.file_of(part)
        return min(self.part_size, file.inputs - (part - file.first_part) * self.part_size)

    def shard_of(self, part: int, count: int) -> int:
        """Return which of `count` shards, from 0, a part is for: runs of parts within its generation."""
        generation = self.generations[self.generation_of(part)]
        return (part - generation.first_part) * count // generation.parts

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        own = self.model_dump(mode="json", exclude={"facts"})
        document = {"schema": CARD_SCHEMA, "run_key": None, **self.facts, "plan_sha256": self.plan_sha256}
        text = json.dumps({**document, "parts": own}, indent=1, ensure_ascii=False)
        return write_name(text)[0].encode() + b"\n"  # a folder's name may be no Unicode


def parse_run_file(content: bytes, where: str) -> RunFile:
    """Return the run file of its content.

    Raises:
        OutputMismatchError: it is not one.
    """
    try:
        document = json.loads(content)
        own = document.pop("parts")
        if document.pop("schema") != CARD_SCHEMA:
            raise OutputMismatchError(
                f"{where}{RUN_FILE} is of another version of clipmod. Use that one, or name another output"
            )
        digest = document.pop("plan_sha256")
        facts = {} if document["run_key"] is None else document
        # JSON has no tuples, which a strict model asks for in Python values
        run = RunFile.model_validate_json(json.dumps({**own, "facts": facts}))
    except (ValueError, KeyError, TypeError, AttributeError, ValidationError) as error:
        raise OutputMismatchError(
            f"{where}{RUN_FILE} is not that of a run in parts. Name another output"
        ) from error
    if run.plan_sha256 != digest:
        raise OutputMismatchError(f"{where}{RUN_FILE} was edited: it names another plan. Name another output")
    return run


def read_run_file(store: PartStore) -> RunFile | None:
    """Return the run file of a store, None if nothing was planned.

    Raises:
        OutputMismatchError: the file is not one.
        OutputError: it cannot be read.
    """
    content = store.read(RUN_FILE)
    return None if content is None else parse_run_file(content, store.name)


def require_run_file(store: PartStore) -> RunFile:
    """Return the run file of a store.

    Raises:
        UsageError: nothing was planned.
    """
    run = read_run_file(store)
    if run is None:
        raise UsageError(f"{store.name} holds no run in parts: it has no {RUN_FILE}. Name the -o of one")
    return run


def change_run_file(store: PartStore, change: Callable[[RunFile], RunFile]) -> RunFile:
    """Change the run file by compare-and-swap; return it as it is then.

    Args:
        store: holds the file.
        change: returns the changed file, or the same; called again if another process was faster.
    """
    for _ in range(MOST_SWAPS):
        content = store.read(RUN_FILE)
        if content is None:
            break
        run = parse_run_file(content, store.name)
        changed = change(run)
        if changed == run or store.replace(RUN_FILE, content, changed.to_bytes()):
            return changed
    raise OutputError(
        f"cannot change {store.name}{RUN_FILE}: other processes change it, or it was deleted. Give the "
        "command again"
    )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return which values differ, as `include ['*.png'], now []`."""
    names = [name for name in before if before[name] != now.get(name)]
    return [f"{name} {before[name]!r}, now {now.get(name)!r}" for name in names]
