"""Any image classifier of the transformers library, from a folder on this machine.

Nothing is ever run from a model repository (`trust_remote_code` stays off), and only
safetensors or `weights_only` checkpoints are read. Files are found by `models.hub.weights`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from clipmod_cli.errors import MissingModelError, SpecError
from clipmod_cli.models.device import transfer
from clipmod_cli.models.device.device import PlacedModel, Placement
from clipmod_cli.models.device.transfer import inference, send
from clipmod_cli.models.seam import ForwardPass
from clipmod_cli.types import Frame, Geometry, LabelScores

RESAMPLES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers of the interpolations that `View` knows."""

MOST_DIFFERENCE = 1e-6
"""Between our normalised pixels and the processor's own: some roundings of float32, no other arithmetic."""

Prepare = Callable[[list[NDArray[np.uint8]]], torch.Tensor]
"""From inputs `(H, W, 3)` to what the model is given, `(B, 3, H, W)`."""


@dataclass(kw_only=True)
class TransformersModel(PlacedModel):
    """One classifier, a `LabelModel`."""

    name: str
    spec: str
    revision: str
    geometry: Geometry
    labels: Sequence[str]
    _model: torch.nn.Module = field(repr=False)
    _prepare: Prepare = field(repr=False)
    _activate: Callable[[torch.Tensor], torch.Tensor] = field(repr=False)
    kind: Literal["classifier"] = "classifier"

    def prepare(self, frames: Sequence[Frame]) -> None:
        """Do nothing."""

    def submit(self, frames: Sequence[Frame]) -> Callable[[], ForwardPass]:
        """Start a forward pass; it gives each label's probability, as the library's pipeline does."""
        share, device = self.placement.share_of(len(frames)), self.placement.device
        with inference(device):
            batches = [self._send(frames[at : at + share]) for at in range(0, len(frames), share)]
            wait = transfer.submit_work(device, lambda: torch.cat([self._score(batch) for batch in batches]))
        return lambda: self._read(wait())

    def _send(self, frames: Sequence[Frame]) -> torch.Tensor:
        pixels = self._prepare([frame.inputs[self.geometry] for frame in frames])  # (B, 3, H, W)
        return send(pixels, self.placement.device).to(self.placement.dtype)

    def _score(self, pixels: torch.Tensor) -> torch.Tensor:
        return self._activate(self._model(pixels).logits.float())

    def _read(self, computed: transfer.DeviceResult) -> ForwardPass:
        rows: list[list[float]] = computed.result.tolist()
        return ForwardPass(
            [LabelScores(scores=_by_label(self.labels, row)) for row in rows], computed.seconds
        )


def load(folder: Path, *, name: str, spec: str, placement: Placement) -> TransformersModel:
    """Return the classifier in a folder with its configuration, processor and weights.

    Raises:
        MissingModelError: if something is missing in the folder or cannot be read.
        SpecError: if the model there is not an image classifier.
    """
    weights = _weights(folder)
    processor, model = _open(folder, safe=weights[0].suffix == ".safetensors")
    geometry, rest = _geometry(processor)
    # Our pixels have their channels last, and convolutions are faster with weights that have them so too.
    model = model.to(placement.device, placement.dtype, memory_format=torch.channels_last)
    model = model.eval().requires_grad_(False)  # noqa: FBT003
    return TransformersModel(
        name=name,
        spec=spec,
        revision=_revision(folder, weights),
        geometry=geometry,
        labels=[model.config.id2label[i] for i in range(model.config.num_labels)],
        placement=placement,
        _model=model,
        _prepare=_preparer(processor, geometry, rest, placement.device),
        _activate=_activation(model.config, spec),
    )


def _weights(folder: Path) -> Sequence[Path]:
    found = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    missing = [n for n in ("config.json", "preprocessor_config.json") if not (folder / n).is_file()]
    if missing or not found:
        lacks = ", ".join(missing or ["model.safetensors"])
        raise MissingModelError(f"{folder} is no folder of an image classifier: it lacks {lacks}")
    return found


def _revision(folder: Path, weights: Sequence[Path]) -> str:
    total = hashlib.sha256()
    for path in (folder / "config.json", folder / "preprocessor_config.json", *weights):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _open(folder: Path, *, safe: bool) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **local)
        _check_kind(config, folder)
        processor = AutoImageProcessor.from_pretrained(folder, **local)  # type: ignore[no-untyped-call]
        model, report = AutoModelForImageClassification.from_pretrained(
            folder, config=config, use_safetensors=safe, output_loading_info=True, **local
        )
    except SpecError:
        raise
    except Exception as e:  # each format of weights has errors of its own
        raise MissingModelError(f"transformers cannot load {folder}: {e}") from e
    if missing := sorted(report["missing_keys"]):
        # The library fills what is missing with random numbers and goes on.
        raise MissingModelError(f"the weights in {folder} lack {len(missing)} tensors, such as {missing[0]}")
    return processor, model


def _check_kind(config: Any, folder: Path) -> None:
    if "ForImageClassification" not in str(config.architectures):
        raise SpecError(f"{folder} holds {config.architectures}, which is not an image classifier")


def _geometry(processor: Any) -> tuple[Geometry, dict[str, bool]]:
    """Return the geometry that does the processor's scaling and cropping, and what is left for it to skip.

    A processor whose geometry is its own is given the whole picture and does everything itself.
    """
    from transformers.image_processing_backends import TorchvisionBackend

    own = type(processor)
    usual = issubclass(own, TorchvisionBackend) and all(
        getattr(own, method) is getattr(TorchvisionBackend, method)
        for method in ("_preprocess", "resize", "center_crop", "process_image")
    )
    geometry = _usual_geometry(processor) if usual else None
    if geometry is None:
        return Geometry(fit="whole", size=(0, 0)), {}
    return geometry, {"do_resize": False, "do_center_crop": False}


def _usual_geometry(processor: Any) -> Geometry | None:
    size, crop = processor.size, processor.crop_size
    resample = RESAMPLES.get(int(processor.resample)) if processor.resample is not None else "bilinear"
    if not processor.do_resize or getattr(processor, "do_pad", None) or resample is None:
        return None
    cut = (crop["height"], crop["width"]) if processor.do_center_crop else None
    common: dict[str, Any] = {"crop": cut, "resample": resample, "engine": "torchvision", "fast": "torch"}
    if size.get("height") and size.get("width"):
        return Geometry(fit="squash", size=(size["height"], size["width"]), **common)
    if size.get("shortest_edge") and not size.get("longest_edge") and cut:
        return Geometry(fit="shortest", size=(size["shortest_edge"], size["shortest_edge"]), **common)
    return None


def _preparer(processor: Any, geometry: Geometry, rest: dict[str, bool], device: torch.device) -> Prepare:
    """Return what makes inputs into pixels: one step of our own where it does what the processor does."""

    def prepare(pictures: list[NDArray[np.uint8]]) -> torch.Tensor:
        # what a worker sent is read-only, and torch warns of that
        tensors = [torch.from_numpy(np.require(one, requirements="W")).permute(2, 0, 1) for one in pictures]
        batch = processor(images=tensors, return_tensors="pt", input_data_format="channels_first", **rest)
        pixels: torch.Tensor = batch["pixel_values"]
        return pixels

    if not rest:
        return prepare
    quick = _normaliser(processor, device)
    height, width = geometry.crop or geometry.size
    levels = np.arange(height * width * 3, dtype=np.uint32).astype(np.uint8).reshape(height, width, 3)
    ours, theirs = quick([levels]).cpu(), prepare([levels])
    same = ours.shape == theirs.shape and bool(torch.all((ours - theirs).abs() <= MOST_DIFFERENCE))
    return quick if same else prepare


def _normaliser(processor: Any, device: torch.device) -> Prepare:
    """Return the processor's arithmetic on levels, `(x - mean) / std` with both in levels, on the device."""
    factor = float(processor.rescale_factor) if processor.do_rescale else 1.0
    mean, std = torch.zeros(3), torch.ones(3) / factor
    if processor.do_normalize:
        mean = torch.tensor(processor.image_mean) / factor
        std = torch.tensor(processor.image_std) / factor
    mean, std = (one.reshape(-1, 1, 1).to(device) for one in (mean, std))

    def normalise(pictures: list[NDArray[np.uint8]]) -> torch.Tensor:
        levels = send(torch.from_numpy(np.stack(pictures)), device)  # (B, H, W, 3)
        return levels.permute(0, 3, 1, 2).float().sub_(mean).div_(std)

    return normalise


def _activation(config: Any, spec: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function from logits to scores that `transformers.pipeline` chooses."""
    if config.problem_type == "regression":
        raise SpecError(f"{spec} is a regression model; its outputs are no probabilities")
    if config.problem_type == "multi_label_classification" or config.num_labels == 1:
        return torch.sigmoid
    return lambda logits: torch.softmax(logits, dim=-1)


def _by_label(labels: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
    # Summed, since two outputs of a classifier may carry the same label.
    total: dict[str, float] = {}
    for label, score in zip(labels, scores, strict=True):
        total[label] = total.get(label, 0.0) + score
    return total
