"""Loads the visual or the text half of an open_clip model from a checkpoint.

The checkpoint is memory-mapped and only the tensors of that half are copied; the other half takes no memory.
A checkpoint in another layout than open_clip's own is loaded whole by open_clip.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.device.transfer import inference
from clipmod_cli.models.open_clip.source import OpenClipSource, check_weights
from clipmod_cli.models.open_clip.text_cache import Embed
from clipmod_cli.models.tower.mapped import MappedFile
from clipmod_cli.types import Geometry

log = logging.getLogger(__name__)

TEXT_BATCH = 64
"""Prompts embedded at once."""

_VISUAL = "visual."


@dataclass(frozen=True, slots=True, kw_only=True)
class VisualHalf:
    """The visual half of a model, in float32.

    Attributes:
        visual: open_clip's module.
        preprocess: open_clip's `preprocess_cfg`.
        logit_scale: factor of cosines.
        direct: its tensors have the same names in the checkpoint, after `visual.`.
    """

    visual: torch.nn.Module
    preprocess: dict[str, Any]
    logit_scale: float
    direct: bool


def load_vision(source: OpenClipSource) -> VisualHalf:
    """Return the visual half with its weights.

    Raises:
        MissingModelError: the weights cannot be read, were changed after the download, do not fit the
            architecture, or are not finite.
    """
    model, direct = _load(source, lambda name: name.startswith(_VISUAL) or name == "logit_scale")
    scale = float(model.logit_scale.detach().float().exp().reshape(()))
    return VisualHalf(
        visual=model.visual, preprocess=dict(model.visual.preprocess_cfg), logit_scale=scale, direct=direct
    )


def load_embedder(source: OpenClipSource) -> Embed:
    """Return a function that embeds texts, unit-length float32 `(B, d)`, on the CPU without autocast.

    Raises:
        MissingModelError: as for `load_vision`.
    """
    model, _ = _load(source, lambda name: not name.startswith(_VISUAL))
    tokenizer = _tokenizer(source)
    del model.visual  # free its memory

    def embed(prompts: Sequence[str]) -> NDArray[np.float32]:
        rows = []
        with inference(torch.device("cpu")):
            for start in range(0, len(prompts), TEXT_BATCH):
                tokens = tokenizer(list(prompts[start : start + TEXT_BATCH]))
                rows.append(model.encode_text(tokens, normalize=True).float().numpy())
        return np.concatenate(rows)

    return embed


def open_checkpoint(path: Path) -> Mapping[str, torch.Tensor]:
    """Return a checkpoint's tensors by name, memory-mapped; a pickle is read with `weights_only`.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is damaged, or of a format that cannot be mapped.
    """
    if path.suffix == ".safetensors":
        return MappedFile(path)
    try:
        document = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as e:
        raise ValueError(f"it cannot be mapped: {e}") from e
    document = document.get("state_dict", document) if isinstance(document, dict) else document
    if not isinstance(document, dict) or not all(isinstance(t, torch.Tensor) for t in document.values()):
        raise ValueError("it is not a dictionary of tensors")
    return document


def check_numbers(tensor: torch.Tensor, name: str, path: Path) -> None:
    """Check that weights are finite.

    Raises:
        MissingModelError: some are not.
    """
    # The sum is not finite if an element is not, and takes a tenth of the time of testing each.
    if tensor.is_floating_point() and not torch.isfinite(tensor.sum(dtype=torch.float32)):
        raise MissingModelError(
            f"{path} holds weights that are not finite ({name}), so the model cannot be used. "
            "Run `clipmod models verify` to check the file"
        )


def _load(source: OpenClipSource, selects: Callable[[str], bool]) -> tuple[Any, bool]:
    """Return the model with the selected tensors, and whether the checkpoint has open_clip's own layout."""
    check_weights(source)
    tensors = _tensors(source)
    model: Any = _skeleton(source) if tensors is not None else None
    direct = model is not None and tensors is not None and _fill(model, tensors, selects)
    if not direct:
        model = _load_whole(source)
    for name, tensor in model.state_dict().items():
        if selects(name):
            check_numbers(tensor, name, source.weights)
    return model.eval().requires_grad_(False), direct  # noqa: FBT003 — torch's signature


def _tensors(source: OpenClipSource) -> Mapping[str, torch.Tensor] | None:
    """Return the checkpoint's tensors; None if it cannot be mapped, and open_clip has to read it."""
    try:
        return open_checkpoint(source.weights)
    except (OSError, ValueError) as e:
        if source.weights.suffix == ".safetensors":
            raise _unusable(source, e) from e
        log.debug("%s: %s", source.weights, e)
        return None


def _fill(model: Any, tensors: Mapping[str, torch.Tensor], selects: Callable[[str], bool]) -> bool:
    """Copy the selected tensors from the checkpoint; return False if its layout is not the model's."""
    own: dict[str, torch.Tensor] = model.state_dict()
    if set(own) != set(tensors) or any(tensors[name].shape != own[name].shape for name in own):
        return False
    with torch.no_grad():
        for name, tensor in own.items():
            if selects(name):
                tensor.copy_(tensors[name])
    return True


def _skeleton(source: OpenClipSource) -> Any:
    """Return the model with uninitialised parameters, which take no memory; None if that fails."""
    try:
        with _SkipInit(), _without_warning():
            return _create(source, load_weights=False, pretrained_text=False)
    except Exception as e:  # noqa: BLE001 — loading it whole fails too, with the reason
        log.debug("%s cannot be built without weights: %s", source.model_name, e)
        return None


def _load_whole(source: OpenClipSource) -> Any:
    try:
        pretrained = {} if source.tag is None else {"pretrained": str(source.weights)}
        return _create(source, require_pretrained=True, weights_only=True, **pretrained)
    except Exception as e:
        raise _unusable(source, e) from e


def _unusable(source: OpenClipSource, why: Exception) -> MissingModelError:
    return MissingModelError(
        f"open_clip cannot build {source.model_name} from {source.weights}: {why}. "
        "Run `clipmod models verify` to check the file"
    )


def _create(source: OpenClipSource, **options: Any) -> Any:
    import open_clip

    if source.tag is None:
        return open_clip.create_model(source.model_name, **options)
    known = open_clip.get_pretrained_cfg(source.model_name, source.tag)
    pixels = {k: known[k] for k in ("mean", "std", "interpolation", "resize_mode") if known.get(k)}
    quick = bool(known.get("quick_gelu"))
    return open_clip.create_model(
        source.model_name, force_preprocess_cfg=pixels, force_quick_gelu=quick, **options
    )


class _SkipInit(TorchFunctionMode):
    """Skips the random initialisation of parameters; buffers (masks, positions) are computed as usual."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        keywords = dict(kwargs or {})
        if func in _RANDOM_INIT or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else keywords["tensor"]
        return func(*args, **keywords)


_RANDOM_INIT = {torch.Tensor.normal_, torch.Tensor.uniform_}


@contextmanager
def _without_warning() -> Iterator[None]:
    """Hide open_clip's warning of random weights; the checkpoint's are copied afterwards."""

    def is_other(record: logging.LogRecord) -> bool:
        return record.module != "factory" or "initialized" not in str(record.msg)

    root = logging.getLogger()
    root.addFilter(is_other)
    try:
        yield
    finally:
        root.removeFilter(is_other)


def _tokenizer(source: OpenClipSource) -> Any:
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


def geometry_of(preprocess: Mapping[str, Any]) -> Geometry:
    """Return the input geometry of an open_clip `preprocess_cfg`."""
    size, fit, fill = preprocess["size"], preprocess["resize_mode"], preprocess.get("fill_color", 0)
    height, width = (size, size) if isinstance(size, int) else size
    return Geometry(
        fit=fit,
        size=(height, width),
        crop=None if fit == "squash" else (height, width),
        resample="bilinear" if preprocess["interpolation"] == "bilinear" else "bicubic",
        fill=fill if isinstance(fill, int) else fill[0],
        fast="torch",
    )
