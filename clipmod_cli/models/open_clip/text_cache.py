"""Cache of text embeddings on disk, keyed by weights and text, so that the text tower is rarely loaded.

One small file per embedding, written atomically, so that processes can share the cache. The file ends with a
checksum; a damaged file counts as absent. An error of the cache never fails a run.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.atomic import atomic_file
from clipmod_cli.models.freed_memory import release_freed_memory

log = logging.getLogger(__name__)

Embed: TypeAlias = Callable[[Sequence[str]], NDArray[np.float32]]
"""Embeds texts, unit-length float32 `(n, d)`."""

MAX_TEXTS = 20_000
"""Of one model, 80 MB; clients of a service with their own classes must not fill its disk."""

_DIGEST_BYTES = hashlib.sha256().digest_size


def default_folder() -> Path:
    """Return the user's cache folder for embeddings."""
    from platformdirs import user_cache_path

    return user_cache_path("clipmod", appauthor=False) / "text"


@dataclass(frozen=True, slots=True)
class TextCache:
    """The embeddings of one model's text tower, `revision` being its weights and configuration."""

    folder: Path
    revision: str

    def get(self, text: str) -> NDArray[np.float32] | None:
        """Return the embedding, float32 `(d,)`, or None if it is absent or damaged."""
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
        """Store an embedding, float32 `(d,)`, unless the cache is full."""
        path = self._path(text)
        numbers = io.BytesIO()
        np.save(numbers, np.ascontiguousarray(vector, dtype=np.float32), allow_pickle=False)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if _is_full(path.parent):
                return
            with atomic_file(path, mode=0o600) as file:
                file.write(numbers.getvalue() + self._digest(text, numbers.getvalue()))
        except OSError as e:
            log.debug("cannot cache text embeddings in %s: %s", path.parent, e)

    def _digest(self, text: str, numbers: bytes) -> bytes:
        return hashlib.sha256(repr((self.revision, text)).encode() + numbers).digest()

    def _path(self, text: str) -> Path:
        return self.folder / self.revision[:16] / (hashlib.sha256(text.encode()).hexdigest() + ".npy")


@dataclass(slots=True)
class TextEmbedder:
    """Embeds prompts: those that are not cached with the text tower, which is loaded for them.

    Attributes:
        cache: of this model's weights.
        load: loads the text tower; it may raise MissingModelError.
    """

    cache: TextCache
    load: Callable[[], Embed] = field(repr=False)
    _tower: Embed | None = field(default=None, repr=False)

    def embed(self, prompts: Sequence[str], *, keep: bool = False) -> NDArray[np.float32]:
        """Return unit-length float32 `(len(prompts), d)`, and unload the text tower, unless `keep`.

        Raises:
            MissingModelError: the text tower is needed and cannot be read.
        """
        known = {prompt: self.cache.get(prompt) for prompt in prompts}
        missing = [prompt for prompt, vector in known.items() if vector is None]
        if missing:
            tower = self._tower = self._tower or self.load()
            for prompt, vector in zip(missing, tower(missing), strict=True):
                self.cache.put(prompt, vector)
                known[prompt] = vector
        if not keep:
            self.unload()
        return np.stack([vector for p in prompts if (vector := known[p]) is not None])

    def unload(self) -> None:
        """Unload the text tower."""
        if self._tower is not None:
            self._tower = None
            release_freed_memory()


def _is_full(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return sum(1 for _ in entries) >= MAX_TEXTS
