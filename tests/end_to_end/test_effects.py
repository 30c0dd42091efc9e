"""An option that has no effect is an error or a warning, never silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.command import SAMPLES, Command
from tests.end_to_end.killing import ALONE, make_pictures

CAT = str(SAMPLES / "cat.png")
OPEN_NSFW = ("--models", "open_nsfw", "--policy", "nsfw")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scan", CAT, "--policy", "nsfw", "--classes", "a, b"], "--policy has no effect beside --classes"),
        (["scan", CAT, "--sensitivity", "high", "--threshold", "0.4"], "--sensitivity has no effect beside"),
        (["scan", CAT, "--unsafe", "a"], "--unsafe has no effect without --classes"),
        (["scan", CAT, "--resume"], "--resume has no effect without -o FILE"),
        (["scan", CAT, "--overwrite", "-o", "-"], "--overwrite has no effect without -o FILE"),
        (["scan", CAT, "-q", "-v"], "--quiet has no effect beside --verbose"),
        (["scan", CAT, "-0"], "--null has no effect without a list"),
        (["scan", CAT, "--policy", "attributes", "--fail-on", "nsfw"], "--fail-on nsfw: no result can be"),
        (["scan", CAT, "--classes", "a, b", "--threshold", "0.5"], "--threshold has no effect, since none"),
        (["urls", __file__, "--url-column", "x"], "--url-column has no effect without a table"),
        (["serve", "--no-auth", "--api-keys-file", CAT], "--api-keys-file has no effect beside --no-auth"),
        (["serve", "--no-hosting", "--hosting-mb", "5"], "--hosting-mb has no effect beside --no-hosting"),
        (["bench", str(SAMPLES), "--size", "10x10"], "--size is of drawn pictures and has no effect"),
    ],
)  # fmt: skip
def test_what_cannot_have_an_effect_is_an_error(clipmod: Command, words: list[str], said: str) -> None:
    run = clipmod(*words)
    assert (run.code, run.stdout) == (2, b"")
    assert f"clipmod: error: {said}" in run.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--include", "*.png"], "--include has no effect: no folder, archive or list is named"),
        (["--early-exit", "exact"], "--early-exit has no effect: open_nsfw judges alone"),
        (["--dtype", "float32"], "--dtype has no effect on open_nsfw"),
    ],
)
def test_what_has_no_effect_on_these_inputs_or_models_is_a_warning(
    clipmod: Command, words: list[str], said: str
) -> None:
    run = clipmod("scan", CAT, *words, *OPEN_NSFW)
    assert run.code == 0
    assert f"clipmod: warning: {said}\n" in run.stderr


def test_what_has_an_effect_is_not_warned_about(clipmod: Command, folder: Path) -> None:
    make_pictures(folder, 1)
    run = clipmod("scan", folder, CAT, "--include", "*.png", "--max-depth", "1", *OPEN_NSFW)
    assert "has no effect" not in run.stderr
    assert len(run.records) == 2


def test_a_misspelt_variable_is_told(clipmod: Command) -> None:
    run = clipmod("scan", CAT, *ALONE, env={"CLIPMOD_TRESHOLD": "1"})
    assert run.code == 0
    assert "clipmod: warning: the variable CLIPMOD_TRESHOLD is no setting" in run.stderr
    assert 'did you mean "CLIPMOD_THRESHOLD"?' in run.stderr


def test_a_misspelt_key_of_the_settings_file_is_told_with_its_line(clipmod: Command, out: Path) -> None:
    file = out.parent / "mine.toml"
    file.write_text("limit = 1\n\ntreshold = 0.3\n")
    run = clipmod("scan", CAT, "--config", file)
    assert run.code == 2
    assert run.stderr == f'clipmod: error: {file}:3: unknown setting treshold (did you mean "threshold"?)\n'


def test_only_has_an_effect_beside_an_output(clipmod: Command, out: Path) -> None:
    """Stdout is no terminal and stays empty, unless records are asked for."""
    run = clipmod("scan", SAMPLES / "color-chart.png", CAT, "-o", out, "--only", "nsfw", *ALONE)
    assert len(out.read_bytes().splitlines()) == 2
    assert [record["final_decision"] for record in run.records] == ["NSFW"]
    assert clipmod("scan", CAT, "-o", out, "--overwrite", *ALONE).stdout == b""
