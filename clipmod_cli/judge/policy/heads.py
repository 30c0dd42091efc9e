"""Heads: linear classifiers of one category on the embeddings of text-image models, and their files.

A head stands in a policy in place of a category's prompts. `clipmod tune head` learns it from labels.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clipmod_cli.errors import PolicyError

FORMAT: Final = "clipmod-head/1"

MAX_BYTES: Final = 16_000_000
"""A head of three models has some 15 kB; a larger file is named by mistake."""

_FACTS: Final = "clipmod"
"""The key of the facts among the metadata of the safetensors file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadOfModel:
    """The head of one text-image model: the probability of the category is a sigmoid of `x @ weights + bias`.

    Attributes:
        revision: of the weights that gave the embeddings it was learnt from.
        weights: float32 `(d,)`.
    """

    spec: str
    revision: str
    weights: NDArray[np.float32] = field(compare=False, repr=False)
    bias: float

    def probabilities(self, vectors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the probability of the category for embeddings `(n, d)` of unit length, 0..1 `(n,)`.

        Raises:
            PolicyError: the embeddings have another length.
        """
        if vectors.shape[1] != len(self.weights):
            raise PolicyError(
                f"a head for {self.spec} has {len(self.weights)} weights, and the model's embeddings have "
                f"{vectors.shape[1]} numbers: learn it again (clipmod tune head)"
            )
        logits = np.asarray(vectors, np.float64) @ self.weights.astype(np.float64) + self.bias
        # a tanh never overflows
        return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits))


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What was learnt of one category.

    Attributes:
        models: a head for each model whose evidence it was learnt from.
        digest: SHA-256 of its file, hexadecimal.
    """

    category: str
    models: tuple[HeadOfModel, ...]
    digest: str

    def of_model(self, spec: str) -> HeadOfModel | None:
        """Return the head of a model; None if there is none."""
        return next((one for one in self.models if one.spec == spec), None)


class _Facts(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class MeasuredArea(_Facts):
    """An average precision with its 95 % interval; no interval where the labels cannot bound it."""

    value: Annotated[float, Field(ge=0, le=1)]
    low: float | None = None
    high: float | None = None


class LearntModel(_Facts):
    """A model whose embeddings a head was learnt from.

    Attributes:
        c: the inverse strength of the L2 penalty that cross-validation chose.
        average_precision: of this model's head alone, cross-validated.
    """

    spec: Annotated[str, Field(min_length=1)]
    revision: Annotated[str, Field(min_length=1)]
    c: float
    average_precision: MeasuredArea


class HeadFacts(_Facts):
    """What the file of a head says beside its numbers.

    Attributes:
        learnt_on: the day.
        labels_sha256: of the labels and their inputs.
        average_precision: of all models together, cross-validated.
        zero_shot: the same of prompts, on the same labels; None if it was not measured.
        zero_shot_by: whose prompts these were.
    """

    format: Literal["clipmod-head/1"] = FORMAT
    category: Annotated[str, Field(min_length=1)]
    learnt_on: Annotated[dt.date, Field(strict=False)]
    models: Annotated[list[LearntModel], Field(min_length=1, max_length=64)]
    positives: int
    negatives: int
    labels_sha256: str
    folds: int
    average_precision: MeasuredArea
    zero_shot: MeasuredArea | None = None
    zero_shot_by: str | None = None


def head_file(facts: HeadFacts, weights: Sequence[NDArray[np.float32]], biases: Sequence[float]) -> bytes:
    """Return the content of a head's file.

    Args:
        facts: with the models in order.
        weights: of each model, `(d,)`.
        biases: likewise.
    """
    from safetensors.numpy import save

    tensors = {f"weights.{number}": one for number, one in enumerate(weights)}
    tensors["biases"] = np.asarray(biases, dtype=np.float32)
    return save(tensors, metadata={_FACTS: facts.model_dump_json()})


def read_head(path: Path) -> tuple[Head, HeadFacts]:
    """Return a head and what its file says of it.

    Raises:
        PolicyError: the file cannot be read, or is not a head.
    """
    return parse_head(_content(path), str(path))


def _content(path: Path) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise PolicyError(f"the head {path} is not a file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as e:
        raise PolicyError(f"cannot read the head {path}: {e.strerror or e}") from e
    except ValueError as e:  # NUL in the name
        raise PolicyError(f"cannot read the head {str(path)!r}: {e}") from e
    if len(data) > MAX_BYTES:
        raise PolicyError(f"{path} is larger than {MAX_BYTES} bytes; this cannot be a head")
    return data


def parse_head(data: bytes, where: str) -> tuple[Head, HeadFacts]:
    """Return a head from the content of its file; `where` names it in messages.

    Raises:
        PolicyError: it is not a head.
    """
    from safetensors import SafetensorError, deserialize

    try:
        tensors = dict(deserialize(data))  # type: ignore[no-untyped-call]
        facts = HeadFacts.model_validate_json(_metadata(data)[_FACTS])
        models = tuple(
            HeadOfModel(
                spec=model.spec,
                revision=model.revision,
                weights=_numbers(tensors, f"weights.{number}"),
                bias=float(_numbers(tensors, "biases", len(facts.models))[number]),
            )
            for number, model in enumerate(facts.models)
        )
    except ValidationError as e:
        fault = e.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise PolicyError(f"{where} is not a head ({FORMAT}): {place}: {fault['msg']}") from e
    except (SafetensorError, KeyError, ValueError) as e:
        raise PolicyError(
            f"{where} is not a head, or damaged ({e}): `clipmod tune head` writes them as .safetensors"
        ) from e
    if len({model.spec for model in models}) < len(models):
        raise PolicyError(f"{where} is not a head ({FORMAT}): a model has two")
    digest = hashlib.sha256(data).hexdigest()
    return Head(category=facts.category, models=models, digest=digest), facts


def _metadata(data: bytes) -> dict[str, str]:
    """Return the metadata of a safetensors file whose header was checked."""
    end = 8 + int.from_bytes(data[:8], "little")
    found: dict[str, str] = json.loads(data[8:end]).get("__metadata__") or {}  # it may be null
    return found


def _numbers(tensors: dict[str, Any], name: str, length: int | None = None) -> NDArray[np.float32]:
    """Return a tensor `(length,)`; ValueError if it has another shape or type, or a number is not finite."""
    tensor = tensors[name]
    shape = tensor["shape"]
    if tensor["dtype"] != "F32" or len(shape) != 1 or length not in {None, *shape}:
        raise ValueError(f"{name} is not a row of float32 numbers of the right length")
    numbers = np.frombuffer(tensor["data"], dtype="<f4").astype(np.float32)
    if not len(numbers) or not np.isfinite(numbers).all():
        raise ValueError(f"{name} has no numbers, or some that are not finite")
    return numbers
