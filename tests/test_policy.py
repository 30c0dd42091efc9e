"""Policies from names, files and words: defaults, paths, unreadable files, `--classes`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clipmod_cli.errors import PolicyError, UsageError
from clipmod_cli.judge.policy.reading import (
    BUILTIN,
    builtin_text,
    load_policy,
    parse_policy,
    policy_from_classes,
    read_policy,
)
from clipmod_cli.judge.policy.values import Category, Policy, unseen_categories

GOOD = builtin_text("nsfw")


def test_what_is_not_said_has_its_default() -> None:
    text = '[[categories]]\nname = "red_disc"\nsafety = "UNSAFE"\nprompts = ["r"]\n'
    policy = parse_policy('name = "x"\n' + text + text.replace("red", "blue").replace('"r"', '"b"'), "x.toml")
    assert policy == Policy(
        name="x",
        description="",
        templates=("{}",),
        agreement_threshold=0.7,
        review_margin=0.1,
        min_coverage=0.9,
        thresholds={"low": 0.7, "medium": 0.5, "high": 0.35, "ultra": 0.2},
        persistence_s=0.0,
        max_gap_s=10.0,
        categories=(
            Category(name="red_disc", label="red disc", safety="UNSAFE", prompts=("r",)),
            Category(name="blue_disc", label="blue disc", safety="UNSAFE", prompts=("b",)),
        ),
    )


def test_every_prompt_stands_in_every_template() -> None:
    category = Category(name="a", safety="SAFE", prompts=("{} and {0}", "b"))
    policy = Policy(name="x", categories=(category,), templates=("{}", "a {}, {x}"))
    assert policy.texts_of(category) == ("{} and {0}", "a {} and {0}, {x}", "b", "a b, {x}")


def test_a_threshold_holds_in_place_of_the_sensitivitys() -> None:
    policy = load_policy("nsfw")
    assert [policy.threshold_for(s) for s in ("low", "medium", "high", "ultra")] == [0.7, 0.5, 0.35, 0.2]
    assert policy.threshold_for("low", 0.0) == 0.0
    for wrong in (1.1, -0.1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="0 to 1"):
            policy.threshold_for("low", wrong)


def test_a_path_is_known_by_its_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "folder").mkdir()
    for name in ("mine.toml", "mine", "nsfw"):
        (tmp_path / name).write_text(builtin_text("general"), encoding="utf-8")
    for path in ("mine.toml", "./mine", "./folder/../mine", "~/mine", str(tmp_path / "mine"), "./nsfw"):
        assert load_policy(path).name == "general", path
    assert load_policy("nsfw").name == "nsfw"
    with pytest.raises(PolicyError, match='no built-in policy is named "mine"'):
        load_policy("mine")


def test_an_unknown_name_is_told_with_those_that_are_meant() -> None:
    with pytest.raises(PolicyError, match=r'"nswf" \(did you mean "nsfw"\?\)') as caught:
        load_policy("nswf")
    assert all(name in str(caught.value) for name in BUILTIN)
    assert caught.value.exit_code == 2


def test_classes_become_categories_in_their_order() -> None:
    policy = policy_from_classes(" a dog,Gore , people dancing", "gore")
    assert policy.name == "classes"
    assert [(c.name, c.label, c.safety) for c in policy.categories] == [
        ("a dog", "a dog", "SAFE"),
        ("Gore", "Gore", "UNSAFE"),
        ("people dancing", "people dancing", "SAFE"),
    ]
    assert "a photo of a dog" in policy.texts_of(policy.categories[0])
    assert "Gore" in policy.texts_of(policy.categories[1])
    assert policy_from_classes("a, b").unsafe == ()
    assert unseen_categories(policy, spec="nudenet", text_image=False) == ("Gore",)


@pytest.mark.parametrize(
    ("classes", "unsafe", "message"),
    [
        ("", None, "empty word"),
        ("a", None, "at least two"),
        ("a,,b", None, "empty word"),
        ("a, b,", None, "empty word"),
        ("a, b\x1b[2J", None, "control character"),
        ("a, b, A", None, '"A" twice'),
        ("big  dog, big dog", None, "twice"),
        ("a, b", "c, d", 'not among --classes: "c", "d"'),
        ("a, b", "", "--unsafe has an empty word"),
        ("a, b", "a, a", "twice"),
        ("a, b", "b, a", "leave one SAFE"),
    ],
)
def test_classes_that_make_no_sense_are_refused(classes: str, unsafe: str | None, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        policy_from_classes(classes, unsafe)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'name = "x"\n\xff\xd8\xff\xe0', "my.toml:2: not UTF-8 text"),
        ('name = "x"'.encode("utf-16"), "my.toml:1: not UTF-8 text"),
        (b"\x00", "my.toml:1: not valid TOML"),
        (b"", 'my.toml:1: missing "name"'),
        (b"#" * 1_000_001, "my.toml: larger than 1000000 bytes"),
    ],
)
def test_what_is_no_policy_file_is_told_as_such(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "my.toml"
    path.write_bytes(content)
    with pytest.raises(PolicyError) as caught:
        read_policy(str(path))
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["missing.toml", ".", "nul\0.toml", "~nobody-of-this-name/x.toml"])
def test_what_cannot_be_read_is_told_with_its_name(tmp_path: Path, name: str) -> None:
    path = name if name.startswith("~") else os.path.join(tmp_path, name)  # noqa: PTH118 (a NUL)
    with pytest.raises(PolicyError, match="cannot read the policy") as caught:
        load_policy(path)
    assert repr(name)[1:-1] in str(caught.value) or name == "."


def test_windows_files_are_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert read_policy(str(path)) == parse_policy(GOOD, "my.toml")
    path.write_bytes(("# 1\n# 2\nextra = 1\n" + GOOD).replace("\n", "\r\n").encode())
    with pytest.raises(PolicyError, match=r"my\.toml:3: unknown key"):
        read_policy(str(path))
