"""A policy and a loaded ensemble to `Criteria`; refuses a model that cannot see an UNSAFE category."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from clipmod_cli.ensemble.ensemble import Ensemble
from clipmod_cli.errors import BlindModelError, PolicyError
from clipmod_cli.judge.criteria import (
    Criteria,
    WeightedReader,
    categories_with_prompts,
    compared_texts,
    mapped_labels,
    mean_vectors,
    severity_order,
    unsafe_mask,
)
from clipmod_cli.judge.head_reader import HeadReader
from clipmod_cli.judge.policy.heads import HeadOfModel
from clipmod_cli.judge.policy.tuning import TunedModel
from clipmod_cli.judge.policy.values import Policy, seen_categories, sees_enough, unseen_categories
from clipmod_cli.judge.readers import (
    ComparingTextReader,
    DetectorReader,
    LabelReader,
    Reader,
    TextReader,
    VectorReader,
)
from clipmod_cli.models.seam import ModelWithLabels, ModelWithPrompts

log = logging.getLogger(__name__)

MOST_NAMED: Final = 8
"""Labels in the warning: some classifiers have thousands."""


def prepare(
    ensemble: Ensemble,
    policy: Policy,
    *,
    threshold: float,
    allow_partial: bool = False,
    stand_in: bool = False,
) -> Criteria:
    """Return the criteria of a policy for an ensemble; embeds the prompts and warns of unmapped labels.

    Args:
        ensemble: the loaded models.
        policy: the categories and thresholds.
        threshold: an unsafe score of at least this is NSFW, 0..1.
        allow_partial: accept a model that cannot see every UNSAFE category.
        stand_in: these models judge where one of the ensemble failed; what they judge needs review.

    Raises:
        BlindModelError: a model cannot see an UNSAFE category and that is not allowed.
        PolicyError: the policy was tuned for other models or weights.
    """
    models = [(member.model, member.weight) for member in ensemble.members]
    return criteria_of(
        models,
        policy,
        threshold=threshold,
        degraded=ensemble.degraded,
        allow_partial=allow_partial,
        stand_in=stand_in,
    )


def check_tuning(policy: Policy, models: Iterable[tuple[str, str, float]]) -> None:
    """Refuse a policy that was tuned for other models than those with this spec, revision and weight each.

    Raises:
        PolicyError: it was.
    """
    if policy.tuned is None:
        return
    members = [TunedModel(spec=spec, revision=rev, weight=weight) for spec, rev, weight in models]
    if difference := policy.tuned.difference(members):
        raise PolicyError(
            f"the thresholds of the policy {policy.name!r} promise nothing for these models: {difference}. "
            "Tune again with records of these models (clipmod tune)"
        )


def criteria_of(
    models: Sequence[tuple[ModelWithPrompts | ModelWithLabels, float]],
    policy: Policy,
    *,
    threshold: float,
    degraded: bool,
    allow_partial: bool = False,
    stand_in: bool = False,
) -> Criteria:
    """Return the criteria of a policy for these models with their weights, as `prepare` does.

    They need not be loaded: to judge by their evidence, their labels and text towers are enough.

    Raises:
        BlindModelError: a model cannot see an UNSAFE category and that is not allowed.
        PolicyError: the policy was tuned for other models or weights.
    """
    if not stand_in:
        check_tuning(policy, [(model.spec, model.revision, weight) for model, weight in models])
    unseen = {name for model, _ in models for name in check_sight(model, policy, allow_partial=allow_partial)}
    judges = [
        WeightedReader(name=model.name, weight=weight, reader=reader_of(model, policy))
        for model, weight in models
    ]
    return Criteria(
        policy=policy, threshold=threshold, judges=judges, unseen=sorted(unseen), degraded=degraded
    )


def check_sight(
    model: ModelWithPrompts | ModelWithLabels, policy: Policy, *, allow_partial: bool
) -> Sequence[str]:
    """Return the UNSAFE categories that a model cannot see.

    Raises:
        BlindModelError: there are some and that is not allowed, or the model cannot judge the policy at all.
    """
    unseen = unseen_categories(policy, spec=model.spec, text_image=model.kind == "text-image")
    if unseen and not allow_partial:
        raise BlindModelError(
            f"{model.name} cannot see {', '.join(unseen)} of the policy {policy.name!r}, so it would call "
            f"them safe. {_way_out(model, policy, unseen)}, or add --allow-partial"
        )
    if model.kind == "detector" and not any(c.otherwise for c in policy.categories):
        raise BlindModelError(
            f"{model.name} is a detector, and the policy {policy.name!r} has no category with "
            "`otherwise = true` for images where it finds nothing"
        )
    seen = seen_categories(policy, spec=model.spec, text_image=model.kind == "text-image")
    if not sees_enough(policy, seen, detector=model.kind == "detector"):
        one_safe = ", one of them SAFE," if policy.is_independent else ""
        raise BlindModelError(
            f"{model.name} sees {', '.join(seen) or 'none'} of the categories of the policy {policy.name!r}; "
            f"at least two{one_safe} need prompts or heads (for a text-image model) or mapped labels"
        )
    return unseen


def _way_out(model: ModelWithPrompts | ModelWithLabels, policy: Policy, unseen: Sequence[str]) -> str:
    """Return what can be done about categories that a model cannot see."""
    learnt = [c for c in policy.categories if c.name in unseen and c.head is not None]
    if model.kind != "text-image" or not learnt:
        return "Use another model, map its labels in the policy"
    specs = dict.fromkeys(one.spec for c in learnt if c.head for one in c.head.models)
    return (
        f"The head of {learnt[0].name} is for {', '.join(specs)}: use these, or learn it on evidence of "
        f"{model.spec} (clipmod tune head)"
    )


def text_reader(
    model: ModelWithPrompts, embeddings: Mapping[str, NDArray[np.float32]], policy: Policy
) -> VectorReader:
    """Return the reader of a text-image model from the vectors of the policy's texts."""
    if policy.is_independent:
        return ComparingTextReader(
            texts=compared_texts(embeddings, policy),
            unsafe=unsafe_mask(policy),
            scale=model.logit_scale,
        )
    return TextReader(
        vectors=mean_vectors(embeddings, policy),
        visible=categories_with_prompts(policy),
        total=len(policy.categories),
        scale=model.logit_scale,
    )


def reader_of(model: ModelWithPrompts | ModelWithLabels, policy: Policy) -> Reader:
    """Return the reader of a model's evidence; embeds the prompts.

    Raises:
        BlindModelError: the policy maps labels that the model does not have.
    """
    if model.kind == "text-image":
        return _vector_reader(model, policy)
    labels = mapped_labels(policy, model.spec)
    unsafe = unsafe_mask(policy) if policy.is_independent else None
    _check_labels(model, policy, labels)
    if model.kind == "detector":
        rest = next(i for i, c in enumerate(policy.categories) if c.otherwise)
        return DetectorReader(labels=labels, order=severity_order(policy), rest=rest, unsafe=unsafe)
    unmapped = frozenset(model.labels).difference(*labels)
    _warn_of(unmapped - set(policy.not_judged.get(model.spec, ())), model, policy)
    return LabelReader(labels=labels, unmapped=unmapped, unsafe=unsafe)


def _vector_reader(model: ModelWithPrompts, policy: Policy) -> VectorReader:
    heads = _heads_for(model, policy)
    prompts: VectorReader | None = None
    if texts := policy.texts:
        embeddings = dict(zip(texts, model.embed(texts), strict=True))
        prompts = text_reader(model, embeddings, policy)
    if prompts is not None and not heads:
        return prompts
    rest = next((i for i, c in enumerate(policy.categories) if c.otherwise), None)
    if prompts is None and rest is None:
        raise BlindModelError(
            f"the policy {policy.name!r} has no category with prompts or `otherwise = true` for what no head "
            "recognises"
        )
    return HeadReader(
        heads=heads,
        unsafe=unsafe_mask(policy),
        prompts=prompts,
        rest=rest or 0,
        independent=policy.is_independent,
    )


def _heads_for(model: ModelWithPrompts, policy: Policy) -> list[tuple[int, HeadOfModel]]:
    """Return the heads for a model with the indices of their categories, in the order of severity.

    Raises:
        PolicyError: one was learnt on embeddings of other weights.
    """
    heads = []
    for index in severity_order(policy):
        head = policy.categories[index].head
        found = None if head is None else head.of_model(model.spec)
        if found is None:
            continue
        if found.revision != model.revision:
            raise PolicyError(
                f"the head of {policy.categories[index].name} was learnt on {model.spec} at "
                f"{found.revision[:12]}, not at {model.revision[:12]}: its scores would mean nothing. Learn "
                "it again on evidence of these weights (clipmod tune head)"
            )
        heads.append((index, found))
    return heads


def _warn_of(labels: frozenset[str], model: ModelWithLabels, policy: Policy) -> None:
    if not labels:
        return
    named = sorted(labels)[:MOST_NAMED]
    more = [f"and {len(labels) - len(named)} more"] if len(labels) > len(named) else []
    log.warning(
        "the policy %r maps these labels of %s nowhere: %s. A picture needs review where they have more than "
        "half of the score; map them to categories, or list them under [not_judged]",
        policy.name,
        model.name,
        ", ".join([repr(label) for label in named] + more),
    )


def _check_labels(model: ModelWithLabels, policy: Policy, labels: Sequence[frozenset[str]]) -> None:
    """Refuse a label map with labels that the model does not have: it would never give them."""
    known = set(model.labels)
    if unknown := sorted(set().union(*labels, policy.not_judged.get(model.spec, ())) - known):
        raise BlindModelError(
            f"the policy {policy.name!r} names labels that {model.name} does not have: {', '.join(unknown)}. "
            f"It has: {', '.join(sorted(known))}"
        )
