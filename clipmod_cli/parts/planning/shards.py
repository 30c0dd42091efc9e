"""Which of N processes this one is: by `--shard I/N`, or by the variables of an array job."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from clipmod_cli.errors import SettingsError
from clipmod_cli.parts.run_file import RunFile, Shards, change_run_file
from clipmod_cli.parts.store import PartStore

_SHARD: Final = re.compile(r"(?:(\d{1,9})?/)(\d{1,9})")
SLURM: Final = "SLURM_ARRAY_TASK_ID"
KUBERNETES: Final = "JOB_COMPLETION_INDEX"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """This process among the N of a run.

    Attributes:
        index: as the user or the array job counts; None where a count alone was told.
        count: N; None where an array job does not tell it.
        base: the index of the first task; None where it is not known.
        is_named: I and N are those of `--shard`, and count whatever the run file says.
    """

    index: int | None
    count: int | None
    base: int | None
    is_named: bool = False


def read_shard(text: str | None, environment: Mapping[str, str]) -> Shard | None:
    """Return which process this is; None for one that judges all parts.

    Args:
        text: of `--shard`: I/N, or /N.
        environment: of the process.

    Raises:
        SettingsError: the text or a variable cannot be used.
    """
    if text is None:
        return _of_array(environment)
    match = _SHARD.fullmatch(text.strip())
    if match is None:
        raise SettingsError(f"--shard must be I/N, as 1/8, or /N in an array job, not {text!r}")
    count = int(match[2])
    if not count or (match[1] is not None and not 1 <= int(match[1]) <= count):
        raise SettingsError(f"--shard {text}: I must be from 1 to N")
    if match[1] is not None:
        return Shard(index=int(match[1]), count=count, base=1, is_named=True)
    array = _of_array(environment)
    if array is None:
        return Shard(index=None, count=count, base=None)
    return Shard(index=array.index, count=count, base=array.base)


def _of_array(environment: Mapping[str, str]) -> Shard | None:
    if (text := environment.get(KUBERNETES)) is not None:
        return Shard(index=_number(KUBERNETES, text), count=None, base=0)
    if (text := environment.get(SLURM)) is None:
        return None
    index = _number(SLURM, text)
    first, last, count = (
        _number(f"SLURM_ARRAY_TASK_{name}", environment.get(f"SLURM_ARRAY_TASK_{name}", text))
        for name in ("MIN", "MAX", "COUNT")
    )
    # of an array as 3,7-9 neither is that of the whole
    is_whole = last - first + 1 == count
    return Shard(index=index, count=count if is_whole else None, base=first if is_whole else None)


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise SettingsError(f"{name} is {text!r}, which is not a number")
    return int(text)


def join_shards(store: PartStore, shard: Shard) -> RunFile:
    """Add to the run file what it does not have of count and base; return it."""

    def add(run: RunFile) -> RunFile:
        known = run.shards
        count = shard.count if known.count is None else known.count
        base = shard.base if known.base is None else known.base
        return run.model_copy(update={"shards": Shards(count=count, base=base)})

    return change_run_file(store, add)


def parts_of(run: RunFile, shard: Shard | None) -> list[int]:
    """Return the numbers of the parts of a shard, all for None.

    Raises:
        SettingsError: N is not known, or the index is none of the N.
    """
    if shard is None:
        return list(range(run.parts))
    count = shard.count if shard.is_named else run.shards.count
    base = shard.base if shard.is_named else run.shards.base
    if count is None or base is None or shard.index is None:
        raise SettingsError(
            "the number of array tasks is not known. Give it as --shard /N, or submit the whole array first"
        )
    place = shard.index - base
    if not 0 <= place < count:
        raise SettingsError(
            f"there is no task {shard.index}: the run has {count}, from {base} to {base + count - 1}"
        )
    return [part for part in range(run.parts) if run.shard_of(part, count) == place]
