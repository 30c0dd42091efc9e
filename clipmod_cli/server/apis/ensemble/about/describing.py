"""Panels → what `/health` and `/config` print of them. A model that is not loaded says so."""

from __future__ import annotations

from typing import Final

from clipmod_cli.ensemble.ensemble import Member
from clipmod_cli.models.backend import ModelSpec
from clipmod_cli.models.backends import FALLBACK as FALLBACK_SPEC
from clipmod_cli.models.specs import parse_models
from clipmod_cli.server.apis.ensemble.about.shapes import (
    CategoryInfo,
    EnsembleConfig,
    EnsembleDetails,
    FallbackConfig,
    ModelInfo,
    SingleDetails,
    WeightedModel,
)
from clipmod_cli.server.apis.ensemble.answers import METHOD
from clipmod_cli.server.panel import FALLBACK, TRIPLE, Panel
from clipmod_cli.server.service import Service
from clipmod_cli.settings.definition import Settings

TYPES: Final = {TRIPLE: "Triple-Model Ensemble System", FALLBACK: "OpenCLIP-L/14 - Fallback Model"}
DESCRIPTIONS: Final = {
    "ViT-L-14": "Large Vision Transformer - Primary model",
    "ViT-H-14": "Huge Vision Transformer - Enhanced accuracy",
    "ViT-g-14": "Giant Vision Transformer - Maximum capacity",
}
"""The document's own words."""

KINDS: Final = {"text-image": "Vision Transformer", "classifier": "Classifier", "detector": "Detector"}

LOCAL: Final = "local"
"""In place of a folder's path."""


def panels(service: Service) -> list[Panel]:
    """Return those that can judge, the one that does first."""
    return [service.panel] if service.fallback is None else [service.panel, service.fallback]


def models(
    service: Service, settings: Settings
) -> tuple[dict[str, bool], dict[str, EnsembleDetails | SingleDetails]]:
    """Return by key whether models are loaded, and what they are; both documented keys are always there."""
    loaded = {panel.key: panel for panel in panels(service)}
    alive = service.device.alive
    keys = dict.fromkeys([TRIPLE, FALLBACK, *loaded])
    status = {key: alive and key in loaded for key in keys}
    details: dict[str, EnsembleDetails | SingleDetails] = {}
    for key in keys:
        panel = loaded.get(key)
        if key == TRIPLE:
            details[key] = _ensemble(service, panel, loaded=status[key])
        else:
            details[key] = _single(panel, key, settings, loaded=status[key])
    return status, details


def ensemble_config(service: Service) -> EnsembleConfig:
    """Return the weighted set, or what judges in its place."""
    panel = service.panel
    return EnsembleConfig(
        enabled=panel.key == TRIPLE,
        models=[
            WeightedModel(name=m.model.name, weight=round(m.weight, 6), description=_description(m))
            for m in panel.ensemble.members
        ],
        classification_categories={
            c.name: CategoryInfo(label=c.label, safety=c.safety, description=c.description)
            for c in panel.policy.categories
        },
        ensemble_method=METHOD,
        confidence_threshold=panel.criteria.threshold,
        agreement_threshold=panel.policy.agreement_threshold,
    )


def fallback_config(service: Service) -> FallbackConfig:
    """Return the model that judges where the set cannot."""
    panel = next((panel for panel in panels(service) if panel.key == FALLBACK), None)
    spec = _spec_of(panel)
    return FallbackConfig(
        openclip_model_name=spec.short_name,
        openclip_pretrained=spec.tag or LOCAL,
        enabled=panel is not None,
    )


def _ensemble(service: Service, panel: Panel | None, *, loaded: bool) -> EnsembleDetails:
    members = panel.ensemble.members if panel is not None else ()
    return EnsembleDetails(
        loaded=loaded,
        type=TYPES[TRIPLE],
        models=[m.model.name for m in members],
        weights={m.model.name: f"{m.weight * 100:g}%" for m in members},
        classification_categories=[c.name for c in service.panel.policy.categories],
        ensemble_method=METHOD,
    )


def _single(panel: Panel | None, key: str, settings: Settings, *, loaded: bool) -> SingleDetails:
    spec = _spec_of(panel)
    info = ModelInfo(
        device=_device_of(panel, settings), model_name=spec.short_name, pretrained=spec.tag or LOCAL
    )
    return SingleDetails(loaded=loaded, type=_type_of(panel, key), model_info=info)


def _spec_of(panel: Panel | None) -> ModelSpec:
    """Return the first model's name; that of the documented fallback where none is loaded."""
    text = FALLBACK_SPEC if panel is None else panel.ensemble.members[0].model.spec
    return next(member.spec for member in parse_models([text]) if not isinstance(member, str))


def _device_of(panel: Panel | None, settings: Settings) -> str:
    if panel is None:
        return settings.device
    return panel.ensemble.members[0].model.device


def _type_of(panel: Panel | None, key: str) -> str:
    if panel is None or key == FALLBACK:
        return TYPES[FALLBACK]
    return "Detector" if panel.ensemble.members[0].model.kind == "detector" else "Image classifier"


def _description(member: Member) -> str:
    model = member.model
    return DESCRIPTIONS.get(model.name, KINDS[model.kind])
