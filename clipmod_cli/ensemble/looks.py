"""What members have seen so far in the frames of one batch, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.ensemble.asking import Told, is_exhausted
from clipmod_cli.errors import ErrorCode
from clipmod_cli.types import Evidence, Failure, Frame, Seen, is_finite

Enough: TypeAlias = Callable[[Sequence[Frame], Mapping[str, Sequence[Seen]]], NDArray[np.bool_]]
"""Is asked, with frames and what some members saw in each (by name), in which of them the others can be
left out. Whoever answers knows what follows from that; here nobody does."""


@dataclass(slots=True)
class Look:
    """What was seen in one frame so far, and in how many milliseconds, by member."""

    frame: Frame
    seen: dict[str, Seen] = field(default_factory=dict)
    forward_ms: dict[str, float] = field(default_factory=dict)


def note(looks: Sequence[Look], name: str, told: Sequence[Told]) -> None:
    """Note what a member says of frames, in their order."""
    for look, one in zip(looks, told, strict=True):
        look.seen[name] = one.seen
        look.forward_ms[name] = one.forward_ms


def still_open(looks: Sequence[Look], enough: Enough) -> list[Look]:
    """Return the frames that further members have to see. One that has failed already stays among them."""
    sound = [look for look in looks if all(map(is_finite, look.seen.values()))]
    if not sound:
        return list(looks)
    seen = {name: [look.seen[name] for look in sound] for name in sound[0].seen}
    answers = enough([look.frame for look in sound], seen)
    decided = {id(look) for look, answer in zip(sound, answers, strict=True) if answer}
    return [look for look in looks if id(look) not in decided]


def evidence_of(look: Look, names: Sequence[str]) -> Evidence | Failure:
    """Return what all members of these names saw in a frame, or that one saw nothing that can be judged."""
    frame = look.frame
    for name, one in look.seen.items():
        if not is_finite(one):
            return Failure(
                item=frame.item,
                stage="measure",
                code="non_finite_score",
                message=f"{name} gave a result that is not a finite number",
                media=frame.media,
                last=frame.last,
            )
    skipped = tuple(name for name in names if name not in look.seen)
    return Evidence.of(frame, look.seen, look.forward_ms, skipped)


def failure_of(frame: Frame, error: Exception) -> Failure:
    """Return the failure of a frame that no member could look at."""
    code: ErrorCode = "out_of_memory" if is_exhausted(error) else "model_error"
    message = f"the models could not look at this picture: {error}"
    return Failure(
        item=frame.item, stage="measure", code=code, message=message, media=frame.media, last=frame.last
    )
