"""The models that are measured, and a policy under which any of them can be asked.

What they judge means nothing here: prompts stand for nothing, so no text tower is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.assemble import ModelChoice, choose, load
from clipmod_cli.bench.wishes import Wishes
from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.errors import UsageError
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.policy import Policy, load_policy
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.models import nudenet
from clipmod_cli.models.hub import weights
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.models.seam import Model, TextImageModel
from clipmod_cli.models.specs import AUTO, ENSEMBLE, Members, ModelSpec, parse_models
from clipmod_cli.settings import count_of
from clipmod_cli.types import Embedding, Frame, View

if TYPE_CHECKING:
    from clipmod_cli.models.device.crops import CropBatches
    from clipmod_cli.models.device.device import Placement

POLICY = "nsfw"
"""Records are as long as usual under it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Models ready to be measured.

    Attributes:
        specs: of the members, in their order.
    """

    ensemble: Ensemble
    criteria: Criteria
    placement: Placement
    specs: tuple[ModelSpec, ...]
    hub: Hub


class PromptlessModel:
    """A text-image model that embeds any prompt as a random vector; all else is the model's own."""

    kind: Literal["text-image"] = "text-image"

    def __init__(self, model: TextImageModel) -> None:
        self.name, self.spec, self.revision, self.view = model.name, model.spec, model.revision, model.view
        self.device, self.dtype = model.device, model.dtype
        self.is_asynchronous, self.logit_scale = model.is_asynchronous, model.logit_scale
        self.prepare, self.submit = model.prepare, model.submit

    def embed(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit-length float32 `(len(prompts), d)` that say nothing of the prompts."""
        from clipmod_cli.models.open_clip.random_weights import random_vectors

        (seen,) = self.submit([blank_frame(self.view)])().seen
        if not isinstance(seen, Embedding):
            raise TypeError(f"{self.name} gave {type(seen).__name__} and no embedding")
        return random_vectors(len(prompts), len(seen.vector))


def blank_frame(view: View) -> Frame:
    """Return a black picture."""
    from clipmod_cli.types import Item, Media

    height, width = view.crop or view.size
    pixels = np.zeros((height or 1, width or 1, 3), np.uint8)
    return Frame(item=Item(source="", index=0), media=Media(started=0.0), views={view: pixels})


def load_models(wishes: Wishes) -> Loaded:
    """Return the models that are wished for; never downloads.

    Raises:
        SpecError: if they cannot be understood, or have no random weights.
        MissingError: if weights or a package are missing.
        SettingsError: if the device or precision cannot be had.
    """
    from clipmod_cli.models.device.device import place

    settings = wishes.settings
    placement = place(settings.device, settings.dtype)
    size = None if settings.batch_size == "auto" else count_of(settings.batch_size, "--batch-size", default=1)
    hub = Hub.from_environment(offline=True)
    if wishes.random_weights:
        specs, ensemble = _load_random(wishes, placement, size)
    else:
        choice = choose(settings.models, load_policy(POLICY), hub)
        specs = tuple(member.spec for member in choice.members)
        ensemble = load(
            choice, device=settings.device, dtype=settings.dtype, batch_size=size, hub=hub
        )  # fmt: skip
    return measured_with(ensemble, placement, specs=specs, hub=hub)


def measured_with(
    ensemble: Ensemble, placement: Placement, *, specs: tuple[ModelSpec, ...] = (), hub: Hub | None = None
) -> Loaded:
    """Return an ensemble with a policy under which it can be asked."""
    members = [Member(_without_words(m.model), m.weight) for m in ensemble.members]
    ensemble = replace(ensemble, members=members)
    policy = _policy_for([m.model for m in members])
    criteria = prepare(ensemble, policy, threshold=0.5, allow_partial=True)
    hub = hub or Hub.from_environment(offline=True)
    return Loaded(ensemble=ensemble, criteria=criteria, placement=placement, specs=specs, hub=hub)


def _load_random(
    wishes: Wishes, placement: Placement, size: int | None
) -> tuple[tuple[ModelSpec, ...], Ensemble]:
    members = parse_models(wishes.settings.models)
    if members == AUTO:
        members = parse_models([ENSEMBLE])
    if members == AUTO:
        raise AssertionError("the ensemble is a list of models")
    crops = _crops_of(placement)
    loaded = [
        Member(_random_model(member.spec, name, placement, crops, wishes), member.weight)
        for member, name in zip(members, _names(members), strict=True)
    ]
    ensemble = Ensemble(
        members=loaded, dtype=loaded[0].model.dtype, batch_size=size or placement.batch_size
    )  # fmt: skip
    return tuple(member.spec for member in members), ensemble


def _names(members: Members) -> tuple[str, ...]:
    return ModelChoice(members=members, auto=False, degraded=False).names


def _crops_of(placement: Placement) -> CropBatches:
    from clipmod_cli.models.device.crops import CropBatches

    return CropBatches.of(placement)


def _random_model(
    spec: ModelSpec, name: str, placement: Placement, crops: CropBatches, wishes: Wishes
) -> Model:
    if spec.kind == "nudenet":  # its weights come with its package
        return nudenet.load(name=name, spec=spec.spec, device=str(placement.device))
    from clipmod_cli.models.open_clip import random_weights

    return random_weights.load(
        spec, name=name, placement=placement, crops=crops, compile=wishes.settings.compile
    )


def _without_words(model: Model) -> Model:
    return PromptlessModel(model) if model.kind == "text-image" else model


def _policy_for(models: Sequence[Model]) -> Policy:
    """Return a policy that gives labels of every classifier to its categories, whatever they mean."""
    policy = load_policy(POLICY)
    for model in models:
        if model.kind == "text-image" or any(c.labels.get(model.spec) for c in policy.categories):
            continue
        labels = model.labels
        if not labels:
            raise UsageError(f"{model.name} has no labels, so it cannot be measured")
        categories = tuple(
            replace(c, labels={**c.labels, model.spec: (labels[i % len(labels)],)})
            for i, c in enumerate(policy.categories)
        )
        policy = replace(policy, categories=categories)
    return policy


def folder_of(spec: ModelSpec, hub: Hub) -> Any:
    """Return the folder of a classifier of the hub that is on this machine; None for all else."""
    if spec.kind != "hf":
        return None
    found = weights.locate(spec, hub=hub)
    return found.folder if found else None
