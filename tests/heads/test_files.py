"""The file of a head: what is written is read, and anything else is refused with a reason."""

from __future__ import annotations

import json
import os
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from clipmod_cli.errors import PolicyError
from clipmod_cli.judge.policy import heads
from clipmod_cli.judge.policy.heads import parse_head, read_head
from clipmod_cli.judge.policy.reading import read_policy
from tests.heads.kit import f32, head_bytes, make_head, of_model

GOOD = head_bytes("cat", {"clip": ([0.5, -2.0], 0.25), "other": ([1.0], -1.0)})
POLICY = """
name = "mine"

[[categories]]
name = "rest"
safety = "SAFE"
otherwise = true

[[categories]]
name = "cat"
safety = "UNSAFE"
head = "heads/cat.safetensors"
"""


def facts_of(data: bytes) -> dict[str, object]:
    end = 8 + int.from_bytes(data[:8], "little")
    found: dict[str, object] = json.loads(json.loads(data[8:end])["__metadata__"]["clipmod"])
    return found


def with_facts(**changed: object) -> bytes:
    """Return the good file with other facts, and its own numbers."""
    facts = json.dumps({**facts_of(GOOD), **changed})
    tensors = {"weights.0": [0.5, -2.0], "weights.1": [1.0], "biases": [0.25, -1.0]}
    return save({n: f32(v) for n, v in tensors.items()}, metadata={"clipmod": facts})


def with_numbers(**tensors: object) -> bytes:
    """Return the good file with other tensors; `biases=None` leaves them out."""
    usual: dict[str, object] = {
        "weights.0": f32([0.5, -2.0]),
        "weights.1": f32([1.0]),
        "biases": f32([0.25, -1.0]),
    }
    names = {"w0": "weights.0", "w1": "weights.1", "biases": "biases"}
    for name, value in tensors.items():
        usual[names[name]] = value
    kept = {name: value for name, value in usual.items() if value is not None}
    return save(kept, metadata={"clipmod": json.dumps(facts_of(GOOD))})  # type: ignore[arg-type]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cat.safetensors"
    path.write_bytes(GOOD)
    head, facts = read_head(path)
    assert head == make_head("cat", {"clip": ([0.5, -2.0], 0.25), "other": ([1.0], -1.0)})
    assert (head.category, facts.positives, facts.average_precision.low) == ("cat", 30, 0.8)
    found = head.of_model("clip")
    assert found is not None
    assert (found.weights.tolist(), found.bias) == ([0.5, -2.0], 0.25)
    assert head.of_model("another") is None


def test_a_head_is_a_sigmoid_that_never_overflows() -> None:
    head = of_model(2.0, -1.0, bias=0.5)
    found = head.probabilities(f32([[1, 0], [0, 1]]))
    assert found == pytest.approx([1 / (1 + np.exp(-2.5)), 1 / (1 + np.exp(0.5))])
    assert of_model(1e30).probabilities(f32([[1], [-1]])).tolist() == [1.0, 0.0]
    with pytest.raises(PolicyError, match="2 weights, and the model's embeddings have 3"):
        head.probabilities(np.zeros((1, 3), np.float32))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "damaged"),
        (b"not a head at all, but some text", "damaged"),
        (GOOD[:-4], "damaged"),
        (save({"x": np.zeros(3, np.float32)}), "damaged"),
        (save({"x": np.zeros(3, np.float32)}, metadata={"format": "pt"}), "damaged"),
        (b"\x15" + bytes(7) + b'{"__metadata__":null}', "damaged"),
        (save({"x": np.zeros(3, np.float32)}, metadata={"clipmod": "{"}), "is not a head"),
        (save({"x": np.zeros(3, np.float32)}, metadata={"clipmod": "[" * 100_000}), "is not a head"),
        (with_facts(format="clipmod-head/2"), "format: Input should be 'clipmod-head/1'"),
        (with_facts(category=""), "category"),
        (with_facts(models=[]), "models"),
        (with_facts(extra=1), "extra"),
        (with_facts(average_precision={"value": 2.0}), "average_precision"),
        (with_facts(models=[facts_of(GOOD)["models"][0]] * 2), "a model has two"),  # type: ignore[index]
        (with_numbers(biases=None), "biases"),
        (with_numbers(w1=None), "weights.1"),
        (with_numbers(biases=f32([1.0])), "biases is not a row of float32"),
        (with_numbers(w0=f32([[1.0]])), "weights.0 is not a row"),
        (with_numbers(w0=np.array([1.0])), "weights.0 is not a row"),
        (with_numbers(w0=f32([])), "weights.0 has no numbers"),
        (with_numbers(w0=f32([np.nan, 1.0])), "not finite"),
        (with_numbers(biases=f32([np.inf, 1.0])), "not finite"),
    ],
)
def test_anything_else_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(PolicyError, match=r"^x\.safetensors ") as raised:
        parse_head(data, "x.safetensors")
    assert told in str(raised.value)


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_mutated_files_are_read_or_refused(place: int, changed: bytes, random: Random) -> None:
    data = GOOD[:place] + changed + GOOD[place + random.randint(0, 5) :]
    try:
        head, _ = parse_head(data, "x")
    except PolicyError:
        return
    assert all(np.isfinite(one.weights).all() for one in head.models)


def test_what_is_no_file_of_a_head_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes(200))
    monkeypatch.setattr(heads, "MAX_BYTES", 100)
    for name, told in (
        ("pipe", "is not a file"),
        (".", "is not a file"),
        ("missing", "No such file"),
        ("large", "larger than 100 bytes"),
        ("a\0b", "cannot read the head"),
    ):
        with pytest.raises(PolicyError, match=told):
            read_head(tmp_path / name)


def write(folder: Path, text: str = POLICY, head: bytes | None = None) -> Path:
    (folder / "heads").mkdir(exist_ok=True)
    if head is not None:
        (folder / "heads" / "cat.safetensors").write_bytes(head)
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_policy_names_its_heads_by_paths_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, head=GOOD)
    policy = read_policy(str(path))
    assert policy.categories[1].head == parse_head(GOOD, "x")[0]
    assert policy.folder == str(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert read_policy("./mine.toml") == policy
    absolute = POLICY.replace("heads/cat", f"{tmp_path}/heads/cat")
    (tmp_path / "elsewhere").mkdir()
    assert read_policy(str(write(tmp_path / "elsewhere", absolute))).hash == policy.hash


def test_the_policy_s_hash_is_of_what_is_in_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, head=GOOD)
    before = read_policy(str(path)).hash
    write(tmp_path, head=head_bytes("cat", {"clip": ([0.5, -2.0], 0.26), "other": ([1.0], -1.0)}))
    assert read_policy(str(path)).hash != before
    write(tmp_path, head=GOOD)
    assert read_policy(str(path)).hash == before


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (None, "mine.toml:12: cannot read the head"),
        (b"x", "mine.toml:12: "),
        (head_bytes("dog", {"clip": ([1.0], 0.0)}), 'is a head for "dog", not for "cat"'),
    ],
)
def test_a_head_that_cannot_be_used_is_told_on_its_line(
    tmp_path: Path, head: bytes | None, told: str
) -> None:
    with pytest.raises(PolicyError) as raised:
        read_policy(str(write(tmp_path, head=head)))
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("head =", 'prompts = ["a cat"]\nhead =', '"head" stands in place of "prompts"'),
        ('head = "heads/cat.safetensors"', "head = 1", '"head" in [[categories]] must be text'),
        ("otherwise = true", 'labels = { open_nsfw = ["sfw"] }', "what no head recognises needs a category"),
        ('name = "mine"', 'name = "mine"\nscoring = "independent"', None),
        ('safety = "UNSAFE"', 'safety = "SAFE"', None),
    ],
)
def test_a_head_without_effect_is_refused(tmp_path: Path, old: str, new: str, told: str | None) -> None:
    path = write(tmp_path, POLICY.replace(old, new), GOOD)
    if told is None:
        assert read_policy(str(path)).categories[1].head
        return
    with pytest.raises(PolicyError) as raised:
        read_policy(str(path))
    assert told in str(raised.value)


def test_a_head_of_a_safe_category_has_no_effect_with_independent_scoring(tmp_path: Path) -> None:
    text = POLICY.replace('"UNSAFE"', '"SAFE"').replace("name", 'scoring = "independent"\nname', 1)
    bad = '\n[[categories]]\nname = "bad"\nsafety = "UNSAFE"\nprompts = ["bad"]\n'
    with pytest.raises(PolicyError, match="only UNSAFE categories have heads"):
        read_policy(str(write(tmp_path, text + bad, GOOD)))
