"""What `--models` says: text into members with weights.

Only grammar: whether an architecture or a folder exists is checked in `models.hub.weights`. Cheap to import,
because the command line reads its options with it.

    auto | ensemble | fallback | SPEC[=WEIGHT][,SPEC[=WEIGHT]...]

    SPEC:  open_nsfw                  owen-s                     nudenet
           onnx:PATH
           open_clip:ARCH/TAG         open_clip:local-dir:PATH
           hf:OWNER/NAME              hf:PATH   (begins with /, ./, ../ or ~)

The weight is what follows the last `=`. So a path that holds a `=` itself is
written with a weight after it: `hf:./run=3/best=1`. A path cannot hold a comma.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, Literal, TypeAlias

from clipmod_cli.errors import SpecError
from clipmod_cli.models.backend import ModelSpec
from clipmod_cli.models.backends import FALLBACK
from clipmod_cli.models.registry import BACKENDS, known

LEAST_WEIGHT: Final = 1e-6
"""A lighter member cannot change a decision, and as a stand-in its share would be divided by nearly zero."""

ENSEMBLE = (
    "open_clip:ViT-L-14/laion2b_s32b_b82k=0.40,"
    "open_clip:ViT-H-14/laion2b_s32b_b79k=0.35,"
    "open_clip:ViT-g-14/laion2b_s34b_b88k=0.25"
)
AUTO: Literal["auto"] = "auto"

_NAMED = {"ensemble": ENSEMBLE, "fallback": FALLBACK}
_NUMBER = re.compile(r"\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_EXAMPLES = (
    "Examples: auto, ensemble, open_nsfw, owen-s, nudenet, onnx:./my.toml, "
    "open_clip:ViT-B-32/laion2b_s34b_b79k, "
    "hf:Falconsai/nsfw_image_detection, or with weights: open_clip:ViT-L-14/laion2b_s32b_b82k=0.7,nudenet=0.3"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedSpec:
    """A model in an ensemble; the weights of all members sum to 1."""

    spec: ModelSpec
    weight: float


Members: TypeAlias = tuple[WeightedSpec, ...]


def parse_models(texts: Sequence[str]) -> Members | Literal["auto"]:
    """Return the members that `--models` names, in their order, or `auto`.

    Each text may itself be a comma-separated list.

    Raises:
        SpecError: what is wrong, with examples or the closest right word.
    """
    words = [word.strip() for text in texts for word in text.split(",")]
    if not any(words):
        raise SpecError(f"--models names no model. {_EXAMPLES}")
    if words == [AUTO]:
        return AUTO
    pairs = [_parse_word(word) for name in words for word in _NAMED.get(name, name).split(",")]
    _refuse_duplicates([spec for spec, _ in pairs])
    weights = _scale([weight for _, weight in pairs], [spec.spec for spec, _ in pairs])
    return tuple(
        WeightedSpec(spec=spec, weight=weight) for (spec, _), weight in zip(pairs, weights, strict=True)
    )


def parse_spec(text: str) -> ModelSpec:
    """Return the one model that `text` names without a weight.

    Raises:
        SpecError: it names none, several, or one with a weight.
    """
    members = parse_models([text])
    if members == AUTO or len(members) != 1:
        raise SpecError(f"{text!r} does not name exactly one model. {_EXAMPLES}")
    spec, weight = _parse_word(_NAMED.get(text.strip(), text.strip()))
    if weight is not None:
        raise SpecError(f"{text!r} has a weight where only a model is asked for: write {spec.spec}")
    return spec


def member_names(members: Members) -> tuple[str, ...]:
    """Return each member's name in records; where two are equal, each is its spec."""
    short = [member.spec.short_name for member in members]
    times = Counter(short)
    return tuple(
        member.spec.spec if times[name] > 1 else name for name, member in zip(short, members, strict=True)
    )


def download_size(members: Members) -> int | None:
    """Return the bytes of these members' downloads, about; None if one is unknown."""
    sizes = [model.size if (model := known(member.spec)) else None for member in members]
    return None if None in sizes else sum(size for size in sizes if size is not None)


def ensemble_size() -> int:
    """Return the bytes of the whole ensemble's downloads, about."""
    members = parse_models([ENSEMBLE])
    return 0 if members == AUTO else download_size(members) or 0


def _parse_word(word: str) -> tuple[ModelSpec, float | None]:
    if word in ("", AUTO):
        what = "an empty name" if not word else "auto beside other models"
        raise SpecError(f"--models has {what} in its list. {_EXAMPLES}")
    text, equals, weight = word.rpartition("=")
    if not equals:
        return _parse_spec(word), None
    if text in _NAMED:
        raise SpecError(f"{text} takes no weight: write out its members instead, {_NAMED[text]}")
    return _parse_spec(text.rstrip()), _parse_weight(weight.strip(), word)


def _parse_weight(text: str, word: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if math.isfinite(value) and value > 0:
        return value
    raise SpecError(
        f"the weight of a model must be a finite number over 0, but {word!r} has {text!r} after its "
        "last '='. If that belongs to a path, write a weight after it, as in hf:./run=3/best=1"
    )


def _parse_spec(text: str) -> ModelSpec:
    backend = BACKENDS.get(text.partition(":")[0].rstrip())
    if backend is None:
        raise SpecError(f"{text!r} is not a model. {_hint(text)}{_EXAMPLES}")
    return backend.parse(text)


def _hint(text: str) -> str:
    head, colon, rest = text.partition(":")
    if "/" in text and not colon:
        return f"Did you mean open_clip:{text} or hf:{text}? "
    words = [AUTO, *_NAMED, *BACKENDS, *(f"{prefix}:" for prefix in BACKENDS)]
    close = get_close_matches(head + colon, words, n=1)
    return f"Did you mean {close[0]}{rest if colon else ''}? " if close else ""


def _refuse_duplicates(specs: Sequence[ModelSpec]) -> None:
    seen: dict[tuple[str, str], ModelSpec] = {}
    for spec in specs:
        first = seen.setdefault(spec.identity, spec)
        if first is not spec:
            other = "" if first.spec == spec.spec else f" (it is the same folder as {first.spec})"
            raise SpecError(f"{spec.spec} is named twice{other}: name it once, with the sum of the weights")


def _scale(weights: Sequence[float | None], specs: Sequence[str]) -> list[float]:
    given = [weight for weight in weights if weight is not None]
    if not given:
        return [1 / len(weights)] * len(weights)
    if len(given) != len(weights):
        bare = next(spec for spec, weight in zip(specs, weights, strict=True) if weight is None)
        raise SpecError(f"all models have a weight or none has, but {bare} has none: write {bare}=WEIGHT")
    largest = max(given)  # divided out first, so that the sum cannot overflow
    total = math.fsum(weight / largest for weight in given)
    scaled = [weight / largest / total for weight in given]
    least = min(scaled)
    if least < LEAST_WEIGHT:
        lost = specs[scaled.index(least)]
        raise SpecError(f"the weight of {lost} is next to nothing beside the others: leave the model out")
    return scaled
