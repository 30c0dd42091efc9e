"""The body-part detector that ships in the `nudenet` package, through onnxruntime in batches.

Its arithmetic (channel order, padding, thresholds, suppression of overlaps) is that of
`nudenet.NudeDetector`; on the fast path its resize is antialiased, and the padding that makes the picture a
square ends at the next multiple of 32 (docs/design-notes.md).
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.errors import MissingPackageError
from clipmod_cli.install import install_command, require_extra
from clipmod_cli.models.hub.files import sha256_of
from clipmod_cli.models.onnx.session import open_session
from clipmod_cli.models.seam import ImmediateModel
from clipmod_cli.types import Detection, Detections, Frame, Geometry

NUDENET = "nudenet"
"""The package, and the extra that brings it."""

SIDE = 320
"""Pixels on a side of the model's input (the `320n` model)."""

STRIDE = 32
"""Of the model's coarsest feature map: it takes sides that are multiples of it."""

MOST_AT_ONCE = 64
"""Pictures in one pass of a GPU. It gains nothing beyond, and a batch may be made for several GPUs."""

GEOMETRY = Geometry(fit="corner", size=(SIDE, SIDE), resample="bilinear", engine="opencv", stride=STRIDE)
LABELS = (
    "FEMALE_GENITALIA_COVERED",
    "FACE_FEMALE",
    "BUTTOCKS_EXPOSED",
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED",
    "MALE_BREAST_EXPOSED",
    "ANUS_EXPOSED",
    "FEET_EXPOSED",
    "BELLY_COVERED",
    "FEET_COVERED",
    "ARMPITS_COVERED",
    "ARMPITS_EXPOSED",
    "FACE_MALE",
    "BELLY_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
    "ANUS_COVERED",
    "FEMALE_BREAST_COVERED",
    "BUTTOCKS_COVERED",
)
"""In the order of the model's outputs."""

CANDIDATE_SCORE = 0.2
KEPT_SCORE = 0.25
OVERLAP = 0.45
"""The package's own thresholds: the score of a candidate, of a kept box, and the overlap of suppression."""


def model_path() -> Path:
    """Return the ONNX file inside the installed package.

    Raises:
        MissingPackageError: if the package is not installed, or has no such file.
    """
    require_extra(NUDENET, "the nudenet detector")
    found = importlib.util.find_spec(NUDENET)
    path = Path(found.origin if found and found.origin else "").with_name("320n.onnx")
    if not path.is_file():
        raise MissingPackageError(f"the nudenet package here has no 320n.onnx: {install_command(NUDENET)}")
    return path


def packaged_files() -> Mapping[str, Path] | None:
    """Return the package's ONNX file by name; None if it is not installed."""
    try:
        path = model_path()
    except MissingPackageError:
        return None
    return {path.name: path}


def packaged_problems() -> list[str]:
    """Compare the detector's file with the checksum that its package was installed with."""
    try:
        path = model_path()
    except MissingPackageError as error:
        return [str(error)]
    recorded = next((f.hash for f in importlib.metadata.files("nudenet") or () if f.name == path.name), None)
    if recorded is None or recorded.mode != "sha256":
        return [f"{path} cannot be verified: the nudenet package records no sha256 of it"]
    expected = base64.urlsafe_b64decode(recorded.value + "=").hex()
    if (actual := sha256_of(path)) == expected:
        return []
    return [f"{path} was changed: its sha256 is {actual}, its package records {expected}"]


@dataclass(kw_only=True)
class NudeNetModel(ImmediateModel):
    """The detector, a `LabelModel`."""

    name: str
    spec: str
    revision: str
    device: str
    _session: Any = field(repr=False)
    _threads: ThreadPoolExecutor | None = field(repr=False, default=None)
    labels: Sequence[str] = LABELS
    kind: Literal["detector"] = "detector"
    geometry: Geometry = GEOMETRY

    def infer(self, frames: Sequence[Frame]) -> Sequence[Detections]:
        """Return what was found in each frame, boxes in original pixels."""
        if self._threads is not None:
            return [one for (one,) in self._threads.map(self._detect, [[frame] for frame in frames])]
        of_shape: dict[tuple[int, ...], list[Frame]] = {}
        for frame in frames:
            of_shape.setdefault(frame.inputs[self.geometry].shape, []).append(frame)
        found: dict[int, Detections] = {}
        for alike in of_shape.values():
            for i in range(0, len(alike), MOST_AT_ONCE):
                share = alike[i : i + MOST_AT_ONCE]
                found.update(zip(map(id, share), self._detect(share), strict=True))
        return [found[id(frame)] for frame in frames]

    def _detect(self, frames: Sequence[Frame]) -> list[Detections]:
        import cv2

        crops = [frame.inputs[self.geometry] for frame in frames]
        if any(
            max(crop.shape[:2]) != SIDE or any(side % STRIDE for side in crop.shape[:2]) for crop in crops
        ):
            raise ValueError(f"the detector takes {SIDE} pixels by a multiple of {STRIDE}, up to {SIDE}")
        # The package hands the model blue first (it swaps the channels twice); the scores depend on it.
        blob = cv2.dnn.blobFromImages(crops, 1 / 255, swapRB=True)  # (B, 3, H, W)
        (outputs,) = self._session.run(None, {self._session.get_inputs()[0].name: blob})  # (B, 22, boxes)
        return [_read(output, frame) for output, frame in zip(outputs, frames, strict=True)]


def load(*, name: str, spec: str, device: str, alone: bool = False) -> NudeNetModel:
    """Return the detector, ready.

    Args:
        name: its name in records.
        spec: what names it.
        device: where it runs; on the CPU if onnxruntime has no such device.
        alone: no other model judges, so a device that was named must be available.

    Raises:
        MissingPackageError: if it is not installed.
        SettingsError: if it is alone and the device is not available.
    """
    path = model_path()
    opened = open_session(path, device=device, name="the detector", alone=alone)
    revision = hashlib.sha256(path.read_bytes()).hexdigest()
    return NudeNetModel(
        name=name,
        spec=spec,
        revision=revision,
        device=opened.device,
        _session=opened.session,
        _threads=opened.threads,
    )


def _read(output: NDArray[np.float32], frame: Frame) -> Detections:
    """Return the detections in one output `(4 + labels, boxes)`, best first."""
    import cv2

    if not np.all(np.isfinite(output)):
        # Said aloud as a score: comparisons with NaN are all false, and would read as "nothing found".
        return Detections(found=(Detection(label=LABELS[0], score=float("nan"), box=(0, 0, 0, 0)),))
    scores = output[4:].max(axis=0)
    chosen = np.flatnonzero(scores >= CANDIDATE_SCORE)
    view = frame.view.box
    boxes = _boxes(output[:4, chosen].T, view.width, view.height)
    kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores[chosen].tolist(), KEPT_SCORE, OVERLAP)
    labels = output[4:, chosen].argmax(axis=0)
    indices = np.asarray(kept, dtype=int).reshape(-1)
    boxes[:, :2] += (view.left, view.top)
    found = [_detection(labels[i], scores[chosen][i], boxes[i]) for i in indices]
    return Detections(found=tuple(sorted(found, key=lambda d: -d.score)))


def _boxes(centred: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """Return boxes (x, y, w, h) in pixels of the view, cut at its edges, of centred ones in the input."""
    scaled = centred * (max(width, height) / SIDE)
    x = np.clip(scaled[:, 0] - scaled[:, 2] / 2, 0, width)
    y = np.clip(scaled[:, 1] - scaled[:, 3] / 2, 0, height)
    w = np.minimum(scaled[:, 2], width - x)
    h = np.minimum(scaled[:, 3], height - y)
    return np.stack([x, y, w, h], axis=1)


def _detection(label: int, score: float, box: NDArray[np.float32]) -> Detection:
    x, y, w, h = (int(value) for value in box)
    return Detection(label=LABELS[label], score=float(score), box=(x, y, w, h))
