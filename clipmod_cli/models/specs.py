"""What `--models` says: text into members with weights.

Only grammar, no knowledge: whether open_clip knows an architecture, or a folder
exists, is found out where the weights are looked for (`clipmod_cli.models.hub.weights`).
Cheap to import, because the command line reads its options with it.

    auto | ensemble | fallback | SPEC[=WEIGHT][,SPEC[=WEIGHT]...]

    SPEC:  nudenet
           open_clip:ARCH/TAG         open_clip:local-dir:PATH
           hf:OWNER/NAME              hf:PATH   (begins with /, ./, ../ or ~)

The weight is what follows the last `=`. So a path that holds a `=` itself is
written with a weight after it: `hf:./run=3/best=1`. A path cannot hold a comma.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final, Literal, TypeAlias

from clipmod_cli.errors import SpecError

SpecKind: TypeAlias = Literal["open_clip", "open_clip_dir", "hf", "hf_dir", "nudenet"]

LEAST_WEIGHT: Final = 1e-6
"""A member that weighs less decides nothing, and where it stands in for others, its share is divided by
its weight: by what is next to nothing, or nothing."""

ENSEMBLE = (
    "open_clip:ViT-L-14/laion2b_s32b_b82k=0.40,"
    "open_clip:ViT-H-14/laion2b_s32b_b79k=0.35,"
    "open_clip:ViT-g-14/laion2b_s34b_b88k=0.25"
)
FALLBACK = "open_clip:ViT-L-14/laion2b_s32b_b82k"
AUTO: Literal["auto"] = "auto"
NUDENET: Literal["nudenet"] = "nudenet"

_NAMED = {"ensemble": ENSEMBLE, "fallback": FALLBACK}
_OPEN_CLIP = "open_clip:"
_LOCAL_DIR = "open_clip:local-dir:"
_HF = "hf:"
_WORDS = (AUTO, *_NAMED, NUDENET, _OPEN_CLIP, _HF)
_PATH_STARTS = ("/", "./", "../", "~")
_NUMBER = re.compile(r"\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_REPO_PART = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")
# The hub's own rule for names: at most 96 characters, no punctuation at the ends.

_EXAMPLES = (
    "Examples: auto, ensemble, nudenet, open_clip:ViT-B-32/laion2b_s34b_b79k, "
    "hf:Falconsai/nsfw_image_detection, or with weights: open_clip:ViT-L-14/laion2b_s32b_b82k=0.7,nudenet=0.3"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One model, named.

    Attributes:
        spec: the text that names it, without weight; also the key of label maps.
        arch: open_clip's name of the architecture (kind `open_clip`).
        tag: open_clip's name of the weights, as open_clip spells it (kind `open_clip`).
        path: the folder, with `~` expanded (kinds `open_clip_dir`, `hf_dir`).
        repo: `OWNER/NAME` on the hub (kind `hf`).
    """

    kind: SpecKind
    spec: str
    arch: str | None = None
    tag: str | None = None
    path: Path | None = None
    repo: str | None = None

    @property
    def short_name(self) -> str:
        """Its name in records, unless another member has the same."""
        if self.path:
            return Path(os.path.abspath(self.path)).name or self.spec  # noqa: PTH100 - it resolves `..`
        return self.arch or self.repo or self.spec

    @property
    def _identity(self) -> tuple[str, str]:
        """Equal for two spellings of one model."""
        place = os.path.realpath(self.path) if self.path else self.spec
        return self.kind, place


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


def write_models(members: Members) -> str:
    """Return the text that `parse_models` reads back as these members."""
    return ",".join(f"{member.spec.spec}={member.weight!r}" for member in members)


def member_names(members: Members) -> tuple[str, ...]:
    """Return each member's name in records; where two are equal, each is its spec."""
    short = [member.spec.short_name for member in members]
    times = Counter(short)
    return tuple(
        member.spec.spec if times[name] > 1 else name for name, member in zip(short, members, strict=True)
    )


def _parse_word(word: str) -> tuple[ModelSpec, float | None]:
    if word in ("", AUTO):
        what = "an empty name" if not word else "auto beside other models"
        raise SpecError(f"--models has {what} in its list. {_EXAMPLES}")
    text, equals, weight = word.rpartition("=")
    if not equals:
        return _parse_kind(word), None
    if text in _NAMED:
        raise SpecError(f"{text} takes no weight: write out its members instead, {_NAMED[text]}")
    return _parse_kind(text.rstrip()), _parse_weight(weight.strip(), word)


def _parse_weight(text: str, word: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    if math.isfinite(value) and value > 0:
        return value
    raise SpecError(
        f"the weight of a model must be a finite number over 0, but {word!r} has {text!r} after its "
        "last '='. If that belongs to a path, write a weight after it, as in hf:./run=3/best=1"
    )


def _parse_kind(text: str) -> ModelSpec:
    if text == NUDENET:
        return ModelSpec(kind="nudenet", spec=NUDENET)
    if text.startswith(_LOCAL_DIR):
        return _folder("open_clip_dir", _LOCAL_DIR, text.removeprefix(_LOCAL_DIR))
    if text.startswith(_OPEN_CLIP):
        return _open_clip(text.removeprefix(_OPEN_CLIP))
    if text.startswith(_HF):
        return _hugging_face(text.removeprefix(_HF))
    raise SpecError(f"{text!r} is not a model. {_hint(text)}{_EXAMPLES}")


def _open_clip(text: str) -> ModelSpec:
    arch, slash, tag = text.strip().rpartition("/")
    if not slash or not arch or not tag:
        raise SpecError(
            f"open_clip:{text} names no pretrained tag: write open_clip:ARCH/TAG, as in {FALLBACK}, "
            "or open_clip:local-dir:PATH"
        )
    # open_clip reads both spellings of each; one of them has to be the name.
    arch, tag = arch.replace("/", "-"), tag.lower().replace("-", "_")
    return ModelSpec(kind="open_clip", spec=f"{_OPEN_CLIP}{arch}/{tag}", arch=arch, tag=tag)


def _hugging_face(text: str) -> ModelSpec:
    text = text.strip()
    if text.startswith(_PATH_STARTS):
        return _folder("hf_dir", _HF, text)
    parts = text.split("/")
    if len(parts) != 2 or not all(_is_repo_part(part) for part in parts):
        raise SpecError(
            f"hf:{text} is neither OWNER/NAME on the Hugging Face hub nor a path: write "
            f"hf:Falconsai/nsfw_image_detection, or for a folder hf:./{text or 'FOLDER'}"
        )
    return ModelSpec(kind="hf", spec=f"{_HF}{text}", repo=text)


def _is_repo_part(part: str) -> bool:
    return bool(_REPO_PART.fullmatch(part)) and "--" not in part and ".." not in part


def _folder(kind: Literal["open_clip_dir", "hf_dir"], prefix: str, text: str) -> ModelSpec:
    text = text.strip()
    text = text.rstrip("/") or text[:1]
    if not text or "\0" in text:
        raise SpecError(f"{prefix} names no folder: write {prefix}/path/to/folder")
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise SpecError(f"{prefix}{text}: {error}; write the path out") from error
    return ModelSpec(kind=kind, spec=f"{prefix}{text}", path=path)


def _hint(text: str) -> str:
    head, colon, rest = text.partition(":")
    if "/" in text and not colon:
        return f"Did you mean open_clip:{text} or hf:{text}? "
    close = get_close_matches(head + colon, _WORDS, n=1)
    return f"Did you mean {close[0]}{rest if colon else ''}? " if close else ""


def _refuse_duplicates(specs: Sequence[ModelSpec]) -> None:
    seen: dict[tuple[str, str], ModelSpec] = {}
    for spec in specs:
        first = seen.setdefault(spec._identity, spec)  # noqa: SLF001 - of its own module
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
