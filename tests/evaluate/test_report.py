"""The report of `clipmod eval`: whole, harmless, and without a sharp picture."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.end_to_end.command import SHAPES, TINY, TINY_L, Command
from tests.evaluate.kit import record
from tests.reading.test_report import HOSTILE, Tags

RED = TINY / "pictures" / "red-circle.jpg"
JUDGING = ("--policy", SHAPES, "--models", TINY_L)
ODD = "caf\udce9 \u202egpj.jpg"


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Pictures; two red circles are labelled wrongly, under names that want to do harm."""
    folder = tmp_path / "labelled"
    for made in sorted((TINY / "pictures").iterdir()):
        label = "NSFW" if made.name.startswith("red-circle") else "Safe"
        (folder / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(made, folder / label / made.name)
    # other bytes: copies would count once
    for number, name in enumerate((HOSTILE, ODD), start=1):
        (folder / "Safe" / name).write_bytes(RED.read_bytes() + bytes(number))
    (folder / "NSFW" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    return folder


def test_the_page_shows_everything_and_can_do_nothing(
    clipmod: Command, labelled: Path, tmp_path: Path
) -> None:
    page, numbers = tmp_path / "report.html", tmp_path / "numbers.json"
    done = clipmod(
        "eval", labelled, "--labels", labelled, *JUDGING, "-o", page, "--json", numbers,
        "--prevalence", "2%", "--slice", "format",
    )  # fmt: skip
    assert done.code == 3, done.stderr
    shown = Tags(page.read_text(encoding="utf-8"))
    assert not {tag for tag, _ in shown.tags} & {
        "script",
        "iframe",
        "object",
        "embed",
        "link",
        "base",
        "a",
        "form",
    }
    for tag, attributes in shown.tags:
        assert not [
            name for name in attributes if name.startswith("on") or name in {"style", "href", "srcset"}
        ]
        assert tag != "img" or (attributes["src"] or "").startswith("data:image/jpeg;base64,")
    (policy,) = [attrs["content"] or "" for _, attrs in shown.tags if attrs.get("http-equiv")]
    assert policy.startswith("default-src 'none'; ")
    assert "script-src" not in policy
    assert "unsafe-inline" not in policy
    assert HOSTILE in shown.text
    assert "caf\\xe9 \\u202egpj.jpg" in shown.text
    assert "\u202e" not in shown.text
    # each misjudged picture is there, grey and small
    found = json.loads(numbers.read_bytes())
    alarms = found["misjudged"]["false_alarms"]
    assert {HOSTILE} < {Path(one["source"]).name for one in alarms}
    lists = [*found["misjudged"].values(), found["suspect_labels"]]
    assert len(shown.pictures()) == sum(one["error"] is None for each in lists for one in each) >= 2
    assert all(max(picture.shape) <= 192 for picture in shown.pictures())
    for told in ("Missed", "False alarms", "By format", "Of a million inputs"):
        assert told in shown.text
    assert sum(tag == "figure" for tag, _ in shown.tags) == 4
    assert "decode error" in shown.text


def test_no_pictures_means_none(clipmod: Command, labelled: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    clipmod("eval", labelled, "--labels", labelled, *JUDGING, "-o", page, "--no-pictures")
    shown = Tags(page.read_text(encoding="utf-8"))
    assert "img" not in {tag for tag, _ in shown.tags}
    assert HOSTILE in shown.text


def test_labels_of_one_kind_make_a_page_without_curves(clipmod: Command, tmp_path: Path) -> None:
    records, labels, page = (tmp_path / name for name in ("out.jsonl", "labels.csv", "report.html"))
    records.write_text("".join(json.dumps(record(n, 0.9)) + "\n" for n in range(3)))
    labels.write_text("source,label\n" + "".join(f"p/{n}.jpg,NSFW\n" for n in range(3)))
    done = clipmod("eval", records, "--labels", labels, "-o", page)
    assert done.code == 0, done.stderr
    assert "Curves need inputs of both labels" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_breaks_no_rule_of_its_own(
    clipmod: Command, browser: Browser, labelled: Path, tmp_path: Path, width: int, scheme: str
) -> None:
    page = tmp_path / "report.html"
    clipmod("eval", labelled, "--labels", labelled, *JUDGING, "-o", page, "--prevalence", "0.5%", "-q")
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="dark" if scheme == "dark" else "light"
    )
    opened = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(page.as_uri())
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    # tables scroll by themselves: the page does not
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    ground = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(23, 24, 26)") == (scheme == "dark")
    context.close()


def test_pictures_are_found_from_another_folder(
    clipmod: Command, labelled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, page = tmp_path / "out.jsonl", tmp_path / "report.html"
    monkeypatch.chdir(tmp_path)
    clipmod("scan", "labelled", *JUDGING, "--no-db", "-o", records)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    done = clipmod("eval", records, "--labels", labelled, "-o", page)
    assert done.code == 0, done.stderr
    assert Tags(page.read_text(encoding="utf-8")).pictures()
