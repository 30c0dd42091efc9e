"""The caller's own classes, read, checked and embedded.

Vectors are cached in memory by model and text, and on disk by the model itself. At most one text tower, the
one used last, stays in memory between requests. Blocking.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.errors import PolicyError
from clipmod_cli.judge.criteria import Criteria, WeightedReader
from clipmod_cli.judge.policy.reading import policy_from_classes
from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.judge.prepare import text_reader
from clipmod_cli.models.seam import TextImageModel
from clipmod_cli.server.apis.request_scan import seconds_to
from clipmod_cli.server.problems import problem

DOCUMENTED_CLASSES = "nudity, wad, offensive, face-attributes, gore"

ALL_MODELS = "clip"
"""The documented name of the classifier: all loaded text-image models."""

MOST_CLASSES = 64
CLASS_CHARS = 100
"""A text tower reads 77 tokens and ignores the rest."""

MOST_VECTORS = 4096
"""In the memory cache, over all models: 16 MB."""

Vector = NDArray[np.float32]


@runtime_checkable
class KeepsTower(Protocol):
    """A model whose text tower can stay in memory."""

    def embed(self, prompts: Sequence[str], *, keep: bool = False) -> NDArray[np.float32]:
        """Return unit-length float32 `(len(prompts), d)`; with `keep` the tower stays."""
        ...

    def unload_text_tower(self) -> None:
        """Have it no longer in memory."""
        ...


def read_classes(text: str) -> Policy:
    """Return comma-separated classes as a policy without anything UNSAFE; blank ones are left out.

    Raises:
        HTTPException: 400 if there are too few or too many, or one is too long, doubled or not plain text.
    """
    words = [word for part in text.split(",") if (word := part.strip())]
    if not 2 <= len(words) <= MOST_CLASSES:
        raise problem(400, f"classes needs 2 to {MOST_CLASSES} comma-separated words; it has {len(words)}")
    if any(len(word) > CLASS_CHARS for word in words):
        raise problem(400, f"classes has a word that is longer than {CLASS_CHARS} characters")
    try:
        return policy_from_classes(",".join(words))
    except PolicyError as e:
        raise problem(400, str(e).replace("--classes", "classes")) from e


@dataclass
class ClassVectors:
    """The cache of class vectors. Safe to use from any thread."""

    _sets: dict[tuple[str, ...], Ensemble] = field(default_factory=dict, repr=False)
    _known: OrderedDict[tuple[str, str], Vector] = field(default_factory=OrderedDict, repr=False)
    _resident: KeepsTower | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _tower: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def models_of(self, ensemble: Ensemble, name: str) -> Ensemble | None:
        """Return loaded text-image members: all for `clip`, else the one with this name or spec.

        Their weights are scaled to sum to 1. The object is cached, so that requests share forward passes.
        None if there is no such member.
        """
        found = [m for m in ensemble.members if m.model.kind == "text-image"]
        if name != ALL_MODELS:
            found = [m for m in found if name in (m.model.name, m.model.spec)]
        if not found or len(found) == len(ensemble.members):
            return ensemble if found else None
        total = sum(m.weight for m in found)
        with self._lock:
            key = tuple(m.model.name for m in found)
            scaled = [Member(m.model, m.weight / total) for m in found]
            return self._sets.setdefault(key, replace(ensemble, members=scaled))

    def criteria(self, ensemble: Ensemble, classes: Policy, until: float) -> Criteria:
        """Return the criteria of these classes. Blocks while new classes are embedded.

        Args:
            ensemble: of text-image models alone.
            classes: from `read_classes`.
            until: the deadline by `time.monotonic()`.

        Raises:
            HTTPException: 504 at the deadline.
        """
        models = {m.model.name: m.model for m in ensemble.members if m.model.kind == "text-image"}
        # the model whose tower is in memory first: the others would evict it
        order = sorted(models.values(), key=lambda model: id(model) != id(self._resident))
        vectors = {model.name: self._vectors(model, classes.texts, until) for model in order}
        judges = [
            WeightedReader(
                name=m.model.name,
                weight=m.weight,
                reader=text_reader(models[m.model.name], vectors[m.model.name], classes),
            )
            for m in ensemble.members
        ]
        return Criteria(policy=classes, threshold=1.0, judges=judges)

    def _vectors(self, model: TextImageModel, texts: Sequence[str], until: float) -> Mapping[str, Vector]:
        found = self._find(model, texts)
        if len(found) == len(texts):
            return found
        if not self._tower.acquire(timeout=seconds_to(until)):
            raise problem(504, "The request took too long: others wait for their classes too")
        try:
            found = self._find(model, texts)
            missing = [text for text in texts if text not in found]
            if missing:
                found |= self._embed(model, missing)
        finally:
            self._tower.release()
        return found

    def _find(self, model: TextImageModel, texts: Sequence[str]) -> dict[str, Vector]:
        found: dict[str, Vector] = {}
        with self._lock:
            for text in texts:
                key = model.revision, text
                if (vector := self._known.get(key)) is not None:
                    self._known.move_to_end(key)
                    found[text] = vector
        return found

    def _embed(self, model: TextImageModel, texts: Sequence[str]) -> dict[str, Vector]:
        """Return the vectors of new texts; called by one thread at a time."""
        if isinstance(model, KeepsTower):
            if self._resident is not None and self._resident is not model:
                self._resident.unload_text_tower()
            self._resident = model
            rows = model.embed(texts, keep=True)
        else:
            rows = model.embed(texts)
        new = {text: row.copy() for text, row in zip(texts, rows, strict=True)}  # not a view of all of them
        with self._lock:
            self._known |= {(model.revision, text): vector for text, vector in new.items()}
            while len(self._known) > MOST_VECTORS:
                self._known.popitem(last=False)
        return new
