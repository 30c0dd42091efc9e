"""Text-image models of open_clip: any architecture and tag, or a `local-dir:` folder.

Only the visual tower stays in memory. Text embeddings are cached on disk; the text tower is loaded for
prompts that are not in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.models.device.crops import CropBatches
from clipmod_cli.models.device.device import Placement
from clipmod_cli.models.open_clip import towers
from clipmod_cli.models.open_clip.checkpoint import Embed, geometry_of, load_embedder, release_freed_memory
from clipmod_cli.models.open_clip.source import OpenClipSource
from clipmod_cli.models.open_clip.text_cache import TextCache
from clipmod_cli.models.tower.model import TowerModel


@dataclass(kw_only=True)
class OpenClipModel(TowerModel):
    """One open_clip model (`TextImageModel`)."""

    revision: str
    logit_scale: float
    cache: TextCache
    _embed_texts: Embed | None = field(repr=False)
    _reload: Callable[[], Embed] = field(repr=False)

    def embed(self, prompts: Sequence[str], *, keep: bool = False) -> NDArray[np.float32]:
        """Return unit-length float32 `(len(prompts), d)`; computes only prompts that are not cached.

        The text tower is loaded if it is needed and unloaded afterwards; with `keep` it stays.

        Raises:
            MissingModelError: the text tower is needed and cannot be read.
        """
        known = {prompt: self.cache.get(prompt) for prompt in prompts}
        missing = [prompt for prompt, vector in known.items() if vector is None]
        if missing:
            embed = self._embed_texts = self._embed_texts or self._reload()
            for prompt, vector in zip(missing, embed(missing), strict=True):
                self.cache.put(prompt, vector)
                known[prompt] = vector
        if not keep:
            self.unload_text_tower()
        return np.stack([vector for p in prompts if (vector := known[p]) is not None])

    def unload_text_tower(self) -> None:
        """Unload the text tower."""
        if self._embed_texts is not None:
            self._embed_texts = None
            release_freed_memory()


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
        cache=cache,
        crops=crops or CropBatches(),
        _tower=tower.embed,
        _embed_texts=None,
        _reload=lambda: load_embedder(source),
    )
