"""A vision tower's one-off file: 16-bit matrices and all there is to know besides, in a safetensors file.

A file is used only if it is sealed (its own description hashes to what it says), of these very weights,
and its numbers add up to what was written; whatever else it is, it counts as absent. What is in memory is
made by `models.vision_tower`; when files are written and read is `models.towers`.

float16 keeps 11 bits of each number and bfloat16 8, so float16 is written, and converted where bfloat16 is
computed in; a matrix that float16 cannot hold that well (too large, or mostly too small) is written in
bfloat16, or as it is. Vectors, positions, patches and the projection are few, and written as they are.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clipmod_cli.models.tower.mapped import DTYPES, MappedFile, SequentialReader
from clipmod_cli.models.tower.shape import TowerShape

log = logging.getLogger(__name__)

WORST_ERRORS = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
"""The largest relative error of a matrix in each precision: that of rounding, with all numbers in range."""

_ABOUT, _SEAL = "clipmod_tower", "clipmod_seal"
_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ALIGNMENT = 64
_WORD = 2**64
_MIX = 0x9E3779B97F4A7C15
"""Odd, so that a tensor's sum counts differently in each place, and none is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerInfo:
    """What a file says of its tower.

    Attributes:
        revision: of the weights it was made of, with their configuration.
        preprocess: open_clip's settings for pictures.
        logit_scale: what cosines are multiplied with.
        lossless: all numbers are those of the checkpoint, so that float32 may use them too.
        names: each tensor's name in the checkpoint, where it is there as it is; else empty.
        whole: the file holds the numbers too. Without them it still spares open_clip's being asked.
    """

    revision: str
    shape: TowerShape
    preprocess: Mapping[str, Any]
    logit_scale: float
    lossless: bool
    names: Mapping[str, str]
    whole: bool


@dataclass(frozen=True, slots=True)
class TowerFile:
    """A file whose description may be believed."""

    path: Path
    about: TowerInfo
    _file: MappedFile
    _total: int

    def state(self) -> SequentialReader | None:
        """Return the tensors for a reader that takes one after the other; None if they are not as written.

        Looks at all of them, at the speed of memory.
        """
        if not self.about.whole:
            return None
        try:
            same = _total(self._file) == self._total
            why = "" if same else "its numbers do not add up to what was written"
        except ValueError as e:
            why = str(e)
        if why:
            _say_unusable(self.path, why)
            return None
        return SequentialReader(self._file)


def narrow(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor as a file holds it; `name` is ours (`models.tower_shape`)."""
    if tensor.ndim != 2 or not name.startswith("blocks.") or tensor.dtype != torch.float32:
        return tensor.contiguous()
    size = float(tensor.norm())
    for dtype, worst in WORST_ERRORS.items():
        short = tensor.to(dtype)
        if float((short.float() - tensor).norm()) <= worst * size:  # false where it overflowed
            return short.contiguous()
    return tensor.contiguous()


def is_lossless(name: str, tensor: torch.Tensor) -> bool:
    """Return whether `narrow` keeps the tensor's very numbers."""
    return torch.equal(narrow(name, tensor).float(), tensor.float())


def read(path: Path, revision: str) -> TowerFile | None:
    """Return a tower's file if it is whole and of the weights of this revision, else None."""
    try:
        file = MappedFile(path)
        about, total = _unseal(file, revision)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        _say_unusable(path, e)
        return None
    return TowerFile(path, about, file, total)


def write(path: Path, about: TowerInfo, state: Mapping[str, torch.Tensor]) -> None:
    """Write a tower; no guard against others, and the file is there before it is whole.

    Raises:
        OSError: it cannot be written.
    """
    # the widest first, so that all of them begin at multiples of their size
    names = sorted(state, key=lambda name: (-state[name].dtype.itemsize, name))
    header = json.dumps(_header(about, {name: state[name] for name in names})).encode()
    header += b" " * (-(len(header) + 8) % _ALIGNMENT)
    with path.open("wb") as out:
        out.write(len(header).to_bytes(8, "little") + header)
        for name in names:
            out.write(_bytes(state[name]))
        out.flush()
        os.fsync(out.fileno())


def _say_unusable(path: Path, why: Exception | str) -> None:
    log.warning("the 16-bit tower in %s is not used: %s", path, why)


def _header(about: TowerInfo, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    header: dict[str, Any] = {}
    at = 0
    for name, tensor in state.items():
        end = at + tensor.numel() * tensor.dtype.itemsize
        header[name] = {
            "dtype": _DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, end],
        }
        at = end
    total = _mix({name: _sum(memoryview(_bytes(tensor))) for name, tensor in state.items()})
    text = json.dumps({**asdict(about), "total": total, "open_clip": _open_clip_version()})
    table = sorted((name, str(tensor.dtype), tuple(tensor.shape)) for name, tensor in state.items())
    return {"__metadata__": {_ABOUT: text, _SEAL: _seal(text, table)}, **header}


def _unseal(file: MappedFile, revision: str) -> tuple[TowerInfo, int]:
    """Return what the file says of itself and what its numbers add up to.

    Raises:
        ValueError: it is not as it was written, or of other weights.
    """
    text = file.metadata.get(_ABOUT, "")
    if file.metadata.get(_SEAL) != _seal(text, file.describe()):
        raise ValueError("its description is damaged")
    document = json.loads(text)
    if document.pop("open_clip") != _open_clip_version():
        raise ValueError("another version of open_clip described the model")
    total = document.pop("total")
    about = TowerInfo(**{**document, "shape": TowerShape(**document["shape"])})
    if about.revision != revision:
        raise ValueError("it was made of other weights")
    held = {name: shape for name, _, shape in file.describe()}
    if held != (dict(about.shape.tensors()) if about.whole else {}):
        raise ValueError("its tensors are not those of the tower")
    return about, total


def _seal(text: str, table: list[tuple[str, str, tuple[int, ...]]]) -> str:
    return hashlib.sha256(json.dumps([text, table]).encode()).hexdigest()


def _total(file: MappedFile) -> int:
    """Return what all numbers add up to; ValueError if some are not finite."""
    sums = {}
    for name in file:
        with file.data(name) as data:
            sums[name] = _sum(data)
        if not _is_finite(file[name]):
            raise ValueError(f"its numbers are not all finite ({name})")
        file.release(name)
    return _mix(sums)


def _mix(sums: Mapping[str, int]) -> int:
    total = 0
    for name in sorted(sums):
        total = (total * _MIX + sums[name]) % _WORD
    return total


def _sum(data: memoryview) -> int:
    """Return the sum of 64-bit words: 10 GB/s, and no byte can change without changing it."""
    even = len(data) // 8 * 8
    words = np.frombuffer(data[:even], dtype="<u8")
    return (int(np.add.reduce(words, dtype=np.uint64)) + int.from_bytes(data[even:], "little")) % _WORD


def _is_finite(tensor: torch.Tensor) -> bool:
    low, high = torch.aminmax(tensor)  # either is not a number if one member is not
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _bytes(tensor: torch.Tensor) -> Any:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().data


def _open_clip_version() -> str:
    return importlib.metadata.version("open_clip_torch")
