"""Records and labels made of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clipmod_cli.evaluate.labels import Label, LabelRow
from clipmod_cli.evaluate.matching import LabelledInput
from clipmod_cli.evaluate.samples import JudgedInput, LabelledSet, judged_of
from clipmod_cli.judge.policy.reading import load_policy
from clipmod_cli.records import Record
from clipmod_cli.types import Decision

POLICY = load_policy("nsfw")
THRESHOLD = 0.5
WEIGHTS = {"a": 0.75, "b": 0.25}


def shares_of(score: float, category: str | None = None) -> dict[str, float]:
    """Return probabilities with this unsafe score; the largest is `category`."""
    shares = dict.fromkeys((one.name for one in POLICY.categories), 0.0)
    for side, total in ((POLICY.unsafe, score), (("neutral", "drawing", "suggestive"), 1 - score)):
        named = category if category in side else side[0]
        shares[str(named)] = total
    return shares


def record(number: int, score: float | None, **fields: Any) -> dict[str, Any]:
    """Return the record of an input, as JSON gives it; without a score it could not be judged."""
    if score is None:
        outcome: dict[str, Any] = {
            "status": "error",
            "error": {"code": "decode_error", "message": "damaged", "retryable": False},
        }
    else:
        shares = shares_of(score, fields.pop("category", None))
        # two models, whose mean is the ensemble's score
        moved = fields.pop("moved", 0.0)
        members = {"a": score + moved * WEIGHTS["b"], "b": score - moved * WEIGHTS["a"]}
        outcome = {
            "status": "ok",
            "final_decision": "NSFW" if score >= THRESHOLD else "Safe",
            "needs_review": abs(score - THRESHOLD) < 0.1,
            "review_reasons": [],
            "unsafe_score": round(score, 6),
            "ensemble_category": max(shares, key=lambda name: shares[name]),
            "category_ensemble_probabilities": shares,
            "model_agreement": 1.0,
            "per_model_predictions": {name: _prediction(one) for name, one in members.items()},
            "total_time_ms": 50.0 + number,
        }
    values = {
        "source": f"p/{number}.jpg",
        "sha256": f"{number:064x}",
        "index": number,
        "policy": POLICY.name,
        "policy_hash": POLICY.hash,
        "threshold": THRESHOLD,
        "run_key": "k",
        "run_id": "r",
        "kind": "image",
        "format": "JPEG",
        "width": 640,
        "height": 480,
        **outcome,
        **fields,
    }
    return Record.model_validate(values).model_dump(mode="json", by_alias=True)


def _prediction(score: float) -> dict[str, Any]:
    shares = shares_of(score)
    best = max(shares, key=lambda name: shares[name])
    return {
        "predicted_category": best,
        "confidence": shares[best],
        "category_probabilities": shares,
        "inference_time_ms": 20.0,
    }


def judged(number: int, score: float | None, **fields: Any) -> JudgedInput:
    """Return a judged input."""
    return judged_of(record(number, score, **fields))


def label(number: int, positive: bool | str, weight: float | None = None) -> Label:
    """Return a label of the input with this number: a decision, or a category."""
    category = positive if isinstance(positive, str) else None
    unsafe = category in POLICY.unsafe if category else positive
    decision: Decision = "NSFW" if unsafe else "Safe"
    row = LabelRow(text=category or decision, source=f"p/{number}.jpg", weight=weight)
    return Label(row=row, decision=decision, category=category)


def labelled(
    positive: Sequence[bool | str],
    scores: Sequence[float | None],
    *,
    weights: Sequence[float] | None = None,
    fields: Mapping[int, Mapping[str, Any]] | None = None,
) -> LabelledSet:
    """Return a set of labelled inputs with these scores."""
    pairs = [
        LabelledInput(
            judged(number, score, **(fields or {}).get(number, {})),
            label(number, truth, weights[number] if weights else None),
            weights[number] if weights else 1.0,
        )
        for number, (truth, score) in enumerate(zip(positive, scores, strict=True))
    ]
    return LabelledSet(pairs=pairs, policy=POLICY, threshold=THRESHOLD, weighted=weights is not None)
