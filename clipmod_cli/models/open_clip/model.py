"""Text-image models of open_clip: any architecture and tag, or a `local-dir:` folder.

Only the visual tower stays in memory. Text embeddings are cached on disk; the text tower is loaded for
prompts that are not in the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.models.backend import OPEN_CLIP, OPEN_CLIP_INT8
from clipmod_cli.models.device.crops import CropBatches
from clipmod_cli.models.device.device import Placement
from clipmod_cli.models.open_clip import towers
from clipmod_cli.models.open_clip.checkpoint import geometry_of, load_embedder
from clipmod_cli.models.open_clip.source import OpenClipSource
from clipmod_cli.models.open_clip.text_cache import TextCache, TextEmbedder
from clipmod_cli.models.tower.layers import can_multiply_int8
from clipmod_cli.models.tower.model import ModuleTower, TowerModel


@dataclass(kw_only=True)
class OpenClipModel(TowerModel):
    """One open_clip model (`TextImageModel`)."""

    revision: str
    logit_scale: float
    texts: TextEmbedder = field(repr=False)

    @property
    def spec_in_int8(self) -> str | None:
        """The spec of this model in 8 bits; None if its architecture or this machine has no such products."""
        if isinstance(self._tower, ModuleTower) or not can_multiply_int8():
            return None
        return self.spec.replace(OPEN_CLIP, OPEN_CLIP_INT8, 1)

    def embed(self, prompts: Sequence[str], *, keep: bool = False) -> NDArray[np.float32]:
        """Return unit-length float32 `(len(prompts), d)`; computes only prompts that are not cached.

        The text tower is loaded if it is needed and unloaded afterwards; with `keep` it stays.

        Raises:
            MissingModelError: the text tower is needed and cannot be read.
        """
        return self.texts.embed(prompts, keep=keep)

    def unload_text_tower(self) -> None:
        """Unload the text tower."""
        self.texts.unload()


def load(
    source: OpenClipSource,
    *,
    name: str,
    spec: str,
    placement: Placement,
    cache: TextCache,
    crops: CropBatches | None = None,
    compile: bool = False,  # noqa: A002 — the setting's name
) -> OpenClipModel:
    """Return the model with its visual tower on the device; the text tower is loaded by `embed`.

    `crops` holds the stacked batches that the models of an ensemble share.

    Raises:
        MissingModelError: the weights cannot be read or do not fit the architecture.
        SettingsError: compiling does not work on this machine.
    """
    tower = towers.load_tower(source, placement, compile=compile)
    return OpenClipModel(
        name=name,
        spec=spec,
        revision=source.revision,
        geometry=geometry_of(tower.preprocess),
        logit_scale=tower.logit_scale,
        placement=tower.placement,
        texts=TextEmbedder(cache, lambda: load_embedder(source)),
        crops=crops or CropBatches(),
        _tower=tower.embed,
    )
