"""Near copies on the page: seen before the decision, which is on all of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

from clipmod_cli.output.reading.withheld import withheld_path
from clipmod_cli.review.decisions import read_decisions
from tests.decode.photographs import photograph
from tests.end_to_end.command import SAMPLES, Command
from tests.review.conftest import Reviewed, ReviewVisit
from tests.review.judged import file_line

NEAR = ("--audit", "0%", "--near", "pdq", "--only", "nsfw,safe")


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """A picture, another one, and two smaller copies of the first; the machine called the last one Safe."""
    picture = photograph("coffee.png")
    picture.save(tmp_path / "large.png")
    picture.resize((300, 200)).save(tmp_path / "small.jpg", quality=60)
    picture.resize((240, 160)).save(tmp_path / "safe.jpg", quality=80)
    cat = Path(shutil.copy(SAMPLES / "cat.png", tmp_path))
    found = [tmp_path / "large.png", cat, tmp_path / "small.jpg", tmp_path / "safe.jpg"]
    lines = [file_line(path, unsafe) for path, unsafe in zip(found, (0.52, 0.6, 0.8, 0.1), strict=True)]
    (tmp_path / "out.jsonl").write_bytes(b"".join(lines))
    return found


def labels(visit: ReviewVisit) -> dict[str, str]:
    state = read_decisions(visit.decisions)
    return {Path(one.source).name: one.label for one in state.current.values()}


@pytest.mark.usefixtures("pictures")
def test_one_decision_is_on_all_that_can_be_seen(reviewed: Reviewed) -> None:
    with reviewed(words=NEAR) as visit:
        page = visit.page
        assert visit.name == "large.png"
        small = page.locator("#near button")
        assert [text.split()[0] for text in small.all_inner_texts()] == ["NSFW", "NSFW", "Safe"]
        assert page.locator("#near img").count() == 3
        expect(page.locator("#near-text")).to_contain_text("2 near copies: the decision is on all 3.")
        assert visit.of("/api/sharp") == []
        visit.press("n")
        assert visit.name == "small.jpg"
        page.keyboard.down("b")
        expect(page.locator("#sharp")).to_be_visible()
        page.keyboard.up("b")
        assert (visit.of("/api/sharp")[0].request.post_data_json or {})["id"] == 2
        visit.press("u")
        visit.counts("3 done · 1 left")
        assert visit.name == "cat.png"
        assert page.locator("#near").is_hidden()
        assert labels(visit) == {"large.png": "unsafe", "small.jpg": "unsafe", "safe.jpg": "unsafe"}
        visit.press("z")
        visit.counts("0 done · 4 left")
        assert visit.name == "large.png"
        assert small.count() == 3


@pytest.mark.usefixtures("pictures")
def test_safe_first_shows_what_the_machine_judged_otherwise(reviewed: Reviewed) -> None:
    with reviewed(words=NEAR) as visit:
        expect(visit.page.locator("#near-differs")).to_contain_text("judged 1 otherwise")
        visit.press("s")
        assert visit.name == "safe.jpg"
        visit.counts("0 done · 4 left")
        expect(visit.page.locator("#near-differs")).to_be_empty()
        visit.press("s")
        visit.counts("3 done · 1 left")


def test_a_near_copy_without_a_picture_is_not_decided(reviewed: Reviewed, pictures: list[Path]) -> None:
    """A file that is damaged since, with its old size and time; the hashes are those of the records."""
    large, _, small, safe = pictures
    scores = {large: 0.52, small: 0.8, safe: 0.1}
    lines = [file_line(path, score, pdq="f" * 64) for path, score in scores.items()]
    large.with_name("out.jsonl").write_bytes(b"".join(lines))
    before = small.stat()
    small.write_bytes(bytes(before.st_size))
    os.utime(small, ns=(before.st_atime_ns, before.st_mtime_ns))
    with reviewed(words=NEAR) as visit:
        expect(visit.page.locator("#near-text")).to_contain_text("1 near copy: the decision is on all 2.")
        visit.press("u")
        assert labels(visit).keys() == {"large.png", "safe.jpg"}
        assert visit.name == "small.jpg"


@pytest.mark.usefixtures("pictures")
def test_the_mark_of_a_minor_is_on_all(reviewed: Reviewed) -> None:
    with reviewed(words=NEAR) as visit:
        page = visit.page
        visit.press("g")
        assert page.locator(".tile").count() == 4
        visit.press("m")
        expect(page.locator("#confirm-minor")).to_contain_text("So will its 2 near copies")
        visit.press("m")
        assert page.locator(".tile").count() == 1
        page.get_by_role("button", name="It was a mistake").click()
        visit.settle()
        assert page.locator(".tile").count() == 4
        visit.press("g", "m", "m", "Enter")
        visit.counts("3 done · 1 left")
        assert visit.name == "cat.png"
    assert withheld_path(visit.decisions.with_name("out.jsonl")).read_bytes().count(b"\n") == 3


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--near", "sha256"], "the same bytes are one decision anyway"),
        (["--near", "pdq:91"], "--near pdq:91 needs a whole number of bits from 0 to 90"),
        (["--near", "alike"], "--near must be"),
        (["--near", "embedding"], "--near embedding needs --evidence EV"),
        (["--near", "pdq", "--evidence", "EV"], "--evidence has no effect with --near pdq"),
        (["--evidence", "EV"], "--evidence has no effect without --near embedding"),
        (["--near", "pdq", "--order", "random"], "--near needs --order uncertain or severity"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    clipmod: Command, pictures: list[Path], words: list[str], told: str
) -> None:
    folder = pictures[0].parent
    run = clipmod("review", folder / "out.jsonl", "--decisions", folder / "d.jsonl", *words)
    assert run.code == 2
    assert told in " ".join(run.stderr.split())
    assert not (folder / "d.jsonl").exists()
