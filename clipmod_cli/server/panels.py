"""Panels: models that judge together, as the service loads them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace

from clipmod_cli.decode.limits import Coverage, DecodeOptions
from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.judge.choice import LIGHT
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.pipeline import Options, run_key
from clipmod_cli.records import RunFacts

TRIPLE = "triple_ensemble"
EMBEDDED = "embedded_ensemble"
FALLBACK = "openclip_fallback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Models that judge together.

    Attributes:
        key: their name in answers: `embedded_ensemble` for light models, `triple_ensemble` for any other
            set, `openclip_fallback` for one of open_clip's models alone, else the model's own name.
        facts: what all their records share.
        stand_in: they judge in place of the configured ensemble.
    """

    key: str
    ensemble: Ensemble
    criteria: Criteria
    facts: RunFacts
    stand_in: bool = False

    @property
    def policy(self) -> Policy:
        """The policy."""
        return self.criteria.policy


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestPanels:
    """What judges a request, by one policy.

    Attributes:
        panel: judges it.
        fallback: judges where a member of `panel` fails; None without one.
        options: how its inputs are decoded.
    """

    panel: Panel
    fallback: Panel | None
    options: Options

    def with_threshold(self, threshold: float) -> RequestPanels:
        """Return the same panels with another NSFW threshold, 0..1."""
        return self._rebuilt(threshold, self.options)

    def with_coverage(self, coverage: Coverage) -> RequestPanels:
        """Return the same panels with inputs that are shown to the models in this way."""
        decode = replace(self.options.decode, coverage=coverage)
        return self._rebuilt(self.panel.criteria.threshold, replace(self.options, decode=decode))

    def _rebuilt(self, threshold: float, options: Options) -> RequestPanels:
        def rebuilt(one: Panel) -> Panel:
            criteria = replace(one.criteria, threshold=threshold)
            run_id = one.facts.run_id
            return make_panel(one.ensemble, criteria, options.decode, run_id=run_id, stand_in=one.stand_in)

        fallback = None if self.fallback is None else rebuilt(self.fallback)
        return RequestPanels(panel=rebuilt(self.panel), fallback=fallback, options=options)


def panels_of(
    ensemble: Ensemble, criteria: Criteria, options: Options, *, run_id: str = "", stand_in: bool = False
) -> RequestPanels:
    """Return the panel of a loaded ensemble and criteria for it, and its fallback."""
    panel = make_panel(ensemble, criteria, options.decode, run_id=run_id, stand_in=stand_in)
    return RequestPanels(panel=panel, fallback=fallback_of(panel, options.decode), options=options)


def make_panel(
    ensemble: Ensemble,
    criteria: Criteria,
    decoding: DecodeOptions,
    *,
    run_id: str = "",
    stand_in: bool = False,
) -> Panel:
    """Return the panel of a loaded ensemble."""
    facts = RunFacts(
        policy=criteria.policy.name,
        policy_hash=criteria.policy.hash,
        threshold=criteria.threshold,
        run_key=run_key(ensemble, criteria, decoding),
        run_id=run_id or uuid.uuid4().hex,
    )
    return Panel(key=_key(ensemble), ensemble=ensemble, criteria=criteria, facts=facts, stand_in=stand_in)


def with_stand_in(ensemble: Ensemble) -> Ensemble:
    """Return the ensemble with its first text-image member as the stand-in if another one fails."""
    first = next((m.model.name for m in ensemble.members if m.model.kind == "text-image"), None)
    return replace(ensemble, stand_in=first) if len(ensemble.members) > 1 else ensemble


def fallback_of(panel: Panel, decoding: DecodeOptions) -> Panel | None:
    """Return the panel that judges if a member fails: the stand-in alone; None without a stand-in.

    It shares the loaded model and the cached prompts, so it needs no memory.
    """
    member = next((m for m in panel.ensemble.members if m.model.name == panel.ensemble.stand_in), None)
    if member is None:
        return None
    alone = Ensemble(
        members=[Member(member.model, 1.0)],
        dtype=panel.ensemble.dtype,
        batch_size=panel.ensemble.batch_size,
        degraded=True,
    )
    criteria = prepare(
        alone,
        panel.policy,
        threshold=panel.criteria.threshold,
        allow_partial=bool(panel.criteria.unseen),
        stand_in=True,
    )
    return make_panel(alone, criteria, decoding, run_id=panel.facts.run_id, stand_in=True)


def _key(ensemble: Ensemble) -> str:
    if len(ensemble.members) > 1:
        return EMBEDDED if all(member.model.spec in LIGHT for member in ensemble.members) else TRIPLE
    model = ensemble.members[0].model
    return FALLBACK if model.kind == "text-image" else model.name
