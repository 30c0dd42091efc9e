"""The table of model backends, and what is known of models beforehand: sizes, licences, a line on each."""

from __future__ import annotations

from clipmod_cli.models.backend import Backend, KnownModel, ModelSpec
from clipmod_cli.models.backends import (
    NudeNetBackend,
    OpenClipBackend,
    OpenClipInt8Backend,
    TransformersBackend,
)
from clipmod_cli.models.onnx.backend import BUILT_IN, OnnxBackend

_ALL: tuple[Backend, ...] = (
    OpenClipBackend(),
    OpenClipInt8Backend(),
    TransformersBackend(),
    NudeNetBackend(),
    *BUILT_IN,
    OnnxBackend(),
)

BACKENDS: dict[str, Backend] = {backend.prefix: backend for backend in _ALL}
"""By prefix of their specs."""


def known_models() -> tuple[KnownModel, ...]:
    """Return the models that `clipmod models list` shows, downloaded or not."""
    return tuple(model for backend in BACKENDS.values() for model in backend.known)


def known(spec: ModelSpec) -> KnownModel | None:
    """Return what is known of this model, if anything is."""
    return next((model for model in spec.backend.known if model.spec == spec.spec), None)
