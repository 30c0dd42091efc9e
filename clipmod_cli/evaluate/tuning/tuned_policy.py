"""The policy and the models that gave records their scores, and the text of a tuned policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clipmod_cli.errors import PolicyError, UsageError
from clipmod_cli.evidence.identity import EvidenceIdentity
from clipmod_cli.judge.policy.reading import parse_policy
from clipmod_cli.judge.policy.tuning import HEADING, TunedModel, Tuning
from clipmod_cli.judge.policy.values import Policy
from clipmod_cli.output.resuming.card import RunCard, card_path


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredBy:
    """What gave records their scores.

    Attributes:
        policy: as it was when they were judged.
        base: the same without tuned thresholds.
    """

    policy: Policy
    base: Policy
    models: Sequence[TunedModel]


def scored_by(records: str) -> ScoredBy:
    """Return what gave records their scores, by the run card beside them.

    Raises:
        UsageError: there is no run card, or the policy was the words of `--classes`.
        OutputMismatchError: another file is in the place of the run card.
    """
    path = Path(records).expanduser()
    facts = RunCard.read(path).facts
    if not facts:
        raise UsageError(
            f"{records} has no run card, {card_path(path).name}, which `clipmod scan -o FILE` writes beside "
            "its records. It names the models and the policy, without which no threshold can be promised"
        )
    text = facts["policy"]["text"]
    if not text:
        raise UsageError(f"{records} was judged by --classes: write a policy of them, and scan with that")
    if facts["decoding"].get("stop_on_hit"):
        raise UsageError(
            f"{records} was judged with --stop-on-hit, so scores of what was flagged are of the first hit, "
            "not of the worst view. Scan again without it"
        )
    policy = parse_policy(text, f"the policy in {card_path(path)}", facts["policy"].get("folder"))
    models = [
        TunedModel(spec=one["spec"], revision=one["revision"], weight=one["weight"])
        for one in facts["models"]["members"]
    ]
    return ScoredBy(policy=policy, base=untuned(policy), models=models)


def scored_by_policy(policy: Policy, identity: EvidenceIdentity) -> ScoredBy:
    """Return what gives stored evidence its scores.

    Raises:
        UsageError: the policy was the words of `--classes`.
    """
    if not policy.text:
        raise UsageError("--classes cannot be tuned: write a policy of them")
    models = [TunedModel(spec=m.spec, revision=m.revision, weight=m.weight) for m in identity.members]
    return ScoredBy(policy=policy, base=untuned(policy), models=models)


def untuned(policy: Policy) -> Policy:
    """Return the policy as it was before it was tuned."""
    if policy.tuned is None:
        return policy
    return parse_policy(policy.text.partition(HEADING)[0], f"the policy {policy.name}", policy.folder)


def tuned_text(base: Policy, tuning: Tuning, folder: Path | None = None) -> str:
    """Return the TOML of a policy with tuned thresholds: that of the base, and the `[tuned]` table.

    Args:
        base: the policy without them.
        tuning: the thresholds.
        folder: where it will be; None is where the base is.

    Raises:
        UsageError: the base has heads by paths that lead nowhere from that folder.
    """
    text = f"{base.text.rstrip()}\n\n{tuning.to_toml()}"
    try:
        found = parse_policy(text, "the tuned policy", folder or base.folder)
    except PolicyError as e:
        if not any(category.head for category in base.categories):
            raise
        raise UsageError(
            f"{e}\nPaths of heads are relative to their policy: write the tuned one into {base.folder}"
        ) from e
    if found != base.with_tuning(tuning):
        raise AssertionError("a tuned policy is read back as it was written")
    return text
