"""The models whose evidence is stored, as far as a policy needs them: labels, and text towers for prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.evidence.identity import EvidenceIdentity, StoredMember
from clipmod_cli.models.backend import ModelSpec
from clipmod_cli.models.hub.weights import WeightFiles
from clipmod_cli.models.seam import ModelWithLabels, ModelWithPrompts
from clipmod_cli.models.specs import AUTO, parse_models

StoredModel: TypeAlias = ModelWithPrompts | ModelWithLabels


@dataclass(slots=True, kw_only=True)
class _StoredTextModel:
    name: str
    spec: str
    revision: str
    dtype: str
    logit_scale: float
    embedder: Callable[[Sequence[str]], NDArray[np.float32]]
    kind: Literal["text-image"] = "text-image"

    def embed(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit-length float32 `(len(prompts), d)`."""
        return self.embedder(prompts)


@dataclass(slots=True, kw_only=True)
class _StoredLabelModel:
    name: str
    spec: str
    revision: str
    dtype: str
    kind: Literal["classifier", "detector"]
    labels: Sequence[str]


def stored_models(
    identity: EvidenceIdentity, fetch: Callable[[ModelSpec], WeightFiles]
) -> list[tuple[StoredModel, float]]:
    """Return the models whose evidence is stored, with their weights, for `criteria_of`; none is loaded.

    Args:
        identity: of the evidence.
        fetch: gives the files of a text-image model. It is called for prompts that are not cached: they need
            the text tower, and embedding them raises MissingModelError where it is not available.

    Raises:
        SpecError: a model of this spec is not known any more.
    """
    return [(_stored_model(member, fetch), member.weight) for member in identity.members]


def _stored_model(member: StoredMember, fetch: Callable[[ModelSpec], WeightFiles]) -> StoredModel:
    if member.kind != "text-image":
        return _StoredLabelModel(
            name=member.name,
            spec=member.spec,
            revision=member.revision,
            dtype=member.dtype,
            kind=member.kind,
            labels=member.labels or (),
        )
    found = parse_models([f"{member.spec}=1"])  # a path may hold a `=`
    if found == AUTO or member.logit_scale is None:
        raise AssertionError("the evidence of a text-image model has its spec and its scale")
    spec = found[0].spec
    return _StoredTextModel(
        name=member.name,
        spec=member.spec,
        revision=member.revision,
        dtype=member.dtype,
        logit_scale=member.logit_scale,
        embedder=spec.backend.text_embedder(spec, member.revision, fetch).embed,
    )
