"""Asks all members about a batch at once: devices that compute on their own begin, and are waited for later.

The other way, one member after the other, is in `clipmod_cli.ensemble.ensemble`, which knows what to do
about whatever goes wrong; here it is only reported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from clipmod_cli.ensemble.asking import Answers, Asks, Told, is_exhausted
from clipmod_cli.models.seam import is_asynchronous
from clipmod_cli.types import Frame, Model

log = logging.getLogger(__name__)

MOST_FAULTS: Final = 3
"""Batches in a row that fail in this way alone: with the next ones it is not tried again."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a batch was not looked at. It holds nothing of the exception, which holds a device's memory."""

    message: str
    exhausted: bool

    @classmethod
    def of(cls, error: Exception) -> Fault:
        """Return what has to be known of an exception."""
        return cls(f"{type(error).__name__}: {error}", is_exhausted(error))


Said: TypeAlias = Mapping[str, Sequence[Told]] | Fault
"""What each member says of the frames, by its name; or why that is not known."""


@dataclass(slots=True)
class AtOnce:
    """Asks members at once, as long as that works."""

    _faults: int = 0

    def can_ask(self, models: Sequence[Model]) -> bool:
        """Return whether it is worth it: whether there is a device that goes on without us."""
        return self._faults < MOST_FAULTS and any(map(is_asynchronous, models))

    def begin(self, ask: Asks, models: Sequence[Model], frames: Sequence[Frame]) -> Callable[[], Said]:
        """Give devices their work, ask all others meanwhile, and return what waits for all answers."""
        try:
            answers = {
                model.name: _begin(ask, model, frames)
                for model in sorted(models, key=is_asynchronous, reverse=True)
            }
        except Exception as e:  # noqa: BLE001 — each library has errors of its own
            fault = Fault.of(e)
            return lambda: fault
        return lambda: self._collect(answers)

    def blame(self, fault: Fault) -> None:
        """Take note that the same batch could be looked at in turn."""
        if fault.exhausted:  # whoever ran out of memory has learnt meanwhile how much fits
            return
        self._faults += 1
        if self._faults in {1, MOST_FAULTS}:
            rest = ", and so are all others from now on" if self._faults == MOST_FAULTS else ""
            log.warning(
                "models could not be asked about a batch at once (%s); they were asked one after the "
                "other%s, which takes longer",
                fault.message,
                rest,
            )

    def _collect(self, answers: Mapping[str, Answers]) -> Said:
        try:
            said = {name: wait() for name, wait in answers.items()}
        except Exception as e:  # noqa: BLE001 — each library has errors of its own
            return Fault.of(e)
        self._faults = 0
        return said


def _begin(ask: Asks, model: Model, frames: Sequence[Frame]) -> Answers:
    if is_asynchronous(model):
        return ask.begin(model, frames)
    told = ask(model, frames)
    return lambda: told
