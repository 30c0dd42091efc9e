"""What a newcomer types wrongly is answered with what is right, before a model is loaded."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from tests.end_to_end.command import SAMPLES, Command
from tests.end_to_end.killing import ALONE

CAT = str(SAMPLES / "cat.png")
URL = "https://example.org/a.png?x=1&y=2"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scan", URL], f"echo {shlex.quote(URL)} | clipmod urls -"),
        (["scan", "ftp://host/a.png"], "scan does not read ftp://, but files, folders, s3://, gs://, hf://"),
        (["scan", "hf:datasets/a/b"], "Did you mean hf://datasets/a/b?"),
        (["scan", "s3:/bucket/a"], "Did you mean s3://bucket/a?"),
        (["urls", URL], f"echo {shlex.quote(URL)} | clipmod urls -"),
        (["urls", str(SAMPLES)], f"clipmod scan {SAMPLES}"),
        (["urls", CAT], f"is PNG, not a list of URLs. To judge it: clipmod scan {CAT}"),
        (["urls", "nowhere.txt"], "cannot read the list nowhere.txt: no such file"),
        ([CAT], f"To judge it: clipmod scan {CAT}"),
        ([URL], "clipmod urls -"),
        (["scan", CAT, "--frames", "foo"], "--frames must be auto, key, dense, fps=N or max=N, not 'foo'"),
        (["scan", CAT, "--coverage", "foo"], "--coverage must be full, centre or tiles=N, not 'foo'"),
        (["scan", CAT, "--device", "gpu"], "--device must be auto, cpu, cuda[:N] or mps, not 'gpu'"),
        (["scan", CAT, "--models", "hf://a/b"], "write hf:a/b"),
        (["scan", CAT, "--models", "nudnet"], "Did you mean nudenet?"),
        (["scan", CAT, "--policy", "nfsw"], 'did you mean "nsfw"?'),
    ],
)
def test_a_wrong_call_is_answered_with_the_right_one(clipmod: Command, words: list[str], said: str) -> None:
    run = clipmod(*words)
    assert (run.code, run.stdout) == (2, b"")
    first = run.stderr.splitlines()[-1 if "--models" in words else 0]
    assert first.startswith("clipmod: error: ")
    assert said in first
    assert "auto took" not in run.stderr


def test_a_list_as_an_input_is_judged_with_a_hint(clipmod: Command, out: Path) -> None:
    """What is named is always an input, so it has its record."""
    listed = out.parent / "urls.txt"
    listed.write_text(f"{URL}\n")
    run = clipmod("scan", listed, *ALONE)
    assert run.code == 6
    assert [record["error"]["code"] for record in run.records] == ["unsupported_format"]
    assert f"As a list of URLs: clipmod urls {listed}" in run.stderr
    run = clipmod("scan", "--files-from", listed, *ALONE)
    (record,) = run.records
    assert "`clipmod urls` judges URLs" in record["error"]["message"]


def test_own_classes_without_a_text_image_model_name_what_brings_one(clipmod: Command) -> None:
    run = clipmod("scan", CAT, "--classes", "cat, dog")
    assert run.code == 4
    assert "no model on this machine can judge by your own --classes" in run.stderr
    assert "clipmod models download ensemble" in run.stderr
    assert "fallback" in run.stderr
    assert "nudenet" not in run.stderr, "a detector cannot judge by them"


def test_names_that_no_file_can_have_are_inputs_too(clipmod: Command) -> None:
    run = clipmod("scan", "x" * 5000, os.fsdecode(b"\xff.png"), *ALONE)
    assert [record["error"]["code"] for record in run.records] == ["not_found", "not_found"]
