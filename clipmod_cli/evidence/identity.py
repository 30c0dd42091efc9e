"""What a folder of evidence holds: which models looked, and how pictures were decoded for them.

Evidence of other models, weights or decoding is never mixed with it. Reads and writes `evidence.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clipmod_cli.atomic import atomic_file
from clipmod_cli.ensemble.ensemble import Ensemble, identity_of
from clipmod_cli.errors import EvidenceError
from clipmod_cli.models.seam import Model

SCHEMA_NAME: Final = "clipmod-evidence/1"
FILE_NAME: Final = "evidence.json"


class _Strict(BaseModel):
    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, serialize_by_alias=True
    )


class StoredMember(_Strict):
    """A model whose evidence is stored.

    Attributes:
        labels: of a classifier or detector; the order in which a classifier's scores are stored.
        logit_scale: of a text-image model.
    """

    name: str
    spec: str
    revision: str
    kind: Literal["text-image", "classifier", "detector"]
    weight: float
    dtype: str
    labels: list[str] | None = None
    logit_scale: float | None = None


class EvidenceIdentity(_Strict):
    """The content of `evidence.json`.

    Attributes:
        members: the models, in the order of the ensemble.
        dtype: the precision of the ensemble.
        degraded: it was less than the ensemble that `auto` prefers.
        decoding: the settings of decoding and sampling that change what the models are given.
        decoding_key: what identifies them (`pipeline.decoding_key`).
        max_gap_s: the longest gap between key frames of a video that was left unfilled, in seconds.
    """

    schema_: Literal["clipmod-evidence/1"] = Field(default=SCHEMA_NAME, alias="schema")
    members: list[StoredMember]
    dtype: str
    degraded: bool
    decoding: dict[str, str | bool]
    decoding_key: str
    max_gap_s: float

    @classmethod
    def of(
        cls, ensemble: Ensemble, *, decoding: dict[str, str | bool], decoding_key: str, max_gap_s: float
    ) -> EvidenceIdentity:
        """Return the identity of the evidence that this ensemble gives."""
        return cls(
            members=[_stored(member.model, member.weight) for member in ensemble.members],
            dtype=ensemble.dtype,
            degraded=ensemble.degraded,
            decoding=decoding,
            decoding_key=decoding_key,
            max_gap_s=max_gap_s,
        )

    @property
    def models(self) -> str:
        """What identifies the models; the `identity` of the ensemble."""
        return identity_of([(member, member.weight) for member in self.members], self.dtype)

    def difference(self, other: EvidenceIdentity) -> str | None:
        """Return in a few words how another identity differs; None if it does not."""
        if [member.spec for member in self.members] != [member.spec for member in other.members]:
            return f"models {', '.join(m.spec for m in self.members)}"
        if self.members != other.members or self.dtype != other.dtype or self.degraded != other.degraded:
            return "other weights or precision of the same models"
        if self.decoding_key != other.decoding_key or self.max_gap_s != other.max_gap_s:
            return "other settings of decoding or frames"
        return None


def _stored(model: Model, weight: float) -> StoredMember:
    return StoredMember(
        name=model.name,
        spec=model.spec,
        revision=model.revision,
        kind=model.kind,
        weight=weight,
        dtype=model.dtype,
        labels=None if model.kind == "text-image" else list(model.labels),
        logit_scale=model.logit_scale if model.kind == "text-image" else None,
    )


def read_identity(folder: Path) -> EvidenceIdentity | None:
    """Return the identity of a folder of evidence; None if the folder is missing or empty.

    Raises:
        EvidenceError: the folder holds something else, or cannot be read.
    """
    path = folder / FILE_NAME
    try:
        return EvidenceIdentity.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        if folder.is_dir() and any(folder.iterdir()):
            raise EvidenceError(
                f"{folder} holds other files, and no {FILE_NAME}: name another folder"
            ) from None
        return None
    except ValidationError as e:
        fault = e.errors()[0]
        place = ".".join(map(str, fault["loc"]))
        raise EvidenceError(f"{path} is not {SCHEMA_NAME}: {place}: {fault['msg']}") from e
    except OSError as e:
        raise EvidenceError(f"cannot read {path}: {e.strerror}") from e


def write_identity(folder: Path, identity: EvidenceIdentity) -> None:
    """Create a folder of evidence, readable by the user alone.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with atomic_file(folder / FILE_NAME, mode=0o600, sync=True) as file:
        file.write(identity.model_dump_json(indent=1).encode() + b"\n")
