"""A vision tower's 16-bit file: matrices in 16 bit and metadata, in safetensors format.

A file counts as absent unless its checksums match and it was made of the same weights. `open_clip.towers`
decides when files are written and read.

float16 keeps 11 bits of a number and bfloat16 8, so matrices are stored in float16; one that float16 cannot
hold (numbers too large, or mostly too small) in bfloat16 or unchanged. Other tensors are few and unchanged.
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

from clipmod_cli.models.tower.mapped import DTYPES, MappedFile
from clipmod_cli.models.tower.shape import TowerShape

log = logging.getLogger(__name__)

MAX_ERRORS = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
"""The largest relative error of a matrix in each precision: that of rounding, with all numbers in range."""

_INFO, _SEAL = "clipmod_tower", "clipmod_seal"
_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_ALIGNMENT = 64
_WORD = 2**64
_MIX = 0x9E3779B97F4A7C15
"""Odd, so that the order of tensors matters and no bit is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerInfo:
    """The metadata of a tower file.

    Attributes:
        revision: of the weights and configuration it was made of.
        preprocess: open_clip's `preprocess_cfg`.
        logit_scale: factor of cosines.
        lossless: all numbers equal the checkpoint's, so that float32 may use them too.
        names: each tensor's name in the checkpoint; empty if the checkpoint has another layout.
        whole: the file holds the tensors too. Without them it still saves building the model with open_clip.
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
    """A file whose metadata are verified."""

    path: Path
    info: TowerInfo
    _file: MappedFile
    _checksum: int

    def state(self) -> MappedFile | None:
        """Return the tensors; None if their checksum does not match. Reads all of them."""
        if not self.info.whole:
            return None
        try:
            same = _checksum(self._file) == self._checksum
            problem = "" if same else "the checksum of its numbers does not match"
        except ValueError as e:
            problem = str(e)
        if problem:
            _warn_unusable(self.path, problem)
            return None
        return self._file


def narrow(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor as a file stores it; `name` as in `tower.shape`."""
    if tensor.ndim != 2 or not name.startswith("blocks.") or tensor.dtype != torch.float32:
        return tensor.contiguous()
    norm = float(tensor.norm())
    for dtype, max_error in MAX_ERRORS.items():
        narrowed = tensor.to(dtype)
        if float((narrowed.float() - tensor).norm()) <= max_error * norm:  # False after an overflow
            return narrowed.contiguous()
    return tensor.contiguous()


def is_lossless(name: str, tensor: torch.Tensor) -> bool:
    """Return whether `narrow` keeps the tensor's numbers exactly."""
    return torch.equal(narrow(name, tensor).float(), tensor.float())


def read(path: Path, revision: str) -> TowerFile | None:
    """Return a tower file if it is valid and made of the weights of this revision, else None."""
    try:
        file = MappedFile(path)
        info, checksum = _parse_info(file, revision)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        _warn_unusable(path, e)
        return None
    return TowerFile(path, info, file, checksum)


def write(path: Path, info: TowerInfo, state: Mapping[str, torch.Tensor]) -> None:
    """Write a tower file, neither locked nor atomically (`tower.storage`).

    Raises:
        OSError: it cannot be written.
    """
    # the widest types first, so that all offsets are multiples of the item size
    names = sorted(state, key=lambda name: (-state[name].dtype.itemsize, name))
    header = json.dumps(_header(info, {name: state[name] for name in names})).encode()
    header += b" " * (-(len(header) + 8) % _ALIGNMENT)
    with path.open("wb") as out:
        out.write(len(header).to_bytes(8, "little") + header)
        for name in names:
            out.write(_bytes(state[name]))
        out.flush()
        os.fsync(out.fileno())


def _warn_unusable(path: Path, problem: Exception | str) -> None:
    log.warning("the 16-bit tower %s is not used: %s", path, problem)


def _header(info: TowerInfo, state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    header: dict[str, Any] = {}
    start = 0
    for name, tensor in state.items():
        end = start + tensor.numel() * tensor.dtype.itemsize
        header[name] = {
            "dtype": _DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
        start = end
    checksum = _combine({name: _sum(memoryview(_bytes(tensor))) for name, tensor in state.items()})
    text = json.dumps({**asdict(info), "total": checksum, "open_clip": _open_clip_version()})
    table = sorted((name, str(tensor.dtype), tuple(tensor.shape)) for name, tensor in state.items())
    return {"__metadata__": {_INFO: text, _SEAL: _seal(text, table)}, **header}


def _parse_info(file: MappedFile, revision: str) -> tuple[TowerInfo, int]:
    """Return the file's metadata and the checksum of its numbers.

    Raises:
        ValueError: the metadata are damaged, or the file was made of other weights.
    """
    text = file.metadata.get(_INFO, "")
    if file.metadata.get(_SEAL) != _seal(text, file.describe()):
        raise ValueError("its metadata are damaged")
    document = json.loads(text)
    if document.pop("open_clip") != _open_clip_version():
        raise ValueError("it was written with another version of open_clip")
    checksum = document.pop("total")
    info = TowerInfo(**{**document, "shape": TowerShape(**document["shape"])})
    if info.revision != revision:
        raise ValueError("it was made of other weights")
    dimensions = {name: shape for name, _, shape in file.describe()}
    if dimensions != (dict(info.shape.tensors()) if info.whole else {}):
        raise ValueError("its tensors are not those of the tower")
    return info, checksum


def _seal(text: str, table: list[tuple[str, str, tuple[int, ...]]]) -> str:
    return hashlib.sha256(json.dumps([text, table]).encode()).hexdigest()


def _checksum(file: MappedFile) -> int:
    """Return the checksum of all numbers; ValueError if some are not finite."""
    sums = {}
    for name in file:
        with file.data(name) as data:
            sums[name] = _sum(data)
        if not _is_finite(file[name]):
            raise ValueError(f"its numbers are not all finite ({name})")
        file.release(name)
    return _combine(sums)


def _combine(sums: Mapping[str, int]) -> int:
    total = 0
    for name in sorted(sums):
        total = (total * _MIX + sums[name]) % _WORD
    return total


def _sum(data: memoryview) -> int:
    """Return the sum of 64-bit words: 10 GB/s, and every change of one byte changes it."""
    even = len(data) // 8 * 8
    words = np.frombuffer(data[:even], dtype="<u8")
    return (int(np.add.reduce(words, dtype=np.uint64)) + int.from_bytes(data[even:], "little")) % _WORD


def _is_finite(tensor: torch.Tensor) -> bool:
    low, high = torch.aminmax(tensor)  # NaN if any element is NaN
    return bool(torch.isfinite(low) & torch.isfinite(high))


def _bytes(tensor: torch.Tensor) -> Any:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().data


def _open_clip_version() -> str:
    return importlib.metadata.version("open_clip_torch")
