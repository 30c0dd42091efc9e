"""Which models judge: those that `--models` names, or by `auto` the best that are on this machine."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from clipmod_cli.errors import MissingModelError, SettingsError
from clipmod_cli.install import install_command
from clipmod_cli.judge.policy.reading import CLASSES, load_policy
from clipmod_cli.judge.policy.values import Policy, seen_categories, sees_enough
from clipmod_cli.models.backend import ModelSpec, has_packages, human_size
from clipmod_cli.models.backends import FALLBACK, NUDENET
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.models.hub.weights import locate
from clipmod_cli.models.onnx.backend import OPEN_NSFW, OWEN_S
from clipmod_cli.models.specs import (
    AUTO,
    ENSEMBLE,
    Members,
    ensemble_size,
    member_names,
    parse_models,
    parse_spec,
)
from clipmod_cli.settings.definition import DEFAULT_POLICY

log = logging.getLogger(__name__)

MOST_SCREENS: Final = 3
"""Each further one doubles the number of rules that are tested, and the sample has to be larger."""
LIGHT: Final = (OPEN_NSFW, NUDENET, OWEN_S)
"""Small models on onnxruntime; `auto` takes those that are here together, with equal weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """Which models judge, before any is loaded.

    Attributes:
        auto: `auto` chose them.
        degraded: they judge in place of an ensemble that cannot be loaded.
        called: the members' names in records, if they are not the usual ones.
    """

    members: Members
    auto: bool = False
    degraded: bool = False
    called: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names in records."""
        return self.called or member_names(self.members)


def choose(models: Sequence[str], policy: Policy, hub: Hub | None = None) -> ModelChoice:
    """Return the models that a `--models` setting names; `auto` takes the best on this machine.

    `auto` takes the ensemble, else the fallback, else all light models. It never downloads, and skips models
    that cannot see the policy.

    Raises:
        SpecError: if the setting cannot be parsed.
        MissingModelError: if no model on this machine can see the policy.
    """
    named = parse_models(models)
    if named != AUTO:
        return ModelChoice(members=named)
    light = (name for name in LIGHT if _is_usable(parse_spec(name), policy, hub))
    for text in (ENSEMBLE, FALLBACK, ",".join(light)):
        members = parse_models([text]) if text else AUTO
        if members != AUTO and all(_is_usable(m.spec, policy, hub) for m in members):
            return ModelChoice(members=members, auto=True)
    raise MissingModelError(_nothing_sees(policy, hub))


def describe_choice(choice: ModelChoice, policy: Policy) -> str:
    """Return a sentence on the models that `auto` took."""
    names = ", ".join(choice.names)
    if choice.members == parse_models([ENSEMBLE]):
        return f"auto took the ensemble: {names}"
    return (
        f"auto took {names}, the best on this machine for the policy {policy.name!r}. "
        f"The ensemble weighs {human_size(ensemble_size())}: {' && '.join(_ensemble_commands())}"
    )


def _ensemble_commands() -> list[str]:
    """Return the commands that bring the ensemble."""
    fallback = parse_spec(FALLBACK)
    first = [] if has_packages(fallback) else [install_command(fallback.backend.extra)]
    return [*first, "clipmod models download ensemble"]


def choose_screens(
    text: str,
    members: Sequence[str],
    policy: Policy,
    hub: Hub | None = None,
    *,
    int8: Sequence[str] = (),
) -> ModelChoice | None:
    """Return the models that a `--screen` setting names and that are no members; None if there are none.

    Their names differ from those of the members, since evidence is kept by name.

    Args:
        text: `none`, `auto` (the light models on this machine, then `int8`), or models without weights.
        members: the specs of the ensemble.
        policy: that they judge by.
        hub: has the models of this machine.
        int8: members in 8 bits, where that is faster.

    Raises:
        SpecError: it cannot be parsed.
        SettingsError: it names too many models.
    """
    words = [] if text == "none" else text.split(",")
    if text == AUTO:
        words = [*light_models(policy, hub)[: MOST_SCREENS - len(int8)], *int8]
    specs = [parse_spec(word) for word in words]
    taken = [parse_spec(spec) for spec in members]
    identities = {spec.identity for spec in taken}
    new = [spec for spec in specs if spec.identity not in identities]
    if text != AUTO:
        for spec in specs:
            if spec not in new:
                log.warning(
                    "--screen %s has no effect: it is a member, and pictures may exit after any member",
                    spec.spec,
                )
    if len(new) > MOST_SCREENS:
        raise SettingsError(f"--screen names {len(new)} models; it takes {MOST_SCREENS} at most")
    if not new:
        return None
    chosen = parse_models([spec.spec for spec in new])
    if chosen == AUTO:
        raise AssertionError("auto is no spec")
    short = {spec.short_name for spec in taken}
    pairs = zip(chosen, member_names(chosen), strict=True)
    return ModelChoice(
        members=chosen, called=tuple(one.spec.spec if name in short else name for one, name in pairs)
    )


def light_models(policy: Policy, hub: Hub | None = None) -> list[str]:
    """Return the light models on this machine that see something of the policy."""
    specs = map(parse_spec, LIGHT)
    return [
        one.spec for one in specs if has_packages(one) and _sees_some(one, policy) and locate(one, hub=hub)
    ]


def _can_see(spec: ModelSpec, policy: Policy) -> bool:
    """Return whether the model sees every UNSAFE category and enough of all; its silence has a category."""
    seen = seen_categories(policy, spec=spec.spec, text_image=spec.backend.kind == "text-image")
    return {*policy.unsafe} <= {*seen} and _sees_some(spec, policy)


def _sees_some(spec: ModelSpec, policy: Policy) -> bool:
    """Return whether the model sees enough of the policy to tell anything; its silence has a category."""
    kind = spec.backend.kind
    seen = seen_categories(policy, spec=spec.spec, text_image=kind == "text-image")
    if not sees_enough(policy, seen, detector=kind == "detector"):
        return False
    return kind != "detector" or any(c.otherwise for c in policy.categories)


def _is_usable(spec: ModelSpec, policy: Policy, hub: Hub | None) -> bool:
    """Return whether the model and its packages are on this machine, and it can see the policy."""
    return has_packages(spec) and _can_see(spec, policy) and locate(spec, hub=hub) is not None


def _nothing_sees(policy: Policy, hub: Hub | None) -> str:
    """Return what happened where no model on this machine sees the policy, and the two ways out."""
    by = "your own --classes" if policy.name == CLASSES else f"the policy {policy.name!r}"
    lines = [
        f"no model on this machine can judge by {by}. Get one that can:",
        *(f"  {command}" for command in _models_to_get(policy)),
    ]
    default = load_policy(DEFAULT_POLICY)
    seeing = [name for name in LIGHT if _is_usable(parse_spec(name), default, hub)]
    if seeing and policy.name not in {default.name, CLASSES}:
        lines.append(f"or judge by --policy {default.name}, which {' and '.join(seeing)} can see")
    return "\n".join(lines)


def _models_to_get(policy: Policy) -> Iterator[str]:
    """Yield the commands that bring models which can see the policy, or the option that names them."""
    for spec in map(parse_spec, LIGHT):
        if not _can_see(spec, policy):
            continue
        if spec.backend.extra:
            yield f"{install_command(spec.backend.extra)}  # {spec.spec}"
        elif spec.backend.sources(spec):
            yield f"clipmod models download {spec.spec}"
    if _can_see(parse_spec(FALLBACK), policy):
        size = human_size(ensemble_size())
        *packages, download = _ensemble_commands()
        yield from packages
        yield f"{download}  # {size}; or fallback: the first of its models"
    learnt = dict.fromkeys(model.spec for c in policy.categories if c.head for model in c.head.models)
    if learnt:
        yield f"--models {shlex.quote(','.join(learnt))}  # its heads are for these"
