"""Text embeddings on disk, keyed by weights and text, so that a text tower is needed only once.

One small file an embedding, written whole by rename: any number of processes may share it. Its last
bytes hash weights, text and numbers, so that what is not as it was written counts as absent.
A cache that cannot be read or written costs time, never a result.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

MOST_TEXTS = 20_000
"""Kept for one model, 80 MB: those who may ask a service over their own classes must not fill its disk."""

_DIGEST_BYTES = hashlib.sha256().digest_size


def default_folder() -> Path:
    """Return where embeddings are kept: the user's cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("clipmod", appauthor=False) / "text"


@dataclass(frozen=True, slots=True)
class TextCache:
    """The embeddings of one model's text tower, `revision` being its weights and configuration."""

    folder: Path
    revision: str

    def get(self, text: str) -> NDArray[np.float32] | None:
        """Return the embedding, float32 `(d,)`, or None if it is not here whole."""
        try:
            content = self._path(text).read_bytes()
            numbers, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
            if digest != self._digest(text, numbers):
                return None
            vector = np.load(io.BytesIO(numbers), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        usable = vector.ndim == 1 and vector.dtype == np.float32 and bool(np.all(np.isfinite(vector)))
        return vector if usable else None

    def put(self, text: str, vector: NDArray[np.float32]) -> None:
        """Keep an embedding, float32 `(d,)`, as long as there is room."""
        path = self._path(text)
        numbers = io.BytesIO()
        np.save(numbers, np.ascontiguousarray(vector, dtype=np.float32), allow_pickle=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if _is_full(path.parent):
                return
            descriptor, part = tempfile.mkstemp(dir=path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(numbers.getvalue() + self._digest(text, numbers.getvalue()))
                Path(part).replace(path)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(part).unlink()
                raise
        except OSError as e:
            log.debug("text embeddings cannot be kept in %s: %s", path.parent, e)

    def _digest(self, text: str, numbers: bytes) -> bytes:
        return hashlib.sha256(repr((self.revision, text)).encode() + numbers).digest()

    def _path(self, text: str) -> Path:
        return self.folder / self.revision[:16] / (hashlib.sha256(text.encode()).hexdigest() + ".npy")


def _is_full(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return sum(1 for _ in entries) >= MOST_TEXTS
