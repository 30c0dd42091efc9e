"""clipmod: batch moderation of pictures and videos.

    import clipmod_cli as clipmod

    policy = clipmod.load_policy("nsfw")
    ensemble = clipmod.load_ensemble("auto", policy)
    for result in clipmod.scan(["./uploads"], ensemble, policy):
        ...

The names below are the public ones. They are imported when first used, since torch is slow to.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipmod_cli.assemble import load_ensemble
    from clipmod_cli.ensemble.ensemble import Ensemble
    from clipmod_cli.errors import ClipmodError
    from clipmod_cli.judge.judging import judge
    from clipmod_cli.judge.policy.reading import load_policy, policy_from_classes
    from clipmod_cli.judge.policy.values import Policy
    from clipmod_cli.judge.prepare import prepare
    from clipmod_cli.pipeline import Options, run, run_key, scan
    from clipmod_cli.records import Record, RunFacts, to_record
    from clipmod_cli.sources.base import Rules
    from clipmod_cli.types import Failure, Item, Verdict

__version__ = "0.1.0"

_HOMES = {
    "ClipmodError": "errors",
    "Ensemble": "ensemble.ensemble",
    "Failure": "types",
    "Item": "types",
    "Options": "pipeline",
    "Policy": "judge.policy.values",
    "Record": "records",
    "Rules": "sources.base",
    "RunFacts": "records",
    "Verdict": "types",
    "judge": "judge.judging",
    "load_ensemble": "assemble",
    "load_policy": "judge.policy.reading",
    "policy_from_classes": "judge.policy.reading",
    "prepare": "judge.prepare",
    "run": "pipeline",
    "run_key": "pipeline",
    "scan": "pipeline",
    "to_record": "records",
}

__all__ = [
    "ClipmodError",
    "Ensemble",
    "Failure",
    "Item",
    "Options",
    "Policy",
    "Record",
    "Rules",
    "RunFacts",
    "Verdict",
    "judge",
    "load_ensemble",
    "load_policy",
    "policy_from_classes",
    "prepare",
    "run",
    "run_key",
    "scan",
    "to_record",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
