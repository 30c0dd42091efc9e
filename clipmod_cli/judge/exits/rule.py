"""Early exit of a run: calibrated on its own pictures, audited, and switched off if the risk is exceeded.

    calibrating ──► early exits ──► switched off
                └─► no early exits

Whether a picture belongs to the sample or is audited is settled before any model has seen it.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.judge.exits.audit import Audit
from clipmod_cli.judge.exits.sample import ExitRule, Sample
from clipmod_cli.judge.exits.stages import Floats, Stages
from clipmod_cli.judge.frame_scores import score_frames
from clipmod_cli.results import BankVerdict, Settled
from clipmod_cli.types import Evidence, Failure, Frame, Item, Seen

AUDITED: Final = 0.01
"""The share of pictures that all models are run on through the whole run."""

Role: TypeAlias = Literal["sample", "audit", "other"]


@dataclass(slots=True)
class _Asked:
    """An item that is on its way through the models."""

    role: Role
    views: list[Evidence] = field(default_factory=list)
    failed: bool = False


@dataclass(slots=True)
class CalibratedExit:
    """Decides which views exit early; safe to use from the threads of one run.

    Attributes:
        stages: after which models a picture may exit.
        risk: the share of pictures that may be errors, 0..1.
        seed: by which the audited pictures are drawn.
        rule: in force; None while all models are run.
        costs: of each model, milliseconds summed over the views of the sample.
    """

    stages: Stages
    risk: float
    seed: str = field(default_factory=lambda: secrets.token_hex(8))
    sample: Sample = field(init=False)
    audit: Audit = field(init=False)
    rule: ExitRule | None = None
    costs: dict[str, float] = field(default_factory=dict)
    _asked: dict[Item, _Asked] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        """Start to calibrate."""
        names, screens = self.stages.names, len(self.stages.screens)
        self.sample = Sample(stages=names, screens=screens, risk=self.risk)
        self.audit = Audit(self.risk)

    @property
    def calibrating(self) -> bool:
        """Whether the sample still lacks pictures."""
        return not self.sample.is_complete

    @property
    def unused(self) -> frozenset[str]:
        """The screens that are not run now."""
        if self.calibrating:
            return frozenset()
        return frozenset(self.stages.screens) - frozenset(self._limits)

    @property
    def _limits(self) -> Mapping[str, float]:
        return {} if self.rule is None or self.audit.broken else self.rule.highest

    def can_skip_rest(self, frames: Sequence[Frame], seen: Mapping[str, Sequence[Seen]]) -> NDArray[np.bool_]:
        """Return, for each view, whether it exits after the models that have seen it.

        Args:
            frames: the views of one batch.
            seen: by name of each model that was run, in their order, its evidence of each view; finite.
        """
        stage = list(seen)[-1]
        with self._lock:
            may_go = [frame.media.kind == "image" and self._role(frame.item) == "other" for frame in frames]
            highest = self._limits.get(stage)
        if highest is None or not any(may_go):
            return np.zeros(len(frames), np.bool_)
        return np.asarray((self.stages.scores(stage, seen) <= highest) & may_go)

    def _role(self, item: Item) -> Role:
        if item not in self._asked:
            role: Role = "sample" if self.calibrating else "audit" if self._is_drawn(item) else "other"
            self._asked[item] = _Asked(role)
        return self._asked[item].role

    def _is_drawn(self, item: Item) -> bool:
        name = f"{self.seed}\0{item.source}\0{item.member}\0{item.index}"
        digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest) < AUDITED * 2**64

    def watch(self, evidence: Iterable[Evidence | Settled]) -> Iterator[Evidence | Settled]:
        """Yield the evidence, and learn from that of pictures that all models were run on."""
        for seen in evidence:
            if not isinstance(seen, BankVerdict):
                self._note(seen)
            yield seen

    def _note(self, seen: Evidence | Failure) -> None:
        with self._lock:
            self._role(seen.item)
            asked = self._asked[seen.item]
            if isinstance(seen, Failure) or seen.stand_in or seen.media.kind != "image":
                asked.failed = True
            else:
                asked.views.append(seen)
            if seen.last:
                del self._asked[seen.item]
                self._learn_from(asked)

    def _learn_from(self, asked: _Asked) -> None:
        """Count a picture of the sample or an audited one that all models were run on."""
        if asked.role == "other" or asked.failed or any(view.skipped for view in asked.views):
            return
        criteria = self.stages.criteria
        judged = [score for score in score_frames(asked.views, criteria) if not isinstance(score, Failure)]
        if len(judged) < len(asked.views):
            return
        flagged = np.array([score.hit for score in judged])
        scores = self.stages.of_views(asked.views)
        if asked.role == "sample" and self.calibrating:
            self._add_to_sample(asked.views, scores, flagged)
        elif asked.role == "audit" and self.rule is not None and not self.audit.broken:
            exits = self.rule.exits(scores, self.stages.names)
            self.audit.add(error=bool(flagged.any() and exits[flagged].all()))

    def _add_to_sample(self, views: Sequence[Evidence], scores: Floats, flagged: NDArray[np.bool_]) -> None:
        self.sample.add(scores, flagged)
        for view in views:
            for name, ms in view.forward_ms.items():
                self.costs[name] = self.costs.get(name, 0.0) + ms
        if self.sample.is_complete:
            names = (*self.stages.names, self.stages.criteria.judges[-1].name)
            known = all(self.costs.get(name) for name in names)  # not where a cache has the evidence
            *costs, rest = (self.costs[name] if known else 1.0 for name in names)
            self.rule = self.sample.rule(costs, rest)
            self.sample.forget()
