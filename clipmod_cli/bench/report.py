"""The JSON document of `clipmod bench --json`."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_NAME: Final = "clipmod-bench/1"


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, allow_inf_nan=False, protected_namespaces=(), serialize_by_alias=True, extra="ignore"
    )


class Stage(_Part):
    """One stage, over several repeats."""

    ms: float = Field(description="Milliseconds an image, median of the repeats")
    low_ms: float = Field(description="The fastest repeat")
    high_ms: float = Field(description="The slowest repeat")
    images_per_s: float = Field(description="1000 / ms")


class Forward(_Part):
    """The forward pass of one model."""

    spec: str = Field(description="The model, as `--models` names it")
    ms: float = Field(description="Milliseconds a view in a batch, median of the repeats")
    ms_alone: float = Field(description="Milliseconds for an image that is alone in its batch")
    gflop: float | None = Field(description="Operations for an image in 10^9; null where they are unknown")
    share_of_peak: float | None = Field(description="Operations a second over the measured peak, 0..1")


class EndToEnd(_Part):
    """From files to JSON Lines, with the pipeline of `scan`."""

    images: int = Field(description="Pictures in one run")
    runs: int
    images_per_s: float = Field(description="Median of the runs, workers started and models warm")
    low_images_per_s: float
    high_images_per_s: float
    busy_share: float = Field(
        description="Share of the wall time during which models computed, 0..1: by CUDA events where torch "
        "computes on CUDA devices, else by the time of the forward passes"
    )
    share_of_peak: float | None = Field(description="Operations a second over the measured peak, 0..1")
    views_per_image: float = Field(description="Views that the models were shown of a picture, on average")
    errors: int = Field(description="Pictures of a run that could not be judged")


class Machine(_Part):
    """The machine."""

    cpu: str
    cores: int = Field(description="Cores that this process may use")
    instructions: list[str] = Field(description="Instruction sets of the CPU for matrix products")
    device: str
    devices: int
    torch: str | None = Field(description="Its version; null if no model is on torch")
    python: str
    system: str
    peak_tflops: float | None = Field(
        description="Measured rate of a large matrix product in the dtype, in 10^12/s; null likewise"
    )


class Setup(_Part):
    """What was measured, and how."""

    models: list[str]
    random_weights: bool
    device: str
    dtype: str
    batch_size: int
    forward_batch: int = Field(description="Pictures in the batches of the forward stage")
    workers: int
    isolate: bool
    decode: str
    coverage: str
    compiled: bool
    pictures: str = Field(description="Their folder, or the size of drawn ones")
    repeats: int


class Report(_Part):
    """The whole document."""

    name: Literal["clipmod-bench/1"] = Field(default=SCHEMA_NAME, alias="schema")
    version: str = Field(description="clipmod's version")
    machine: Machine
    setup: Setup
    stages: dict[str, Stage] = Field(
        description="read, decode, view (on one core), decoding (all workers), forward, judge, write"
    )
    forward: dict[str, Forward] = Field(description="By model")
    load_seconds: float = Field(description="How long it took to load the models")
    end_to_end: EndToEnd
    seconds: float = Field(description="How long the benchmark took")
