"""A memory-mapped safetensors file: a tensor's bytes are read on first access.

Parses the format itself, so that pages can be released one tensor at a time; libraries keep a whole file
mapped until its last tensor is freed.
"""

from __future__ import annotations

import json
import math
import mmap
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Types by their names in the format."""

RECENT = 4
"""The last tensors read. Their pages are released at the next read; a later access reads the file again."""

LARGEST_HEADER = 100_000_000
"""Bytes; the format's own limit."""


@dataclass(frozen=True, slots=True)
class _Entry:
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


class MappedFile(Mapping[str, torch.Tensor]):
    """The tensors of a file by name, read-only; they stay valid after the file is deleted.

    They change when the file is written to: make a copy with `owned` of a tensor that is kept. Reading a
    tensor releases the pages of the tensors before it.

    Attributes:
        metadata: of the whole file, from its header.
    """

    def __init__(self, path: Path) -> None:
        """Map the file.

        Raises:
            OSError: it cannot be opened.
            ValueError: it is not a complete safetensors file.
        """
        with path.open("rb") as file:
            # copy on write: torch warns of memory that cannot be written
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self._entries, self.metadata = _read_header(self._map)
        self._recent: deque[str] = deque(maxlen=RECENT)

    def __getitem__(self, name: str) -> torch.Tensor:
        entry = self._entries[name]
        self.release_recent()
        self._recent.append(name)
        count = math.prod(entry.shape)
        if count == 0:
            return torch.empty(entry.shape, dtype=entry.dtype)
        flat = torch.frombuffer(self._map, dtype=entry.dtype, count=count, offset=entry.start)
        return flat.reshape(entry.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def describe(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Return name, type and dimensions of all tensors, sorted."""
        return sorted((name, str(entry.dtype), entry.shape) for name, entry in self._entries.items())

    def data(self, name: str) -> memoryview:
        """Return a tensor's bytes."""
        entry = self._entries[name]
        return memoryview(self._map)[entry.start : entry.end]

    def release(self, name: str) -> None:
        """Release a tensor's pages; a later access reads them from the file again."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        entry = self._entries[name]
        start = entry.start // mmap.PAGESIZE * mmap.PAGESIZE
        if entry.end > start:
            self._map.madvise(mmap.MADV_DONTNEED, start, entry.end - start)

    def release_recent(self) -> None:
        """Release the pages of the last tensors read."""
        for name in self._recent:
            self.release(name)


def owned(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor itself, or a copy if it lies in a mapped file."""
    # Storage that torch did not allocate, such as a mapped file's, is not resizable.
    return tensor if tensor.untyped_storage().resizable() else tensor.clone()


def _read_header(data: mmap.mmap) -> tuple[dict[str, _Entry], dict[str, str]]:
    length = int.from_bytes(data[:8], "little")
    begin = 8 + length
    if length > LARGEST_HEADER or begin > len(data):
        raise ValueError("no safetensors header")
    try:
        header = json.loads(data[8:begin].decode())
        metadata = header.pop("__metadata__", {})
        entries = {name: _entry(value, begin) for name, value in header.items()}
    except (KeyError, TypeError, AttributeError, RecursionError) as e:
        raise ValueError(f"its header cannot be parsed: {e!r}") from e
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("its metadata are not strings")
    at = begin
    for entry in sorted(entries.values(), key=lambda entry: (entry.start, entry.end)):
        if entry.start != at:
            raise ValueError("its tensors overlap or leave gaps")
        at = entry.end
    if at != len(data):
        raise ValueError(f"it has {len(data)} bytes instead of {at}")
    return entries, metadata


def _entry(value: Any, begin: int) -> _Entry:
    dtype, shape = DTYPES[value["dtype"]], tuple(value["shape"])
    start, end = value["data_offsets"]
    if not all(isinstance(number, int) and number >= 0 for number in (*shape, start, end)):
        raise ValueError("its dimensions or offsets are not numbers")
    if end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError("its tensors' dimensions and offsets disagree")
    return _Entry(dtype, shape, begin + start, begin + end)
