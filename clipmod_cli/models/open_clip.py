"""Text-image models of open_clip: any architecture and tag, or a `local-dir:` folder.

Only the visual tower stays in memory; text embeddings are cached on disk by
`clipmod_cli.models.text_cache`. Finding and downloading weights is `models.weights`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.device import Placement
from clipmod_cli.models.kept import WeightFiles
from clipmod_cli.models.specs import ModelSpec
from clipmod_cli.models.text_cache import TextCache
from clipmod_cli.types import Embedding, Frame, View

TEXT_BATCH = 64
"""Prompts embedded at once; a text tower is small beside a visual one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What open_clip is asked to build.

    Attributes:
        model_name: for `create_model` and `get_tokenizer`.
        weights: the file that must be loaded; nothing else ever is.
        settings: for `create_model`: preprocessing and activation of a pretrained tag.
        revision: identifies weights, configuration and preprocessing.
        tokenizer: the folder of a vocabulary that open_clip does not carry itself.
    """

    model_name: str
    weights: Path
    settings: dict[str, Any]
    revision: str
    tokenizer: Path | None = None


def tag_source(spec: ModelSpec, files: WeightFiles) -> Source:
    """Return the source for an architecture and pretrained tag whose files are here."""
    import open_clip

    arch, tag = str(spec.arch), str(spec.tag)
    known = open_clip.get_pretrained_cfg(arch, tag)
    wanted = {k: known[k] for k in ("mean", "std", "interpolation", "resize_mode") if known.get(k)}
    settings = {
        "pretrained": str(files.weights),
        "force_preprocess_cfg": wanted,
        "force_quick_gelu": bool(known.get("quick_gelu")),
    }
    hashes = sorted((files.sha256 or {}).items())
    identity = json.dumps([spec.spec, files.commit, files.weights.name, hashes])
    return Source(
        model_name=arch,
        weights=files.weights,
        settings=settings,
        revision=hashlib.sha256(identity.encode()).hexdigest(),
        tokenizer=files.tokenizer,
    )


def folder_source(folder: Path) -> Source:
    """Return the source for a folder with `open_clip_config.json` and safetensors.

    Raises:
        MissingModelError: if either is missing. open_clip itself would go on with random weights.
    """
    config = folder / "open_clip_config.json"
    if not config.is_file():
        raise MissingModelError(f"{folder} has no open_clip_config.json, so it is no open_clip model folder")
    found = sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        raise MissingModelError(f"{folder} must hold exactly one .safetensors file; it holds {len(found)}")
    revision = hashlib.sha256(config.read_bytes())
    with found[0].open("rb") as file:
        revision.update(hashlib.file_digest(file, "sha256").digest())
    return Source(
        model_name=f"local-dir:{folder}", weights=found[0], settings={}, revision=revision.hexdigest()
    )


@dataclass
class OpenClipModel:
    """One open_clip model, after the seam `TextImageModel`."""

    name: str
    spec: str
    revision: str
    view: View
    logit_scale: float
    placement: Placement
    cache: TextCache
    _visual: torch.nn.Module = field(repr=False)
    _mean: torch.Tensor = field(repr=False)
    _std: torch.Tensor = field(repr=False)
    _embed_texts: Callable[[Sequence[str]], NDArray[np.float32]] | None = field(repr=False)
    _reload: Callable[[], Callable[[Sequence[str]], NDArray[np.float32]]] = field(repr=False)

    def embed(self, prompts: Sequence[str], *, keep: bool = False) -> NDArray[np.float32]:
        """Return unit-length float32 `(len(prompts), d)`; computes only what was never seen.

        The text tower is let go afterwards, and read again from disk if it is needed again; with `keep`
        it stays until `let_go`.
        """
        known = {prompt: self.cache.get(prompt) for prompt in prompts}
        missing = [prompt for prompt, vector in known.items() if vector is None]
        if missing:
            embed = self._embed_texts = self._embed_texts or self._reload()
            for prompt, vector in zip(missing, embed(missing), strict=True):
                self.cache.put(prompt, vector)
                known[prompt] = vector
        if not keep:
            self.let_go()
        return np.stack([vector for p in prompts if (vector := known[p]) is not None])

    def let_go(self) -> None:
        """Have the text tower no longer in memory."""
        self._embed_texts = None

    def measure(self, frames: Sequence[Frame]) -> Sequence[Embedding]:
        """Return the unit-length image embedding of each frame, float32 `(d,)`."""
        crops = torch.from_numpy(np.stack([frame.views[self.view] for frame in frames]))  # (B, H, W, 3)
        device, dtype = self.placement.device, self.placement.dtype
        with torch.inference_mode():
            pixels = crops.to(device).permute(0, 3, 1, 2).float().div_(255)  # (B, 3, H, W)
            out = self._visual(((pixels - self._mean) / self._std).to(dtype))
            pooled = out[0] if isinstance(out, tuple) else out
            vectors = torch.nn.functional.normalize(pooled.float(), dim=-1).cpu().numpy()
        return [Embedding(vector=vector) for vector in vectors]


def load(source: Source, *, name: str, spec: str, placement: Placement, cache: TextCache) -> OpenClipModel:
    """Return the model with its visual tower on the device; its text tower waits for `embed`.

    Raises:
        MissingModelError: if the weights cannot be read or do not fit the architecture.
    """
    model = _create(source)
    preprocess: dict[str, Any] = dict(model.visual.preprocess_cfg)
    visual = model.visual.to(placement.device, placement.dtype).eval()
    return OpenClipModel(
        name=name,
        spec=spec,
        revision=source.revision,
        view=_view(preprocess),
        logit_scale=float(model.logit_scale.detach().float().exp().reshape(())),
        placement=placement,
        cache=cache,
        _visual=visual,
        _mean=_channels(preprocess["mean"], placement),
        _std=_channels(preprocess["std"], placement),
        _embed_texts=_embedder(model, source),
        _reload=lambda: _embedder(_create(source), source),
    )


def _create(source: Source) -> Any:
    import open_clip

    try:
        model = open_clip.create_model(
            source.model_name, require_pretrained=True, weights_only=True, **source.settings
        )
    except Exception as e:
        raise MissingModelError(
            f"open_clip cannot build {source.model_name} from {source.weights}: {e}. "
            "`clipmod models verify` tells whether the file is whole"
        ) from e
    return model.eval().requires_grad_(False)  # noqa: FBT003 — torch's signature


def _embedder(model: Any, source: Source) -> Callable[[Sequence[str]], NDArray[np.float32]]:
    """Return a function that embeds texts in float32 on the CPU, where the text tower stays.

    The model loses its visual tower, so that whoever keeps the function does not keep that too.
    """
    tokenizer = _tokenizer(source)
    del model.visual

    def embed(prompts: Sequence[str]) -> NDArray[np.float32]:
        rows = []
        with torch.inference_mode():
            for start in range(0, len(prompts), TEXT_BATCH):
                tokens = tokenizer(list(prompts[start : start + TEXT_BATCH]))
                rows.append(model.encode_text(tokens, normalize=True).float().numpy())
        return np.concatenate(rows)

    return embed


def _tokenizer(source: Source) -> Any:
    import open_clip

    if source.tokenizer is None:
        return open_clip.get_tokenizer(source.model_name)
    text = open_clip.get_model_config(source.model_name)["text_cfg"]
    return open_clip.tokenizer.HFTokenizer(
        str(source.tokenizer),
        context_length=text.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH),
        tokenizer_mode=text.get("tokenizer_mode"),
        **text.get("tokenizer_kwargs", {}),
    )


def _view(preprocess: dict[str, Any]) -> View:
    size = preprocess["size"]
    height, width = (size, size) if isinstance(size, int) else size
    fits: dict[str, Literal["shortest", "longest", "squash"]] = {
        "shortest": "shortest",
        "longest": "longest",
        "squash": "squash",
    }
    fill = preprocess.get("fill_color", 0)
    return View(
        fit=fits[preprocess["resize_mode"]],
        size=(height, width),
        crop=None if preprocess["resize_mode"] == "squash" else (height, width),
        resample="bilinear" if preprocess["interpolation"] == "bilinear" else "bicubic",
        fill=fill if isinstance(fill, int) else fill[0],
    )


def _channels(values: Sequence[float], placement: Placement) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=placement.device).reshape(1, 3, 1, 1)
