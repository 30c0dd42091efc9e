"""What a measurement says: the fields of the JSON document, and reading one that was written before."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clipmod_cli.errors import UsageError

SCHEMA_NAME: Final = "clipmod-bench/1"

Bound = Literal["decode", "forward", "judge", "write"]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, allow_inf_nan=False, protected_namespaces=(), serialize_by_alias=True, extra="ignore"
    )


class Stage(_Part):
    """One stage: milliseconds for an image, of several repeats."""

    ms: float = Field(description="Milliseconds an image, median of the repeats")
    low_ms: float = Field(description="The fastest repeat")
    high_ms: float = Field(description="The slowest repeat")
    images_per_s: float = Field(description="1000 / ms")


class Forward(_Part):
    """What one model's forward pass is beside what the device can do."""

    ms: float = Field(description="Milliseconds an image in a batch, median of the repeats")
    ms_alone: float = Field(description="Milliseconds for an image that is alone in its batch")
    gflop: float | None = Field(description="Operations for an image in 10^9; null where they are unknown")
    share_of_peak: float | None = Field(description="Operations a second over the measured peak, 0..1")


class EndToEnd(_Part):
    """Files to JSON Lines, through the line that `scan` uses."""

    images: int = Field(description="Pictures in one run")
    runs: int
    images_per_s: float = Field(description="Median of the runs, workers started and models warm")
    low_images_per_s: float
    high_images_per_s: float
    busy_share: float = Field(
        description="Share of the wall time during which models computed, 0..1: by the clocks of CUDA "
        "devices where torch computes on them, else all in which models did not wait for pictures"
    )
    share_of_peak: float | None = Field(description="Operations a second over the measured peak, 0..1")
    errors: int = Field(description="Pictures of a run that could not be judged")


class Memory(_Part):
    """Resident memory of this process, without decoding workers."""

    idle_mb: float = Field(description="Before the models were loaded")
    loaded_mb: float = Field(description="With the models loaded")
    peak_mb: float = Field(description="The most there ever was, loading included")
    device_peak_mb: float | None = Field(description="The most that torch held on a CUDA device")


class Machine(_Part):
    """Where it was measured."""

    cpu: str
    cores: int = Field(description="Cores that this process may use")
    instructions: list[str] = Field(description="Of the processor's, those that move matrix products")
    device: str
    devices: int
    torch: str
    python: str
    system: str
    peak_tflops: float = Field(description="Measured rate of a large matrix product in the dtype, in 10^12/s")


class Setup(_Part):
    """What was measured."""

    models: list[str]
    random_weights: bool
    device: str
    dtype: str
    batch_size: int
    forward_batch: int = Field(description="Pictures in the batches of the forward stage")
    workers: int
    isolate: bool
    decode: str
    compiled: bool
    pictures: str = Field(description="Where they are from, or their size where they were drawn")
    repeats: int


class Verdict(_Part):
    """What bounds the rate."""

    by: Bound
    says: str = Field(description="One sentence, with what can be done")


class Change(_Part):
    """One figure beside that of an earlier document."""

    before: float
    now: float
    ratio: float = Field(description="How many times as fast it is now")
    says: Literal["faster", "slower", "the same"] = Field(description="The same: within both spreads, or 3 %")


class Comparison(_Part):
    """This document beside an earlier one."""

    file: str
    changes: dict[str, Change]
    differences: list[str] = Field(description="What else is not the same, so that ratios may mean that")


class Report(_Part):
    """One document of `clipmod bench --json`."""

    name: Literal["clipmod-bench/1"] = Field(default=SCHEMA_NAME, alias="schema")
    version: str = Field(description="Of clipmod")
    machine: Machine
    setup: Setup
    stages: dict[str, Stage] = Field(
        description="read, decode, view (on one core), decoding (all workers), forward, judge, write"
    )
    forward: dict[str, Forward] = Field(description="By model")
    end_to_end: EndToEnd
    memory: Memory
    bound: Verdict
    warnings: list[str]
    seconds: float = Field(description="That measuring took")
    comparison: Comparison | None = None


def read_report(path: Path) -> Report:
    """Return the document in a file.

    Raises:
        UsageError: if it cannot be read, or is none.
    """
    try:
        return Report.model_validate_json(path.read_bytes())
    except OSError as e:
        raise UsageError(f"cannot read {path}: {e.strerror}") from e
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"{path} is no result of `clipmod bench --json`: {where + ': ' if where else ''}{first['msg']}"
        ) from e
