"""A described ONNX image classifier, loaded: pictures as decoding cut them to scores of its labels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from clipmod_cli.errors import ClipmodError, SpecError
from clipmod_cli.models.onnx.description import Description
from clipmod_cli.models.onnx.session import open_session
from clipmod_cli.models.seam import ImmediateModel
from clipmod_cli.types import Frame, Geometry, LabelScores

MOST_AT_ONCE = 64
"""Pictures in one pass of a GPU."""

_NEARLY = 1e-3
"""How far from 1 the scores of a graph that ends in a softmax may sum to."""


@dataclass(kw_only=True)
class OnnxClassifier(ImmediateModel):
    """The classifier, a `LabelModel`."""

    name: str
    spec: str
    revision: str
    device: str
    geometry: Geometry
    labels: Sequence[str]
    description: Description = field(repr=False)
    _session: Any = field(repr=False)
    _threads: ThreadPoolExecutor | None = field(repr=False, default=None)
    kind: Literal["classifier"] = "classifier"

    def infer(self, frames: Sequence[Frame]) -> Sequence[LabelScores]:
        """Return the scores of each frame; on a CPU one picture a core, which is fastest."""
        most = MOST_AT_ONCE if self._threads is None and self._takes_batches() else 1
        shares = [frames[i : i + most] for i in range(0, len(frames), most)]
        done = (
            map(self._classify, shares)
            if self._threads is None
            else self._threads.map(self._classify, shares)
        )
        return [one for share in done for one in share]

    def _takes_batches(self) -> bool:
        return not isinstance(self._session.get_inputs()[0].shape[0], int)

    def _classify(self, frames: Sequence[Frame]) -> list[LabelScores]:
        scores = self.score(
            np.stack([_prepare(frame.inputs[self.geometry], self.description) for frame in frames])
        )
        return [LabelScores(scores=dict(zip(self.labels, map(float, row), strict=True))) for row in scores]

    def score(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the scores `(n, labels)`, 0..1, of prepared pictures in the graph's own layout.

        Raises:
            ValueError: the graph gives something else.
        """
        outputs = self._session.run(None, {self._session.get_inputs()[0].name: batch})
        scores = np.asarray(outputs[0], np.float32)
        if scores.shape != (len(batch), len(self.labels)):
            raise ValueError(
                f"the graph gives {scores.shape}, not a score for each of {len(self.labels)} labels"
            )
        return scores if self.description.softmax else _softmax(scores)


def load(
    description: Description, path: Path, *, name: str, spec: str, device: str, alone: bool = False
) -> OnnxClassifier:
    """Return the classifier, ready; it has looked at one grey picture, so its description fits its graph.

    Args:
        description: what it is.
        path: its ONNX file.
        name: its name in records.
        spec: what names it.
        device: where it runs; on the CPU if onnxruntime has no such device.
        alone: no other model judges, so a device that was named must be available.

    Raises:
        MissingModelError: the file is not the described one.
        SettingsError: it is alone and the device is not available.
        SpecError: the description does not fit the graph.
    """
    weights = description.read_weights(path)
    try:
        opened = open_session(weights, device=device, name=name, alone=alone)
    except ClipmodError:
        raise
    except Exception as error:  # each fault of a file has a class of onnxruntime's own
        raise SpecError(f"{spec}: onnxruntime cannot read {path}: {_first_line(error)}") from error
    model = OnnxClassifier(
        name=name,
        spec=spec,
        revision=description.revision,
        device=opened.device,
        geometry=description.geometry,
        labels=description.labels,
        description=description,
        _session=opened.session,
        _threads=opened.threads,
    )
    _try_out(model)
    return model


def _try_out(model: OnnxClassifier) -> None:
    grey = np.full((*model.description.input_size, 3), 128, np.uint8)
    try:
        total = float(model.score(_prepare(grey, model.description)[np.newaxis]).sum())
    except Exception as error:  # as above
        raise SpecError(
            f"{model.spec}: its description does not fit its graph: {_first_line(error)}"
        ) from error
    if not abs(total - 1) <= _NEARLY:
        raise SpecError(f"{model.spec}: scores sum to {total:.3g}: the graph does not end in a softmax")


def _prepare(pixels: NDArray[np.uint8], description: Description) -> NDArray[np.float32]:
    """Return what the graph takes of one picture, float32 `(h, w, 3)` or `(3, h, w)`.

    Args:
        pixels: uint8 `(h, w, 3)` RGB, scaled and cut.
        description: how it is prepared.

    Raises:
        ValueError: the picture has another size.
    """
    if pixels.shape != (*description.input_size, 3):
        raise ValueError(f"the model takes pictures of {description.input_size}, not {pixels.shape}")
    if description.jpeg:
        pixels = _through_jpeg(pixels)
    if description.channels == "BGR":
        pixels = np.ascontiguousarray(pixels[:, :, ::-1])
    # for whole rows at once: numpy is slow at a last axis of 3
    mean, scale = (
        np.tile(np.array(each, np.float32), pixels.shape[1]) for each in (description.mean, description.scale)
    )
    rows = np.subtract(pixels.reshape(len(pixels), -1), mean, dtype=np.float32)
    rows *= scale
    prepared = rows.reshape(pixels.shape)
    return np.ascontiguousarray(prepared if description.layout == "NHWC" else prepared.transpose(2, 0, 1))


def _through_jpeg(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    with io.BytesIO() as buffer:
        Image.fromarray(pixels).save(buffer, "JPEG")
        # libjpeg-turbo as in Pillow, in half the time; its encoder rounds colours in another way
        decoded: NDArray[np.uint8] = simplejpeg.decode_jpeg(buffer.getbuffer(), "RGB")
        return decoded


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
