"""Judged pictures as a moderation: the policy's UNSAFE categories under OpenAI's names. Judges nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from clipmod_cli.judge.policy.values import DIGITS, OPENAI_CATEGORIES, Policy, seen_categories
from clipmod_cli.records import Record
from clipmod_cli.server.apis.moderations.shapes import ImageModeration, ModeratedImage
from clipmod_cli.server.panels import Panel
from clipmod_cli.server.service import JudgedItem
from clipmod_cli.types import ReviewReason

REASONS: Final[tuple[ReviewReason, ...]] = get_args(ReviewReason)


def names_of(policy: Policy) -> dict[str, list[str]]:
    """Return by OpenAI's names the UNSAFE categories that count as these, many as none.

    A category without one of OpenAI's names stands under its own.
    """
    names: dict[str, list[str]] = {name: [] for name in OPENAI_CATEGORIES}
    for category in policy.categories:
        if category.safety == "UNSAFE":
            for name in dict.fromkeys(category.openai or (category.name,)):
                names.setdefault(name, []).append(category.name)
    return names


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureModeration:
    """One picture: its scores by name, and which names flag it; none where it is not flagged."""

    flagged: bool
    scores: Mapping[str, float]
    true: frozenset[str]


def moderation_of(record: Record, policy: Policy, *, reviews_flag: bool) -> PictureModeration:
    """Return the moderation of one judged picture.

    Args:
        record: of a picture that was judged, by a policy with UNSAFE categories.
        policy: that policy.
        reviews_flag: what needs review is flagged.
    """
    names = {name: own for name, own in names_of(policy).items() if own}
    scores = {name: _score(record, own, policy) for name, own in names.items()}
    flagged = record.final_decision == "NSFW" or bool(record.needs_review and reviews_flag)
    matched = set(record.matched_categories or ())
    true = {name for name, own in names.items() if matched & {*own} or scores[name] >= record.threshold}
    if not true:  # flagged by a sum, or to be reviewed: OpenAI's clients may look at the categories alone
        highest = max(scores.values())
        true = {name for name, score in scores.items() if score == highest}
    return PictureModeration(flagged=flagged, scores=scores, true=frozenset(true if flagged else ()))


def _score(record: Record, categories: Sequence[str], policy: Policy) -> float:
    """Return the score of some categories together, 0..1.

    That is the highest `category_scores` has of them, or with softmax scoring what they have together in the
    view that decided, if this is more.
    """
    shares = record.category_ensemble_probabilities or {}
    highest = max((record.category_scores or shares).get(name, 0.0) for name in categories)
    together = 0.0 if policy.is_independent else sum(shares.get(name, 0.0) for name in categories)
    return min(round(max(highest, together), DIGITS), 1.0)


def result_of(judged: Sequence[JudgedItem], *, reviews_flag: bool, has_text: bool) -> ImageModeration:
    """Return the result of all pictures of an input together.

    Flagged if one of them is; a category is true if it is for one of them, and has its highest score.
    """
    policy, threshold = judged[0].panel.policy, judged[0].record.threshold
    each = [moderation_of(one.record, policy, reviews_flag=reviews_flag) for one in judged]
    names, seen = names_of(policy), set[str]().union(*(_seen_by(one.panel) for one in judged))
    reasons = {reason for one in judged for reason in one.record.review_reasons or ()}
    return ImageModeration(
        flagged=any(one.flagged for one in each),
        categories={name: any(name in one.true for one in each) for name in names},
        category_scores={name: max(one.scores.get(name, 0.0) for one in each) for name in names},
        category_applied_input_types={
            name: ["image"] if seen & {*own} else [] for name, own in names.items()
        },
        needs_review=any(one.record.needs_review for one in judged),
        review_reasons=[reason for reason in REASONS if reason in reasons],
        unsafe_score=max(one.record.unsafe_score or 0.0 for one in judged),
        threshold=threshold,
        policy=policy.name,
        policy_hash=policy.hash,
        ignored_input_types=["text"] if has_text else [],
        images=[_image(one, flagged=found.flagged) for one, found in zip(judged, each, strict=True)],
    )


def _seen_by(panel: Panel) -> set[str]:
    """Return the categories that a model of the panel can see."""
    models = (member.model for member in panel.ensemble.members)
    return {
        name
        for model in models
        for name in seen_categories(panel.policy, spec=model.spec, text_image=model.kind == "text-image")
    }


def _image(judged: JudgedItem, *, flagged: bool) -> ModeratedImage:
    record = judged.record
    fields: dict[str, Any] = {name: getattr(record, name, None) for name in ModeratedImage.model_fields}
    return ModeratedImage(**{**fields, "flagged": flagged, "judged_by": judged.panel.key})
