"""`--models`: what each spec means, what is refused, and the laws of weights."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.errors import SpecError
from clipmod_cli.models.backend import ModelSpec
from clipmod_cli.models.backends import FALLBACK
from clipmod_cli.models.registry import BACKENDS
from clipmod_cli.models.specs import (
    ENSEMBLE,
    Members,
    member_names,
    parse_models,
    parse_spec,
)


def _members(*texts: str) -> Members:
    members = parse_models(texts)
    assert members != "auto"
    return members


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nudenet", ModelSpec(backend=BACKENDS["nudenet"], spec="nudenet")),
        (
            "open_clip:ViT-B-32/laion2b_s34b_b79k",
            ModelSpec(
                backend=BACKENDS["open_clip"],
                spec="open_clip:ViT-B-32/laion2b_s34b_b79k",
                arch="ViT-B-32",
                tag="laion2b_s34b_b79k",
            ),
        ),
        (
            "open_clip:ViT-B/32/Laion2B-s34B-b79K",
            ModelSpec(
                backend=BACKENDS["open_clip"],
                spec="open_clip:ViT-B-32/laion2b_s34b_b79k",
                arch="ViT-B-32",
                tag="laion2b_s34b_b79k",
            ),
        ),
        (
            "open_clip:local-dir:models/mine",
            ModelSpec(
                backend=BACKENDS["open_clip"],
                spec="open_clip:local-dir:models/mine",
                path=Path("models/mine"),
            ),
        ),
        (
            "hf:Falconsai/nsfw_image_detection",
            ModelSpec(
                backend=BACKENDS["hf"],
                spec="hf:Falconsai/nsfw_image_detection",
                repo="Falconsai/nsfw_image_detection",
            ),
        ),
        ("hf:./a", ModelSpec(backend=BACKENDS["hf"], spec="hf:./a", path=Path("a"))),
        ("hf:../a/", ModelSpec(backend=BACKENDS["hf"], spec="hf:../a", path=Path("../a"))),
        ("hf:/srv/a", ModelSpec(backend=BACKENDS["hf"], spec="hf:/srv/a", path=Path("/srv/a"))),
        ("hf:~/a", ModelSpec(backend=BACKENDS["hf"], spec="hf:~/a", path=Path.home() / "a")),
    ],
)
def test_a_spec_means(text: str, expected: ModelSpec) -> None:
    assert parse_spec(text) == expected
    assert parse_spec(f"  {text} ") == expected


def test_names_stand_for_the_documented_models() -> None:
    assert _members("ensemble") == _members(ENSEMBLE)
    assert [m.spec.spec for m in _members("ensemble")] == [
        "open_clip:ViT-L-14/laion2b_s32b_b82k",
        "open_clip:ViT-H-14/laion2b_s32b_b79k",
        "open_clip:ViT-g-14/laion2b_s34b_b88k",
    ]
    assert [m.weight for m in _members("ensemble")] == pytest.approx([0.40, 0.35, 0.25])
    assert member_names(_members("ensemble")) == ("ViT-L-14", "ViT-H-14", "ViT-g-14")
    assert [(m.spec.spec, m.weight) for m in _members("fallback")] == [(FALLBACK, 1.0)]
    assert parse_models(["auto"]) == parse_models([" auto "]) == "auto"


def test_a_list_and_a_repeated_option_are_the_same() -> None:
    one = _members("nudenet=1, hf:a/b=3")
    assert one == _members("nudenet=1", "hf:a/b=3")
    assert [m.weight for m in one] == [0.25, 0.75]
    assert [m.weight for m in _members("nudenet", "hf:a/b")] == [0.5, 0.5]
    assert len(_members("ensemble,nudenet=1")) == 4


def test_the_weight_follows_the_last_equals_sign() -> None:
    (member,) = _members("hf:./run=3/best=1")
    assert (member.spec.spec, member.weight) == ("hf:./run=3/best", 1.0)
    (member,) = _members("hf:./a=2")
    assert member.spec.path == Path("a")


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ([], "names no model"),
        (["", " , "], "names no model"),
        (["nudenet,"], "an empty name"),
        (["auto,nudenet"], "auto beside other models"),
        (["nudnet"], "Did you mean nudenet"),
        (["ensembel"], "Did you mean ensemble"),
        (["openclip:ViT-L-14/openai"], "Did you mean open_clip:ViT-L-14/openai"),
        (["Falconsai/nsfw_image_detection"], "or hf:Falconsai/nsfw_image_detection"),
        (["open_clip:ViT-L-14"], "names no pretrained tag"),
        (["open_clip:local-dir:"], "names no folder"),
        (["hf:name"], r"hf:\./name"),
        (["hf:a/b/c"], "neither OWNER/NAME"),
        (["hf:a/.."], "neither OWNER/NAME"),
        (["hf:a--b/c"], "neither OWNER/NAME"),
        (["hf:"], "neither OWNER/NAME"),
        (["hf:/a\0b"], "names no folder"),
        (["hf:~nobody-of-that-name/x"], "write the path out"),
        (["hf:./run=3/best"], "write a weight after it"),
        (["nudenet=0"], "finite number over 0"),
        (["nudenet=-1"], "finite number over 0"),
        (["nudenet=nan"], "finite number over 0"),
        (["nudenet=inf"], "finite number over 0"),
        (["nudenet=1e999"], "finite number over 0"),
        (["nudenet=1_0"], "finite number over 0"),
        (["nudenet="], "finite number over 0"),
        (["nudenet=0.5,hf:a/b"], "hf:a/b has none"),
        (["ensemble,nudenet"], "nudenet has none"),
        (["ensemble=0.5"], "ensemble takes no weight"),
        (["nudenet,nudenet"], "named twice"),
        (["fallback", "open_clip:ViT-L-14/laion2b-s32b-b82k"], "named twice"),
        (["hf:./a,hf:./b/../a"], "the same folder"),
        (["nudenet=1e308,hf:a/b=1e-308"], "nothing beside the others"),
        (["nudenet=1,hf:a/b=9e-7"], "hf:a/b is next to nothing"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_advice(texts: Sequence[str], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        parse_models(texts)


@pytest.mark.parametrize("text", ["auto", "ensemble", "nudenet=1", "nudenet,hf:a/b"])
def test_one_model_is_asked_for_where_one_is_needed(text: str) -> None:
    with pytest.raises(SpecError):
        parse_spec(text)


def test_members_with_one_name_go_by_their_specs() -> None:
    specs = ("hf:/a/best", "hf:/b/best", "open_clip:local-dir:/c/nudenet", "nudenet", "hf:o/n")
    assert member_names(_members(*specs)) == (*specs[:4], "o/n")
    tags = ("open_clip:ViT-B-32/openai", "open_clip:ViT-B-32/dfn2b", "open_clip:ViT-L-14/openai")
    assert member_names(_members(*tags)) == (*tags[:2], "ViT-L-14")


def test_a_folder_goes_by_its_own_name_however_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/usr")
    assert member_names(_members("hf:./lib/../share")) == ("share",)
    assert member_names(_members("open_clip:local-dir:.")) == ("usr",)


_PARTS = st.from_regex(r"[a-z0-9]([a-z0-9_]{0,6}[a-z0-9])?", fullmatch=True)
_SPECS = st.one_of(
    st.just("nudenet"),
    st.builds("hf:{}/{}".format, _PARTS, _PARTS),
    st.builds("hf:/{}/{}".format, _PARTS, _PARTS),
    st.builds("open_clip:{}/{}".format, _PARTS, _PARTS),
    st.builds("open_clip:local-dir:./{}=".format, _PARTS),
)
_WEIGHTS = st.floats(min_value=1e-3, max_value=1e2)  # eight of them: none is next to nothing
_LISTS = st.lists(st.tuples(_SPECS, _WEIGHTS), min_size=1, max_size=8, unique_by=lambda pair: pair[0])


@given(_LISTS)
def test_weights_sum_to_one_and_keep_their_ratios(pairs: list[tuple[str, float]]) -> None:
    members = _members(*(f"{spec}={weight!r}" for spec, weight in pairs))
    assert math.fsum(m.weight for m in members) == pytest.approx(1)
    total = math.fsum(weight for _, weight in pairs)
    for member, (spec, weight) in zip(members, pairs, strict=True):
        assert member.spec.spec == spec
        assert member.weight == pytest.approx(weight / total)


@given(_LISTS, st.randoms(use_true_random=False))
def test_the_order_of_a_list_changes_nothing_but_the_order(
    pairs: list[tuple[str, float]], random: Random
) -> None:
    words = [f"{spec}={weight!r}" for spec, weight in pairs]
    shuffled = random.sample(words, len(words))
    straight = {m.spec: m.weight for m in _members(",".join(words))}
    mixed = {m.spec: m.weight for m in _members(*shuffled)}
    assert mixed.keys() == straight.keys()
    assert all(mixed[spec] == pytest.approx(weight) for spec, weight in straight.items())


@given(_LISTS)
def test_members_written_down_are_read_back(pairs: list[tuple[str, float]]) -> None:
    members = _members(*(f"{spec}={weight!r}" for spec, weight in pairs))
    again = _members(*(f"{member.spec.spec}={member.weight!r}" for member in members))
    assert [m.spec for m in again] == [m.spec for m in members]
    assert [m.weight for m in again] == pytest.approx([m.weight for m in members])


@given(_LISTS)
def test_names_tell_members_apart(pairs: list[tuple[str, float]]) -> None:
    names = member_names(_members(*(f"{spec}={weight!r}" for spec, weight in pairs)))
    assert len(set(names)) == len(names) == len(pairs)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        members = parse_models([text])
    except SpecError as error:
        assert str(error)  # noqa: PT017
    else:
        assert members == "auto" or math.fsum(m.weight for m in members) == pytest.approx(1)


def test_reading_specs_imports_nothing_heavy() -> None:
    script = (
        "import sys, clipmod_cli.models.specs, clipmod_cli.cli.commands.models;"
        "heavy = {'torch', 'open_clip', 'numpy', 'pydantic', 'PIL', 'huggingface_hub', 'duckdb'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
