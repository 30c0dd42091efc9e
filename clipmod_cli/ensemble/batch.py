"""The life of a batch: all models of an ensemble over the same frames.

1. `prepare`: crops are stacked while the batch before is computed. It changes no result.
2. `submit`: every model gets the batch, CUDA models first, since their devices compute while this thread
   goes on. Several batches may be in flight.
3. The function that `submit` returns waits for the results, batch after batch in the order of submission.
4. If submitting or waiting fails, the batch is run again model by model. If that fails, it is halved until
   the frame at fault stands alone; that frame becomes a `Failure`, or the stand-in judges it alone.
   Out of memory halves one model's sub-batch (`ModelRunner`). A lost device ends the run.
5. With early exit (`can_skip_rest`) several batches are run together, model by model, since the frames that
   the next model needs depend on the results before it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.ensemble.cache import is_finite
from clipmod_cli.ensemble.forward import (
    ModelOutput,
    ModelRunner,
    PendingOutputs,
    is_device_lost,
    is_out_of_memory,
)
from clipmod_cli.errors import DeviceLostError, ErrorCode
from clipmod_cli.models.seam import Model
from clipmod_cli.types import Evidence, Failure, Frame, Seen

log = logging.getLogger(__name__)

T = TypeVar("T")

CanSkipRest: TypeAlias = Callable[[Sequence[Frame], Mapping[str, Sequence[Seen]]], NDArray[np.bool_]]
"""Given frames and what some models saw in each (by model name), returns bool `(frames,)`: whether the
remaining models can be skipped. It knows the policy; the ensemble does not."""

MAX_FAILED_SUBMITS: Final = 3
"""Batches in a row that fail when submitted and succeed model by model: then all run model by model."""

DEVICE_LOST: Final = (
    "the device failed, and nothing more can be judged in this process. What was written stays; start the "
    "same command again, and with `--device cpu` if it fails at the same input"
)


@dataclass(frozen=True, slots=True)
class SubmitError:
    """Why a submitted batch failed. Keeps no exception: its traceback would hold the device's memory."""

    message: str
    out_of_memory: bool


@dataclass(slots=True)
class PartialEvidence:
    """What models have seen in one frame so far, and their milliseconds, by model name."""

    frame: Frame
    seen: dict[str, Seen] = field(default_factory=dict)
    forward_ms: dict[str, float] = field(default_factory=dict)

    def finish(self, names: Sequence[str]) -> Evidence | Failure:
        """Return the frame's evidence; a failure if some of it is not finite."""
        for name, one in self.seen.items():
            if name in names and not is_finite(one):
                message = f"{name} gave a result that is not a finite number"
                return _failure(self.frame, "non_finite_score", message)
        skipped = tuple(name for name in names if name not in self.seen)
        frame = self.frame
        return Evidence(
            item=frame.item,
            media=frame.media,
            number=frame.number,
            time_s=frame.time_s,
            last=frame.last,
            view=frame.view,
            seen=self.seen,
            forward_ms=self.forward_ms,
            skipped=skipped,
        )


@dataclass(slots=True)
class BatchRunner:
    """Runs batches through models; see the module's docstring.

    One thread submits and another one may wait; `_lock` keeps a re-run apart from submitting.

    Attributes:
        models: in the order of the ensemble's members.
        screens: with early exit, models that are run before these; no frame exits after one that fails.
        unused: returns the names of screens that are not run now.
        stand_in: the name of the model that judges alone where another one fails; None fails the frame.
        runner: runs one model.
    """

    models: Sequence[Model]
    stand_in: str | None
    runner: ModelRunner
    screens: Sequence[Model] = ()
    unused: Callable[[], Collection[str]] = tuple
    _failed_submits: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def prepare(self, frames: Sequence[Frame]) -> None:
        """Prepare a batch for every model; an error is left to `submit`."""
        for model in self.models:
            try:
                self.runner.prepare(model, frames)
            except Exception:
                log.debug("a batch could not be prepared", exc_info=True)

    def submit(
        self, frames: Sequence[Frame], can_skip_rest: CanSkipRest | None
    ) -> Callable[[], list[Evidence | Failure]]:
        """Submit a batch, and return a function that waits for each frame's evidence or failure, in order.

        Both raise DeviceLostError.
        """
        with self._lock:
            is_asynchronous = any(model.is_asynchronous for model in self.models)
            may_submit = is_asynchronous and self._failed_submits < MAX_FAILED_SUBMITS
            if can_skip_rest is not None or not frames or not may_submit:
                results = self._run(frames, can_skip_rest)
                return lambda: results
            pending = _attempt(lambda: self._submit_all(frames))
        return lambda: self._collect(frames, pending)

    def _submit_all(self, frames: Sequence[Frame]) -> dict[str, PendingOutputs]:
        asynchronous_first = sorted(self.models, key=lambda model: not model.is_asynchronous)
        return {model.name: self._submit_one(model, frames) for model in asynchronous_first}

    def _submit_one(self, model: Model, frames: Sequence[Frame]) -> PendingOutputs:
        if model.is_asynchronous:
            return self.runner.submit(model, frames)
        outputs = self.runner.run(model, frames)
        return lambda: outputs

    def _collect(
        self, frames: Sequence[Frame], pending: Mapping[str, PendingOutputs] | SubmitError
    ) -> list[Evidence | Failure]:
        outputs = pending if isinstance(pending, SubmitError) else _attempt(partial(_wait_for_all, pending))
        if isinstance(outputs, SubmitError):
            with self._lock:
                results = self._run(frames, None)
            if all(isinstance(one, Evidence) for one in results):
                self._count_failed_submit(outputs)
            return results
        self._failed_submits = 0
        evidence = [PartialEvidence(frame) for frame in frames]
        for model in self.models:
            _add(evidence, model.name, outputs[model.name])
        return self._finish(evidence)

    def _count_failed_submit(self, error: SubmitError) -> None:
        """Count a batch that failed only because it was submitted ahead."""
        if error.out_of_memory:  # the re-run has remembered how much fits
            return
        self._failed_submits += 1
        if self._failed_submits in {1, MAX_FAILED_SUBMITS}:
            rest = ", and so will all others" if self._failed_submits == MAX_FAILED_SUBMITS else ""
            log.warning(
                "a batch failed when all models were submitted at once (%s); it was run model by model%s, "
                "which is slower",
                error.message,
                rest,
            )

    def _run(self, frames: Sequence[Frame], can_skip_rest: CanSkipRest | None) -> list[Evidence | Failure]:
        """Run the batch model by model; one that raises is halved until the frame at fault stands alone."""
        if not frames:
            return []
        try:
            return self._run_in_turn(frames, can_skip_rest)
        except Exception as e:
            if is_device_lost(e):
                raise DeviceLostError(f"{DEVICE_LOST}: {e}") from e
            if len(frames) == 1:
                log.debug("a forward pass failed", exc_info=True)
                code: ErrorCode = "out_of_memory" if is_out_of_memory(e) else "model_error"
                message = f"the forward pass failed for this picture: {e}"
                return [self._run_stand_in(frames[0]) or _failure(frames[0], code, message)]
        middle = len(frames) // 2
        return self._run(frames[:middle], can_skip_rest) + self._run(frames[middle:], can_skip_rest)

    def _run_in_turn(
        self, frames: Sequence[Frame], can_skip_rest: CanSkipRest | None
    ) -> list[Evidence | Failure]:
        evidence = [PartialEvidence(frame) for frame in frames]
        needed = evidence if can_skip_rest is None else self._screen(evidence, can_skip_rest)
        for number, model in enumerate(self.models):
            if number and can_skip_rest is not None:
                needed = _undecided(needed, can_skip_rest)
            if not needed:
                break
            _add(needed, model.name, self.runner.run(model, [one.frame for one in needed]))
        return self._finish(evidence)

    def _screen(
        self, evidence: Sequence[PartialEvidence], can_skip_rest: CanSkipRest
    ) -> Sequence[PartialEvidence]:
        """Run the screens on stills, as only these can exit early; return what the members have to see."""
        unused = self.unused()
        stills = [one for one in evidence if one.frame.media.kind == "image"]
        for model in self.screens:
            if model.name in unused or not stills:
                continue
            try:
                _add(stills, model.name, self.runner.run(model, [one.frame for one in stills]))
            except Exception as e:
                if is_device_lost(e):
                    raise
                log.warning("%s failed as a screen: %s. The ensemble judges these pictures", model.name, e)
            else:
                stills = _undecided(stills, can_skip_rest)
        left = {id(one) for one in stills}
        return [one for one in evidence if id(one) in left or one.frame.media.kind != "image"]

    def _run_stand_in(self, frame: Frame) -> Evidence | None:
        """Return the stand-in's evidence; None if there is no stand-in or it fails too."""
        alone = [model for model in self.models if model.name == self.stand_in]
        if not alone:
            return None
        (result,) = BatchRunner(alone, None, self.runner)._run([frame], None)  # noqa: SLF001 — of this class
        return replace(result, stand_in=True) if isinstance(result, Evidence) else None

    def _finish(self, evidence: Sequence[PartialEvidence]) -> list[Evidence | Failure]:
        names = [model.name for model in self.models]
        return [one.finish(names) for one in evidence]


def _attempt(work: Callable[[], T]) -> T | SubmitError:
    try:
        return work()
    except Exception as e:  # noqa: BLE001 — each library has errors of its own
        return SubmitError(f"{type(e).__name__}: {e}", is_out_of_memory(e))


def _wait_for_all(pending: Mapping[str, PendingOutputs]) -> dict[str, list[ModelOutput]]:
    return {name: wait() for name, wait in pending.items()}


def _add(evidence: Sequence[PartialEvidence], name: str, outputs: Sequence[ModelOutput]) -> None:
    for one, output in zip(evidence, outputs, strict=True):
        one.seen[name] = output.seen
        one.forward_ms[name] = output.forward_ms


def _undecided(evidence: Sequence[PartialEvidence], can_skip_rest: CanSkipRest) -> list[PartialEvidence]:
    """Return the frames that further models have to see; those that are not finite stay among them."""
    finite = [one for one in evidence if all(map(is_finite, one.seen.values()))]
    if not finite:
        return list(evidence)
    names = [
        name for name in finite[0].seen if all(name in one.seen for one in finite)
    ]  # not all have screens
    seen = {name: [one.seen[name] for one in finite] for name in names}
    answers = can_skip_rest([one.frame for one in finite], seen)
    decided = {id(one) for one, answer in zip(finite, answers, strict=True) if answer}
    return [one for one in evidence if id(one) not in decided]


def _failure(frame: Frame, code: ErrorCode, message: str) -> Failure:
    return Failure(
        item=frame.item, stage="infer", code=code, message=message, media=frame.media, last=frame.last
    )
