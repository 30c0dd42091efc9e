"""One half of an open_clip model, built by open_clip with the numbers of that half only.

A checkpoint is mapped, and the tensors that are wanted are copied out of it one by one; the other half
never takes memory. Where a checkpoint is not laid out as open_clip's own are, open_clip loads it whole.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

from clipmod_cli.errors import MissingModelError
from clipmod_cli.models.open_clip.source import OpenClipSource, check_weights
from clipmod_cli.models.tower.forward import plain
from clipmod_cli.models.tower.mapped import MappedFile, SequentialReader
from clipmod_cli.types import View

log = logging.getLogger(__name__)

Embed = Callable[[Sequence[str]], NDArray[np.float32]]

TEXT_BATCH = 64
"""Prompts embedded at once; a text tower is small beside a visual one."""

_VISUAL = "visual."


@dataclass(frozen=True, slots=True, kw_only=True)
class Vision:
    """The half that sees, in float32.

    Attributes:
        visual: open_clip's own module.
        preprocess: open_clip's own settings.
        logit_scale: what cosines are multiplied with.
        direct: its tensors are those of the checkpoint by the same names, after `visual.`.
    """

    visual: torch.nn.Module
    preprocess: dict[str, Any]
    logit_scale: float
    direct: bool


def load_vision(source: OpenClipSource) -> Vision:
    """Return the vision tower with its weights.

    Raises:
        MissingModelError: the weights cannot be read, are not those that were downloaded, do not fit the
            architecture, or are not all numbers.
    """
    model, direct = _load(source, lambda name: name.startswith(_VISUAL) or name == "logit_scale")
    scale = float(model.logit_scale.detach().float().exp().reshape(()))
    return Vision(
        visual=model.visual, preprocess=dict(model.visual.preprocess_cfg), logit_scale=scale, direct=direct
    )


def load_embedder(source: OpenClipSource) -> Embed:
    """Return a function that embeds texts to unit length in float32 on the CPU, whatever autocast is around.

    Raises:
        MissingModelError: as for `load_vision`.
    """
    model, _ = _load(source, lambda name: not name.startswith(_VISUAL))
    tokenizer = _tokenizer(source)
    del model.visual  # whoever keeps the function does not keep that too

    def embed(prompts: Sequence[str]) -> NDArray[np.float32]:
        rows = []
        with plain(torch.device("cpu")):
            for start in range(0, len(prompts), TEXT_BATCH):
                tokens = tokenizer(list(prompts[start : start + TEXT_BATCH]))
                rows.append(model.encode_text(tokens, normalize=True).float().numpy())
        return np.concatenate(rows)

    return embed


def open_checkpoint(path: Path) -> Mapping[str, torch.Tensor]:
    """Return a checkpoint's tensors by name, mapped; a pickle gives numbers only and runs nothing.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is damaged, or not of a kind that can be mapped.
    """
    if path.suffix == ".safetensors":
        return SequentialReader(MappedFile(path))
    try:
        document = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as e:
        raise ValueError(f"it cannot be mapped: {e}") from e
    document = document.get("state_dict", document) if isinstance(document, dict) else document
    if not isinstance(document, dict) or not all(isinstance(t, torch.Tensor) for t in document.values()):
        raise ValueError("it is no table of tensors")
    return document


def check_numbers(tensor: torch.Tensor, name: str, path: Path) -> None:
    """Refuse weights that are not all numbers.

    Raises:
        MissingModelError: some are not finite.
    """
    # A sum is not finite if a member is not, and takes a tenth of the time of looking at each.
    if tensor.is_floating_point() and not torch.isfinite(tensor.sum(dtype=torch.float32)):
        raise MissingModelError(
            f"{path} holds weights that are not finite ({name}): no picture can be judged with them. "
            "`clipmod models verify` tells whether the file is whole"
        )


def _load(source: OpenClipSource, wanted: Callable[[str], bool]) -> tuple[Any, bool]:
    """Return the model with the tensors that are wanted, and whether they are the checkpoint's own."""
    check_weights(source)
    tensors = _tensors(source)
    model: Any = _skeleton(source) if tensors is not None else None
    direct = model is not None and tensors is not None and _fill(model, tensors, wanted)
    if not direct:
        model = _whole(source)
    for name, tensor in model.state_dict().items():
        if wanted(name):
            check_numbers(tensor, name, source.weights)
    return model.eval().requires_grad_(False), direct  # noqa: FBT003 — torch's signature


def _tensors(source: OpenClipSource) -> Mapping[str, torch.Tensor] | None:
    """Return the checkpoint's tensors; None if only open_clip may be able to read it."""
    try:
        return open_checkpoint(source.weights)
    except (OSError, ValueError) as e:
        if source.weights.suffix == ".safetensors":
            raise _unusable(source, e) from e
        log.debug("%s: %s", source.weights, e)
        return None


def _fill(model: Any, tensors: Mapping[str, torch.Tensor], wanted: Callable[[str], bool]) -> bool:
    """Copy what is wanted from the checkpoint; return False if it is not laid out as the model is."""
    own: dict[str, torch.Tensor] = model.state_dict()
    if set(own) != set(tensors) or any(tensors[name].shape != own[name].shape for name in own):
        return False
    with torch.no_grad():
        for name, tensor in own.items():
            if wanted(name):
                tensor.copy_(tensors[name])
    return True


def _skeleton(source: OpenClipSource) -> Any:
    """Return the model with memory that was never written to, so that none is taken; None if that fails."""
    try:
        with _Unwritten(), _without_warning():
            return _create(source, load_weights=False, pretrained_text=False)
    except Exception as e:  # noqa: BLE001 — loading it whole fails likewise, and says why
        log.debug("%s cannot be built without weights: %s", source.model_name, e)
        return None


def _whole(source: OpenClipSource) -> Any:
    try:
        pretrained = {} if source.tag is None else {"pretrained": str(source.weights)}
        return _create(source, require_pretrained=True, weights_only=True, **pretrained)
    except Exception as e:
        raise _unusable(source, e) from e


def _unusable(source: OpenClipSource, why: Exception) -> MissingModelError:
    return MissingModelError(
        f"open_clip cannot build {source.model_name} from {source.weights}: {why}. "
        "`clipmod models verify` tells whether the file is whole"
    )


def _create(source: OpenClipSource, **how: Any) -> Any:
    import open_clip

    if source.tag is None:
        return open_clip.create_model(source.model_name, **how)
    known = open_clip.get_pretrained_cfg(source.model_name, source.tag)
    pixels = {k: known[k] for k in ("mean", "std", "interpolation", "resize_mode") if known.get(k)}
    quick = bool(known.get("quick_gelu"))
    return open_clip.create_model(
        source.model_name, force_preprocess_cfg=pixels, force_quick_gelu=quick, **how
    )


class _Unwritten(TorchFunctionMode):
    """Has modules made without drawing their first weights: all of them are copied from a checkpoint.

    What is not a parameter (masks, tables of positions) is computed as always.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in _DRAWING or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else given["tensor"]
        return func(*args, **given)


_DRAWING = {torch.Tensor.normal_, torch.Tensor.uniform_}


@contextmanager
def _without_warning() -> Iterator[None]:
    """Keep open_clip from warning that a model has random weights, which it is given afterwards."""

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


def view_of(preprocess: Mapping[str, Any]) -> View:
    """Return the geometry of an open_clip `preprocess_cfg`."""
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
