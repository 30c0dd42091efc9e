"""Evidence as bytes and back, to the bit. What cannot be read back is None, never a guess."""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np

from clipmod_cli.types import Detection, Detections, Embedding, LabelScores, Seen, is_finite

_EMBEDDING: Final = b"e"
_LABELS: Final = b"l"
_DETECTIONS: Final = b"d"


def pack(seen: Seen) -> bytes:
    """Return the evidence as bytes: its kind, then float32 numbers or JSON."""
    match seen:
        case Embedding(vector=vector):
            return _EMBEDDING + np.ascontiguousarray(vector, dtype="<f4").tobytes()
        case LabelScores(scores=scores):
            return _LABELS + _json({name: float(score) for name, score in scores.items()})
        case Detections(found=found):
            return _DETECTIONS + _json([[one.label, float(one.score), *map(int, one.box)] for one in found])
    raise AssertionError(f"unknown evidence {seen!r}")


def unpack(packed: bytes) -> Seen | None:
    """Return the evidence that these bytes hold; None where they hold none that is sound."""
    try:
        seen = _read(packed[:1], packed[1:])
    except (ValueError, TypeError, AttributeError):
        return None
    return seen if seen is not None and is_finite(seen) else None


def _read(kind: bytes, rest: bytes) -> Seen | None:
    if kind == _EMBEDDING:
        return Embedding(vector=np.frombuffer(rest, dtype="<f4").astype(np.float32)) if rest else None
    if kind == _LABELS:
        return LabelScores(scores={str(name): float(score) for name, score in json.loads(rest).items()})
    if kind == _DETECTIONS:
        return Detections(found=tuple(_detection(*one) for one in json.loads(rest)))
    return None


def _detection(label: str, score: float, x: int, y: int, width: int, height: int) -> Detection:
    return Detection(label=str(label), score=float(score), box=(int(x), int(y), int(width), int(height)))


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
