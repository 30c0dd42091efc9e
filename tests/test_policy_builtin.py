"""The built-in policies: their categories, label maps, and which models may judge by them."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from clipmod_cli.judge.policy.reading import BUILTIN, load_policy, parse_policy
from clipmod_cli.judge.policy.values import policy_notes, seen_categories, unseen_categories
from clipmod_cli.models.nudenet import LABELS as NUDENET_LABELS
from clipmod_cli.settings.definition import DEFAULT_POLICY, SERVE_DEFAULTS

FALCONSAI = "hf:Falconsai/nsfw_image_detection"
LUKEJACOB = "hf:LukeJacob2023/nsfw-image-detector"
AGE = "hf:nateraw/vit-age-classifier"

OWN_LABELS = {
    "nudenet": set(NUDENET_LABELS),
    "open_nsfw": {"sfw", "nsfw"},
    "owen-s": {"NSFL", "NSFW", "SFW"},
    FALCONSAI: {"normal", "nsfw"},
    LUKEJACOB: {"drawings", "hentai", "neutral", "porn", "sexy"},
    AGE: {"0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "more than 70"},
}


def test_the_built_in_policies_are_those_that_ship() -> None:
    shipped = {
        f.name for f in (files("clipmod_cli.judge") / "policies").iterdir() if f.name.endswith(".toml")
    }
    assert shipped == {f"{name}.toml" for name in BUILTIN}
    assert {DEFAULT_POLICY, *SERVE_DEFAULTS.values()} <= set(BUILTIN)


DOCUMENTED = {
    "male_only": ("male only", "SAFE", "Single men without women"),
    "female_present": ("female present", "UNSAFE", "Any woman/girl detected"),
    "adult_object": ("adult object", "UNSAFE", "Explicit content or adult toys"),
}

SAFETIES = {
    "female-presence": "no_person- male_only- female_present+ adult_object+",
    "female-presence-3": "male_only- female_present+ adult_object+",
    "nsfw": "neutral- drawing- suggestive- nudity+ explicit+",
    "graphic": "neutral- sexual+ gore+",
    "general": "neutral- people- food- medicine- tools- sport- emblems- alcohol- swimwear- "
    "drugs+ weapons+ nudity+ hateful_symbols+ sexual_activity+ gore_violence+",
    "attributes": "nobody- glasses- beard- smile- hat- age_0_19- age_20_39- age_40_59- age_60_up-",
}


OPENAI = {
    "female-presence": {"female_present": (), "adult_object": ("sexual",)},
    "female-presence-3": {"female_present": (), "adult_object": ("sexual",)},
    "nsfw": {"nudity": ("sexual",), "explicit": ("sexual",)},
    "graphic": {"sexual": ("sexual",), "gore": ("violence", "violence/graphic")},
    "general": {
        "drugs": (),
        "weapons": (),
        "nudity": ("sexual",),
        "hateful_symbols": ("hate",),
        "sexual_activity": ("sexual",),
        "gore_violence": ("violence", "violence/graphic"),
    },
    "attributes": {},
}


@pytest.mark.parametrize("name", BUILTIN)
def test_a_built_in_policy_says_which_of_openais_categories_are_meant(name: str) -> None:
    told = {c.name: c.openai for c in load_policy(name).categories if c.safety == "UNSAFE"}
    assert told == OPENAI[name]


@pytest.mark.parametrize("name", BUILTIN)
def test_a_built_in_policy_has_its_categories_in_order(name: str) -> None:
    policy = load_policy(name)
    assert policy.name == name
    assert policy.description
    assert (
        " ".join(c.name + ("+" if c.safety == "UNSAFE" else "-") for c in policy.categories) == SAFETIES[name]
    )
    assert policy.unsafe == tuple(c.name for c in policy.categories if c.safety == "UNSAFE")
    assert policy.thresholds == {"low": 0.7, "medium": 0.5, "high": 0.35, "ultra": 0.2}
    assert policy.agreement_threshold == 0.7


@pytest.mark.parametrize("name", BUILTIN)
def test_a_text_image_model_sees_every_category_of_a_built_in_policy(name: str) -> None:
    policy = load_policy(name)
    assert seen_categories(policy, spec="any", text_image=True) == tuple(c.name for c in policy.categories)
    assert all(len(c.prompts) >= 2 and c.description for c in policy.categories)


@pytest.mark.parametrize("name", BUILTIN)
def test_a_built_in_policy_maps_only_labels_that_the_model_has(name: str) -> None:
    for category in load_policy(name).categories:
        for spec, labels in category.labels.items():
            assert set(labels) <= OWN_LABELS[spec]


def test_the_detectors_labels_are_those_of_its_package() -> None:
    module = pytest.importorskip("nudenet.nudenet")
    assert set(vars(module)["__labels"]) == set(NUDENET_LABELS)


@pytest.mark.parametrize("name", ["female-presence", "female-presence-3"])
def test_the_documented_categories_are_as_documented(name: str) -> None:
    found = {c.name: (c.label, c.safety, c.description) for c in load_policy(name).categories}
    assert {key: found[key] for key in DOCUMENTED} == DOCUMENTED


@pytest.mark.parametrize(
    ("spec", "judges"),
    [
        ("nudenet", {"female-presence", "nsfw"}),
        (LUKEJACOB, {"nsfw"}),
        ("open_nsfw", {"nsfw"}),
        ("owen-s", {"nsfw", "graphic"}),
        (FALCONSAI, {"nsfw"}),
        (AGE, set()),
    ],
)
def test_which_models_see_all_that_a_built_in_policy_flags(spec: str, judges: set[str]) -> None:
    policies = {name: load_policy(name) for name in BUILTIN if name != "attributes"}
    seeing = {n for n, p in policies.items() if not unseen_categories(p, spec=spec, text_image=False)}
    assert seeing == judges


def test_a_detector_can_judge_a_built_in_policy_only_where_its_silence_means_something() -> None:
    for name in BUILTIN:
        policy = load_policy(name)
        if any("nudenet" in c.labels for c in policy.categories):
            assert sum(c.otherwise for c in policy.categories) == 1
    assert not any(c.otherwise for c in load_policy("female-presence-3").categories)


def test_a_classifier_that_judges_a_built_in_policy_knows_something_safe() -> None:
    remarks = {name: policy_notes(load_policy(name)) for name in BUILTIN}
    assert {name for name, found in remarks.items() if found} == {"general"}
    (remark,) = remarks["general"]
    assert "nudenet cannot see drugs" in remark


def test_attributes_flags_nothing_and_only_the_age_model_maps_to_it() -> None:
    policy = load_policy("attributes")
    assert policy.unsafe == ()
    assert unseen_categories(policy, spec="nudenet", text_image=False) == ()
    assert seen_categories(policy, spec="nudenet", text_image=False) == ()
    assert len(seen_categories(policy, spec=AGE, text_image=False)) == 4


def test_unseen_are_the_unsafe_categories_alone() -> None:
    policy = load_policy("general")
    unseen = unseen_categories(policy, spec="nudenet", text_image=False)
    assert unseen == ("drugs", "weapons", "hateful_symbols", "sexual_activity", "gore_violence")
    assert unseen_categories(policy, spec="nudenet", text_image=True) == ()


DOCUMENT = (Path(__file__).parent.parent / "docs" / "policies.md").read_text(encoding="utf-8")


def test_the_documented_examples_are_policies_without_a_doubt() -> None:
    plain, independent = (
        parse_policy(f"name = {example}", "example.toml")
        for example in re.findall(r"```toml\nname = (.*?)```", DOCUMENT, re.DOTALL)
    )
    assert plain.unsafe == ("red_disc",)
    assert plain.thresholds == load_policy("nsfw").thresholds
    assert (independent.scoring, independent.unsafe) == ("independent", ("weapons", "drugs"))
    assert all("has no effect at the sensitivities high, ultra" in note for note in policy_notes(independent))


@pytest.mark.parametrize("name", BUILTIN)
def test_the_document_tells_what_each_built_in_policy_flags(name: str) -> None:
    (row,) = re.findall(rf"^\| `{name}`.*$", DOCUMENT, re.MULTILINE)
    if name not in {"female-presence-3", "attributes"}:
        assert re.findall(r"`([a-z_]+)`", row.split("|")[2]) == list(load_policy(name).unsafe)
    assert re.search(rf"^### `{name}`", DOCUMENT, re.MULTILINE)
