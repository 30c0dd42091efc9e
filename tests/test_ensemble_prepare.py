"""Who may judge a policy: only a model that sees all it forbids."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.errors import BlindModelError, SettingsError
from clipmod_cli.judge.policy.reading import load_policy
from clipmod_cli.judge.policy.values import Category, Policy
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.models.nudenet import LABELS as NUDENET_LABELS
from tests.colour_models import POLICY, AnyColourModel, RedClassifier, RedDetector, RedEmbedder

GORE = Category(name="gore", safety="UNSAFE", prompts=("blood",))
WITH_GORE = replace(POLICY, categories=(*POLICY.categories, GORE))


def ensemble_of(*models: AnyColourModel, degraded: bool = False) -> Ensemble:
    members = [Member(model, 1 / len(models)) for model in models]
    return Ensemble(members=members, degraded=degraded)


def without_otherwise(policy: Policy) -> Policy:
    return replace(policy, categories=tuple(replace(c, otherwise=False) for c in policy.categories))


def test_criteria_have_the_members_in_order() -> None:
    ensemble = ensemble_of(RedEmbedder(name="e"), RedDetector(name="d"), degraded=True)
    criteria = prepare(ensemble, POLICY, threshold=0.25)
    assert [(judge.name, judge.weight) for judge in criteria.judges] == [("e", 0.5), ("d", 0.5)]
    assert (criteria.threshold, criteria.policy, criteria.degraded) == (0.25, POLICY, True)
    assert criteria.unseen == []
    assert criteria.names == ("other", "red")


@pytest.mark.parametrize("threshold", [math.nan, -0.01, 1.01, math.inf])
def test_a_threshold_that_nothing_or_all_is_over_is_refused(threshold: float) -> None:
    with pytest.raises(SettingsError, match="it must be from 0 to 1") as told:
        prepare(ensemble_of(RedEmbedder()), POLICY, threshold=threshold)
    assert told.value.exit_code == 2


@pytest.mark.parametrize("weight", [0.0, -0.5, 1e-320, 9e-7, math.nan, math.inf])
def test_a_member_that_weighs_next_to_nothing_is_refused(weight: float) -> None:
    """Where it stands in for the others, its share would be divided by that."""
    members = [Member(RedEmbedder(name="a"), 0.5), Member(RedEmbedder(name="b"), weight)]
    with pytest.raises(SettingsError, match="b has the weight"):
        prepare(Ensemble(members=members, stand_in="b"), POLICY, threshold=0.5)


def test_each_prompt_is_embedded_once() -> None:
    model = RedEmbedder()
    policy = replace(POLICY, templates=("{}", "a {}"))
    prepare(ensemble_of(model), policy, threshold=0.5)
    texts = [text for category in policy.categories for text in policy.texts_of(category)]
    assert sorted(model.asked) == sorted(texts)


@pytest.mark.parametrize("model", [RedClassifier(name="blind"), RedDetector(name="blind")])
def test_a_model_that_cannot_see_what_is_forbidden_is_refused(model: AnyColourModel) -> None:
    with pytest.raises(BlindModelError, match=r"blind cannot see gore .*--allow-partial") as told:
        prepare(ensemble_of(RedEmbedder(), model), WITH_GORE, threshold=0.5)
    assert told.value.exit_code == 2


def test_a_text_image_model_without_prompts_is_blind() -> None:
    policy = replace(POLICY, categories=(*POLICY.categories, replace(GORE, prompts=(), labels={"x": ("y",)})))
    with pytest.raises(BlindModelError, match="cannot see gore"):
        prepare(ensemble_of(RedEmbedder()), policy, threshold=0.5)


def test_with_allow_partial_it_is_said_what_is_not_seen() -> None:
    ensemble = ensemble_of(RedEmbedder(), RedClassifier(name="c"), RedDetector(name="d"))
    criteria = prepare(ensemble, WITH_GORE, threshold=0.5, allow_partial=True)
    assert list(criteria.unseen) == ["gore"]


def test_a_model_that_sees_all_is_not_partial() -> None:
    criteria = prepare(ensemble_of(RedEmbedder()), WITH_GORE, threshold=0.5, allow_partial=True)
    assert list(criteria.unseen) == []


@pytest.mark.parametrize("allow_partial", [False, True])
def test_a_detector_needs_something_that_its_silence_means(allow_partial: bool) -> None:
    with pytest.raises(BlindModelError, match="otherwise"):
        prepare(
            ensemble_of(RedDetector()), without_otherwise(POLICY), threshold=0.5, allow_partial=allow_partial
        )
    prepare(ensemble_of(RedClassifier()), without_otherwise(POLICY), threshold=0.5)


@pytest.mark.parametrize(
    "model",
    [RedClassifier(labels=("other", "rde")), RedDetector(labels=("BLUE",))],
    ids=["label", "detector"],
)
@pytest.mark.parametrize("allow_partial", [False, True])
def test_labels_that_a_model_does_not_have_are_refused(model: AnyColourModel, allow_partial: bool) -> None:
    with pytest.raises(BlindModelError, match=r"does not have: (red|RED)"):
        prepare(ensemble_of(model), POLICY, threshold=0.5, allow_partial=allow_partial)


@pytest.mark.parametrize("model", [RedEmbedder(), RedClassifier(), RedDetector()])
@pytest.mark.parametrize("allow_partial", [False, True])
def test_a_model_that_sees_nothing_of_a_policy_is_refused(model: AnyColourModel, allow_partial: bool) -> None:
    """Even where nothing is UNSAFE: it would give every picture the same answer, or none."""
    policy = Policy(
        name="attributes",
        categories=(
            Category(name="nobody", safety="SAFE", otherwise=True, labels={"x": ("nobody",)}),
            Category(name="beard", safety="SAFE", labels={"x": ("beard",)}),
        ),
    )
    with pytest.raises(BlindModelError, match="attributes"):
        prepare(ensemble_of(model), policy, threshold=0.5, allow_partial=allow_partial)


def test_one_category_with_prompts_is_no_choice() -> None:
    only = replace(POLICY.categories[0], prompts=())
    policy = replace(POLICY, categories=(only, POLICY.categories[1]))
    with pytest.raises(BlindModelError, match="red sees red of"):
        prepare(ensemble_of(RedEmbedder()), policy, threshold=0.5)


@pytest.mark.parametrize(
    ("policy", "sees"), [("female-presence", True), ("nsfw", True), ("general", False), ("attributes", False)]
)
def test_the_nudity_detector_under_the_built_in_policies(policy: str, sees: bool) -> None:
    """Under one with gore it would call gore Safe."""
    detector = RedDetector(name="nudenet", spec="nudenet", labels=NUDENET_LABELS)
    ensemble = ensemble_of(detector)
    if sees:
        assert list(prepare(ensemble, load_policy(policy), threshold=0.5).unseen) == []
    else:
        with pytest.raises(BlindModelError):
            prepare(ensemble, load_policy(policy), threshold=0.5)
