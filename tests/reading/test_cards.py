"""What the run card beside an output adds: facts that compact records lack, what is new and gone, folders."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clipmod_cli.output.reading.cards import RunCards
from clipmod_cli.output.resuming.card import RunCard
from tests.end_to_end.command import SHAPE_OPTIONS, TINY, Command
from tests.reading.test_report import Tags

PICTURES = TINY / "pictures"


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Path, bytes]]:
    """A folder, and its files as the scans left them: one test scans for all."""
    return tmp_path_factory.mktemp("nights"), {}


@pytest.fixture
def nightly(
    clipmod: Command, nights: tuple[Path, dict[Path, bytes]], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An output of three nights in a folder: one file went, one came. Its records are compact."""
    folder, files = nights
    if not files:
        scan_three_nights(clipmod, folder, monkeypatch)
        files |= {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for path in [path for path in folder.iterdir() if path.is_file()]:
        path.unlink()
    for path, content in files.items():
        path.write_bytes(content)
    return folder / "out.jsonl"


def scan_three_nights(clipmod: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    shutil.copytree(PICTURES, "photos")
    words = ("scan", "photos", *SHAPE_OPTIONS, "--record", "compact", "-o", "out.jsonl")
    assert clipmod(*words).code == 0
    Path("photos/red-circle.jpg").unlink()
    assert clipmod(*words).code == 0
    shutil.copy(PICTURES / "red-circle.jpg", "photos/red-new.jpg")
    assert clipmod(*words).code == 0
    monkeypatch.chdir("/")


def test_stats_tell_what_is_new_and_gone(clipmod: Command, nightly: Path) -> None:
    found = json.loads(clipmod("stats", nightly, "--json").stdout)
    (run,) = found["last_runs"]
    assert (run["name"], run["new"], run["gone"]) == (str(nightly), 1, 1)
    assert {row["policy"] for row in found["categories"]} == {"shapes"}
    assert "1 new in the last run, 1 gone since" in clipmod("stats", nightly).stdout.decode()


def test_an_export_of_compact_records_has_the_policy(clipmod: Command, nightly: Path) -> None:
    table = nightly.with_name("x.csv")
    assert clipmod("export", nightly, "-o", table).code == 0
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["policy"], row["threshold"], row["models_used"]) for row in rows} == {
        ("shapes", "0.5", "tiny-l")
    }


def test_a_report_finds_the_files_from_any_folder(clipmod: Command, nightly: Path) -> None:
    page = nightly.with_name("sheet.html")
    run = clipmod("report", nightly, "-o", page)
    assert "1 listed file is gone" in run.stderr
    tags = Tags(page.read_text(encoding="utf-8"))
    assert str(nightly.parent / "photos" / "red-new.jpg") in tags.text
    assert tags.text.count("No picture: the file is gone") == 1
    assert len(tags.pictures()) == tags.text.count("NSFW: ") - 1
    assert "1 new, 1 gone" in tags.text
    cards = [card for card in page.read_text(encoding="utf-8").split("<li ") if "red-new.jpg" in card]
    assert [">New" in card for card in cards] == [True]
    assert page.read_text(encoding="utf-8").count(">New") == 1


def test_a_file_in_the_place_of_a_card_is_named(clipmod: Command, nightly: Path) -> None:
    Path(f"{nightly}.run.json").write_text("[]", encoding="utf-8")
    run = clipmod("stats", nightly)
    assert run.code == 2
    assert "run card" in run.stderr


@pytest.mark.parametrize("value", [None, [], 3, "text", {"members": [None, 3], "name": 7}])
def test_odd_values_in_a_card_tell_nothing(clipmod: Command, nightly: Path, value: object) -> None:
    path = Path(f"{nightly}.run.json")
    card = json.loads(path.read_text(encoding="utf-8"))
    card |= {"policy": value, "models": value}
    card["runs"][-1]["counts"] = value
    path.write_text(json.dumps(card), encoding="utf-8")
    table = nightly.with_name("x.csv")
    for run in (clipmod("stats", nightly), clipmod("export", nightly, "-o", table)):
        assert run.code == 0, run.stderr


def test_a_card_cannot_change_what_is_asked(clipmod: Command, nightly: Path) -> None:
    path = Path(f"{nightly}.run.json")
    card = json.loads(path.read_text(encoding="utf-8"))
    card["policy"]["name"] = "it's ] || (SELECT content FROM read_text('/etc/passwd'))"
    path.write_text(json.dumps(card), encoding="utf-8")
    found = json.loads(clipmod("stats", nightly, "--json").stdout)
    assert {row["policy"] for row in found["policies"]} == {card["policy"]["name"]}


class ReadOnce(list[dict[str, Any]]):
    """The runs of a card, which may be gone through once."""

    gone_through = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self.gone_through += 1
        return super().__iter__()


def test_paths_of_many_records_do_not_go_through_all_runs_for_each() -> None:
    runs = ReadOnce(
        {
            "run_id": f"run-{n}",
            "directory": f"/night/{n}",
            "directory_b64": None,
            "abilities": [],
            "folders": [],
        }
        for n in range(400)
    )
    cards = RunCards({"out.jsonl": RunCard(Path("out.jsonl.run.json"), runs=runs)})
    assert [cards.path_of("a.jpg", f"run-{n}") for n in range(400)] == [
        f"/night/{n}/a.jpg" for n in range(400)
    ]
    assert runs.gone_through == 1
