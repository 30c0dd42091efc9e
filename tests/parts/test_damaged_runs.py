"""The folder of a run whose files were removed, changed or swapped: told, and never counted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from clipmod_cli.errors import OutputMismatchError, UsageError
from clipmod_cli.output.reading.records import open_records
from clipmod_cli.parts.commit import DonePart, commit, done_name, part_name
from clipmod_cli.parts.merge import merged_lines, open_parts
from clipmod_cli.parts.overview import read_overview
from clipmod_cli.parts.part_file import PartLines
from clipmod_cli.parts.plan import PlannedInput, write_plan
from clipmod_cli.parts.planning.making import Planner
from clipmod_cli.parts.run_file import Generation, RunFile, Shards
from clipmod_cli.parts.store import LocalStore, open_part_store, sha256_of
from clipmod_cli.records import to_line, to_record
from clipmod_cli.settings.definition import Settings
from clipmod_cli.sources.base import SourceInput
from tests.results import RUN, plain_verdict

PARTS = 2
EACH = 2
TOLD = "Delete .*done/part-000001.json and give the command of the run again"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A run of two parts that are done."""
    store = LocalStore(str(tmp_path / "run"))
    planned = [
        PlannedInput(index=n, listed=SourceInput(source=f"photos/{n:04}.jpg")) for n in range(PARTS * EACH)
    ]
    run = RunFile(
        facts={"run_key": RUN.run_key}, command="scan", inputs={}, directory="/", format="parquet",
        part_size=EACH, shards=Shards(), next_index=PARTS * EACH,
        generations=(Generation(kind="first", files=write_plan(planned, store, part_size=EACH)),),
    )  # fmt: skip
    assert store.create("run.json", run.to_bytes())
    for part in range(PARTS):
        with PartLines() as lines:
            for index in range(part * EACH, part * EACH + EACH):
                lines.add(index, to_line(to_record(plain_verdict(index), RUN)))
            path = lines.write("parquet")
            done = DonePart(
                part=part, file=part_name(part, f"{part:016}", "parquet"), first_index=part * EACH,
                inputs=EACH, records=EACH, sha256=sha256_of(path), counts={}, codes={}, host="h",
                run_key=RUN.run_key, run_id=RUN.run_id, device="cpu", ended_at=datetime.now(UTC), seconds=1.0,
            )  # fmt: skip
            assert commit(store, done, path)
    return store


def parts_in(folder: Path) -> list[Path]:
    return sorted((folder / "parts").iterdir())


def remove_file(folder: Path) -> None:
    parts_in(folder)[1].unlink()


def change_file(folder: Path) -> None:
    shutil.copyfile(*parts_in(folder))


def copy_commit(folder: Path) -> None:
    shutil.copyfile(folder / done_name(0), folder / done_name(1))


def change_commit(**fields: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / done_name(1)
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


@pytest.mark.parametrize(
    "damage",
    [
        remove_file,
        change_file,
        copy_commit,
        change_commit(run_key="of another run"),
        change_commit(inputs=EACH + 1),
        change_commit(file="../elsewhere"),
        change_commit(ended_at="yesterday"),
    ],
)
def test_a_damaged_part_is_refused_until_it_is_judged_again(
    damage: Callable[[Path], None], store: LocalStore, tmp_path: Path
) -> None:
    assert len(list(merged_lines(store, read_overview(store)))) == PARTS * EACH
    damage(tmp_path / "run")
    with pytest.raises(OutputMismatchError, match=TOLD):
        list(merged_lines(store, read_overview(store)))
    with pytest.raises(OutputMismatchError, match=TOLD), open_parts(store, read_overview(store)):
        pass
    (tmp_path / "run" / done_name(1)).unlink()
    overview = read_overview(store)
    assert overview.missing == (1,)
    assert len(list(merged_lines(store, overview))) == EACH


def test_parts_without_their_run_file_are_not_taken_for_those_of_another_plan(
    store: LocalStore, tmp_path: Path
) -> None:
    (tmp_path / "run" / "run.json").unlink()
    before = sorted((tmp_path / "run").rglob("*"))
    planner = Planner(store, "scan", [str(tmp_path / "absent")], replace(Settings(), output=store.name))
    with pytest.raises(OutputMismatchError, match=r"parts of a run whose run\.json is gone"):
        planner.plan()
    assert set(before) <= set((tmp_path / "run").rglob("*"))


def test_a_run_file_that_lost_a_generation_is_refused(store: LocalStore, tmp_path: Path) -> None:
    path = tmp_path / "run" / "run.json"
    document = json.loads(path.read_text())
    document["parts"]["generations"] = []
    path.write_text(json.dumps(document))
    with pytest.raises(OutputMismatchError, match="it names another plan"):
        read_overview(store)


def test_what_is_no_run_and_what_is_one_are_told_apart(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="clipmod merge"), open_records([store.name]):
        pass
    output = tmp_path / "out.jsonl"
    output.touch()
    with pytest.raises(UsageError, match="is a file"):
        open_part_store(str(output))
