"""No option destroys an input or another output."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.end_to_end.command import SAMPLES, Command

OPTIONS = ("-o", "--errors-to", "--log-file", "--db")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    found = next(path for path in sorted(SAMPLES.rglob("*")) if path.suffix in {".jpg", ".png"})
    return Path(shutil.copy(found, tmp_path / "picture.jsonl"))


def assert_refused(clipmod: Command, kept: Path, words: tuple[str | Path, ...], message: str) -> None:
    before = kept.read_bytes()
    run = clipmod(*words)
    assert (run.code, run.stdout) == (2, b"")
    assert message in run.stderr
    assert str(kept) in run.stderr
    assert kept.read_bytes() == before


@pytest.mark.parametrize("option", OPTIONS)
def test_an_output_that_is_a_source(clipmod: Command, picture: Path, option: str) -> None:
    assert_refused(clipmod, picture, ("scan", picture, option, picture), "are the same file")


@pytest.mark.parametrize("option", [*OPTIONS, "--save-to"])
def test_an_output_that_is_a_list(clipmod: Command, tmp_path: Path, option: str) -> None:
    urls = tmp_path / "urls.txt"
    urls.write_text("http://localhost/a.png\n")
    assert_refused(clipmod, urls, ("urls", urls, option, urls), "are the same file")
    assert_refused(clipmod, urls, ("urls", "--files-from", urls, option, urls), "are the same file")


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_an_output_that_is_a_link_to_a_source(clipmod: Command, picture: Path, link: object) -> None:
    assert callable(link)
    other = picture.with_name("link.jsonl")
    link(picture, other)
    assert_refused(clipmod, picture, ("scan", picture, "--errors-to", other), "are the same file")


@pytest.mark.parametrize("exists", [True, False])
def test_two_outputs_that_are_the_same(clipmod: Command, picture: Path, *, exists: bool) -> None:
    out = picture.with_name("out.jsonl")
    if exists:
        out.write_text('{"a": 1}\n')
    before = out.read_bytes() if exists else None
    for option in OPTIONS[1:]:
        run = clipmod("scan", picture, "-o", out, option, out)
        assert run.code == 2
        assert f"--output {out} and {option} {out} are the same file" in run.stderr
    assert (out.read_bytes() if out.exists() else None) == before


@pytest.mark.parametrize("option", ["--errors-to", "--log-file"])
def test_a_picture_in_a_scanned_folder(clipmod: Command, picture: Path, option: str) -> None:
    assert_refused(clipmod, picture, ("scan", picture.parent, option, picture), "would be overwritten")
