"""Loads the models to measure, with a policy that any of them can judge.

Does not load text towers: prompt vectors are random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.assemble import load
from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.errors import UsageError
from clipmod_cli.judge.choice import choose
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.policy.reading import load_policy
from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.models.backend import LoadContext, ModelSpec
from clipmod_cli.models.backends import HF
from clipmod_cli.models.hub import weights
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.models.seam import Model, TextImageModel
from clipmod_cli.models.specs import AUTO, ENSEMBLE, parse_models
from clipmod_cli.settings.definition import Settings
from clipmod_cli.types import Box, Embedding, Frame, Geometry, Item, Media, View

if TYPE_CHECKING:
    from clipmod_cli.models.device.device import Placement

POLICY = "nsfw"
"""Its records have the usual length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchModels:
    """The models to measure.

    Attributes:
        placement: of the models on torch; None if none is.
        specs: of the members, in their order.
    """

    ensemble: Ensemble
    criteria: Criteria
    placement: Placement | None
    specs: tuple[ModelSpec, ...]
    hub: Hub


class PromptlessModel:
    """A text-image model that embeds any prompt as a random vector; all else is the model's own."""

    kind: Literal["text-image"] = "text-image"

    def __init__(self, model: TextImageModel) -> None:
        self.name, self.spec, self.revision = model.name, model.spec, model.revision
        self.geometry = model.geometry
        self.device, self.dtype = model.device, model.dtype
        self.is_asynchronous, self.logit_scale = model.is_asynchronous, model.logit_scale
        self.prepare, self.submit = model.prepare, model.submit

    def embed(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return random unit-length float32 `(len(prompts), d)`."""
        from clipmod_cli.models.open_clip.architecture import random_vectors

        (seen,) = self.submit([_blank_frame(self.geometry)])().seen
        if not isinstance(seen, Embedding):
            raise TypeError(f"{self.name} gave {type(seen).__name__}, not an embedding")
        return random_vectors(len(prompts), len(seen.vector))


def _blank_frame(geometry: Geometry) -> Frame:
    """Return a black picture."""
    height, width = geometry.crop or geometry.size
    pixels = np.zeros((height or 1, width or 1, 3), np.uint8)
    view = View(box=Box(0, 0, width, height))
    return Frame(
        item=Item(source="", index=0), media=Media(started=0.0), view=view, inputs={geometry: pixels}
    )


def load_models(settings: Settings, *, random_weights: bool) -> BenchModels:
    """Return the models of the settings; never downloads.

    Raises:
        SpecError: if one cannot be parsed, or has no random weights.
        MissingError: if weights or a package are missing.
        SettingsError: if the device or precision is not available.
    """
    hub = Hub.from_environment(offline=True)
    if random_weights:
        models = [ENSEMBLE] if parse_models(settings.models) == AUTO else settings.models
        choice = choose(models, load_policy(POLICY), hub)
        ensemble = load(choice, settings=settings, hub=hub, load_one=_load_random)
    else:
        choice = choose(settings.models, load_policy(POLICY), hub)
        ensemble = load(choice, settings=settings, hub=hub)
    specs = tuple(member.spec for member in choice.members)
    placement = _placement(settings) if any(spec.backend.uses_torch for spec in specs) else None
    return with_bench_policy(ensemble, placement, specs=specs, hub=hub)


def _placement(settings: Settings) -> Placement:
    from clipmod_cli.models.device.device import place

    return place(settings.device, settings.dtype)


def with_bench_policy(
    ensemble: Ensemble,
    placement: Placement | None,
    *,
    specs: tuple[ModelSpec, ...] = (),
    hub: Hub | None = None,
) -> BenchModels:
    """Return an ensemble with a policy that all its models can judge."""
    models = [PromptlessModel(m.model) if m.model.kind == "text-image" else m.model for m in ensemble.members]
    members = [Member(model, m.weight) for model, m in zip(models, ensemble.members, strict=True)]
    ensemble = replace(ensemble, members=members)
    policy = _policy_for(models)
    criteria = prepare(ensemble, policy, threshold=0.5, allow_partial=True)
    hub = hub or Hub.from_environment(offline=True)
    return BenchModels(ensemble=ensemble, criteria=criteria, placement=placement, specs=specs, hub=hub)


def _load_random(spec: ModelSpec, name: str, context: LoadContext) -> Model:
    if not spec.backend.uses_torch:  # its weights come with a package
        return spec.backend.load(spec, name, context)
    from clipmod_cli.models.open_clip import architecture

    torch = context.on_torch
    return architecture.load(
        spec, name=name, placement=torch.placement, crops=torch.crops, compile=torch.compile
    )


def _policy_for(models: Sequence[Model]) -> Policy:
    """Return a policy with arbitrary labels of every classifier mapped to its categories."""
    policy = load_policy(POLICY)
    for model in models:
        if model.kind == "text-image" or any(c.labels.get(model.spec) for c in policy.categories):
            continue
        labels = model.labels
        if not labels:
            raise UsageError(f"{model.name} has no labels: its config must name them in id2label")
        categories = tuple(
            replace(c, labels={**c.labels, model.spec: (labels[i % len(labels)],)})
            for i, c in enumerate(policy.categories)
        )
        policy = replace(policy, categories=categories)
    return policy


def folder_of(spec: ModelSpec, hub: Hub) -> Any:
    """Return the local folder of a classifier from the hub; None for other models."""
    if spec.backend.prefix != HF:
        return None
    found = weights.locate(spec, hub=hub)
    return found.folder if found else None
