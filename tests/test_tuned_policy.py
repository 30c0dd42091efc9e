"""The `[tuned]` table of a policy: read strictly, part of the hash, and only for its models."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from clipmod_cli.errors import PolicyError, UsageError
from clipmod_cli.evaluate.tuning.tuned_policy import tuned_text
from clipmod_cli.judge.policy.reading import builtin_text, load_policy, parse_policy
from clipmod_cli.judge.policy.tuning import PlattCalibration, Promise, TunedModel, Tuning
from clipmod_cli.judge.prepare import check_tuning

BASE = load_policy("nsfw")
MODELS = (
    TunedModel(spec="open_clip:local-dir:/m/l", revision="abc" * 10, weight=0.6),
    TunedModel(spec='hf:./a "quoted" name', revision="def" * 10, weight=0.4),
)
SUM = Promise(
    threshold=0.412345, rate="recall", target=0.95, delta=0.05, bound=0.9523, positives=120, inputs=900
)
OWN = Promise(
    threshold=0.3,
    rate="precision",
    target=0.5,
    delta=0.1,
    bound=0.51,
    positives=80,
    inputs=900,
    category="explicit",
    prevalence=0.005,
)
TUNING = Tuning(
    base_hash=BASE.hash, tuned_on=date(2026, 11, 29), labels="ab" * 32, models=MODELS, promises=(SUM, OWN)
)
TEXT = tuned_text(BASE, TUNING)


def test_a_tuned_policy_is_the_old_one_with_its_thresholds() -> None:
    policy = parse_policy(TEXT, "tuned.toml")
    assert policy.tuned == TUNING
    assert set(policy.thresholds.values()) == {0.412345}
    assert [(one.name, one.threshold) for one in policy.category_thresholds] == [("explicit", 0.3)]
    assert policy.texts_of(policy.categories[0]) == BASE.texts_of(BASE.categories[0])
    assert TEXT.startswith(builtin_text("nsfw").rstrip())


def test_a_calibration_is_read_back_and_changes_no_threshold() -> None:
    found = PlattCalibration(slope=0.31, intercept=-2.5, positives=40, negatives=90, prevalence=0.005)
    text = tuned_text(BASE, replace(TUNING, calibration=found))
    policy = parse_policy(text, "tuned.toml")
    assert policy.tuned is not None
    assert policy.tuned.calibration == found
    plain = parse_policy(TEXT, "tuned.toml")
    assert (policy.thresholds, policy.category_thresholds) == (plain.thresholds, plain.category_thresholds)
    assert policy.hash != plain.hash, "records tell other probabilities"
    for old, new, words in (
        ("slope = 0.31", "slope = 0.0", '"slope" in [tuned] must be a number over 0, not 0.0'),
        ("slope = 0.31", "slope = -1", '"slope" in [tuned] must be a number over 0, not -1'),
        ('kind = "platt"', 'kind = "beta"', '"kind" in [tuned] must be "platt", not "beta"'),
        ("intercept = -2.5", "intercept = nan", '"intercept" in [tuned] must be a number'),
        ("prevalence = 0.005", "prevalence = 0.0", '"prevalence" in [tuned] must be a number over 0'),
        ("negatives = 90", "negatves = 90", 'unknown key "negatves" in [tuned]'),
    ):
        with pytest.raises(PolicyError) as caught:
            parse_policy(text.replace(old, new, 1), "tuned.toml")
        assert words in str(caught.value)


def test_without_a_promise_of_the_sum_its_thresholds_stay() -> None:
    own = Tuning(base_hash=BASE.hash, tuned_on=date(2026, 11, 29), models=MODELS, promises=(OWN,))
    policy = parse_policy(tuned_text(BASE, own), "tuned.toml")
    assert policy.thresholds == BASE.thresholds
    assert policy.threshold_for("high") == 0.35


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("threshold = 0.412345", "threshold = 0.412346"),
        ("threshold = 0.3\n", "threshold = 0.31\n"),
        ("weight = 0.6", "weight = 0.5"),
        ("abcabc", "abcabd"),
    ],
)
def test_the_hash_covers_thresholds_and_models(old: str, new: str) -> None:
    hashes = {BASE.hash, parse_policy(TEXT, "a").hash, parse_policy(TEXT.replace(old, new, 1), "b").hash}
    assert len(hashes) == 3


def test_a_policy_that_was_changed_after_tuning_is_refused_with_the_line() -> None:
    changed = TEXT.replace("prompts = [", 'prompts = ["something else entirely", ', 1)
    line = changed.splitlines().index(f'base_hash = "{BASE.hash}"') + 1
    with pytest.raises(
        PolicyError, match=rf"^tuned.toml:{line}: the policy above was changed since it was tuned"
    ):
        parse_policy(changed, "tuned.toml")


@pytest.mark.parametrize(
    ("old", "new", "at", "words"),
    [
        ("threshold = 0.412345", "threshold = 2", "threshold = 2", '"threshold" in [tuned] must be a number'),
        ('rate = "recall"', 'rate = "luck"', 'rate = "luck"', 'must be "recall", "precision" or "flagged"'),
        ("positives = 120", "positves = 120", "positves = 120", 'unknown key "positves" in [tuned]'),
        ("date = 2026-11-29", 'date = "today"', 'date = "today"', '"date" in [tuned] must be a date'),
        (
            'category = "explicit"',
            'category = "neutral"',
            'category = "neutral"',
            "no UNSAFE category is named",
        ),
        ('category = "explicit"\n', "", None, "the threshold of the unsafe score is promised twice"),
        ("labels_sha256", "lables_sha256", "lables_sha256 = ", '(did you mean "labels_sha256"?)'),
    ],
)
def test_the_table_is_read_strictly(old: str, new: str, at: str | None, words: str) -> None:
    text = TEXT.replace(old, new, 1)
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, "tuned.toml")
    assert words in str(caught.value)
    if at is not None:
        (line,) = [i for i, one in enumerate(text.splitlines(), 1) if one.startswith(at)]
        assert f"tuned.toml:{line}: " in str(caught.value)


def members(**changed: tuple[str, str, float]) -> list[tuple[str, str, float]]:
    return [changed.get(f"m{i}", (one.spec, one.revision, one.weight)) for i, one in enumerate(MODELS)]


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (
            members(m0=("open_clip:local-dir:/m/other", "abc" * 10, 0.6)),
            "it was tuned for open_clip:local-dir:/m/l",
        ),
        (members()[:1], "is to be used with open_clip:local-dir:/m/l"),
        (members()[::-1], "is to be used with"),
        (members(m1=(MODELS[1].spec, "123" * 10, 0.4)), "at defdefdefdef, not at 123123123123"),
        (members(m0=(MODELS[0].spec, MODELS[0].revision, 0.7)), "with the weight 0.6, not 0.7"),
    ],
)
def test_it_is_refused_for_other_models_revisions_and_weights(
    models: list[tuple[str, str, float]], words: str
) -> None:
    policy = parse_policy(TEXT, "tuned.toml")
    check_tuning(policy, members())
    check_tuning(BASE, models)
    with pytest.raises(PolicyError, match="promise nothing for these models") as caught:
        check_tuning(policy, models)
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_sensitivity_has_no_effect_on_a_tuned_threshold_and_is_refused() -> None:
    policy = parse_policy(TEXT, "tuned.toml")
    assert policy.threshold_for("medium") == 0.412345
    assert policy.threshold_for("medium", 0.9) == 0.9
    with pytest.raises(UsageError, match="--sensitivity high has no effect"):
        policy.threshold_for("high")


def test_a_tuned_file_has_the_fixed_place_where_it_was_added(tmp_path: Path) -> None:
    path = tmp_path / "tuned.toml"
    path.write_text(TEXT, encoding="utf-8")
    assert load_policy(str(path)).tuned == TUNING
    before, added, _ = TEXT.partition("# Added by `clipmod tune`")
    assert added
    assert parse_policy(before, "base").hash == BASE.hash
