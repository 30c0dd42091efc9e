"""The file of decisions: what holds, and what a killed writer leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipmod_cli.errors import OutputError, UsageError
from clipmod_cli.review.decisions import (
    DecisionFile,
    DecisionLabel,
    DecisionState,
    ReviewDecision,
    are_decisions,
    read_decisions,
)
from tests.review.decisions import decided

LABELS: tuple[DecisionLabel, ...] = ("unsafe", "safe", "unsure", "minor", "undo")


def write(path: Path, *decisions: ReviewDecision) -> None:
    with DecisionFile(path) as file:
        for one in decisions:
            file.append([one])


def labels_in(path: Path) -> dict[str, str]:
    return {one.source: one.label for one in read_decisions(path).current.values()}


def test_decisions_that_another_program_has_written_anew_are_decisions(tmp_path: Path) -> None:
    """With blanks between its fields, or in another order: what is withheld is withheld all the same."""
    path = tmp_path / "d.jsonl"
    write(path, decided("a"), decided("a", "minor"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(dict(sorted(line.items()))) + "\n" for line in lines))
    assert are_decisions(path)
    assert labels_in(path) == {"a": "minor"}
    for other in ("[1]\n", '{"schema": "clipmod/1"}\n', "\n", "{"):
        path.write_text(other)
        assert not are_decisions(path)


def test_the_last_decision_on_a_content_holds(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    write(path, decided("a"), decided("b"), decided("a", "safe"))
    assert labels_in(path) == {"b": "unsafe", "a": "safe"}
    assert list(read_decisions(path).current) == [decided("b").key, decided("a").key]


def test_undo_takes_a_decision_back_and_the_lines_stay(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    write(path, decided("a"), decided("a", "undo"), decided("b", "safe"))
    assert labels_in(path) == {"b": "safe"}
    assert [json.loads(line)["label"] for line in path.read_bytes().splitlines()] == [
        "unsafe",
        "undo",
        "safe",
    ]


def test_what_is_withheld_stays_so_until_it_is_undone(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    write(path, decided("a", "minor"), decided("a", "safe"))
    assert labels_in(path) == {"a": "minor"}
    write(path, decided("a", "undo"), decided("a", "safe"))
    assert labels_in(path) == {"a": "safe"}


def test_names_of_any_bytes_come_back(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    name = "caf\udce9.jpg"
    write(path, decided(name, member="in\udcffside", sha256=None))
    (found,) = read_decisions(path).current.values()
    assert (found.exact_source, found.exact_member, found.exact_path) == (
        name,
        "in\udcffside",
        f"/home/ana/{name}",
    )
    path.read_bytes().decode()  # the file itself is UTF-8


def test_without_a_hash_names_identify_the_content() -> None:
    state = DecisionState()
    state.add(decided("a.zip", sha256=None, member="x"))
    state.add(decided("a.zip", "safe", sha256=None, member="y"))
    assert len(state.current) == 2


@pytest.mark.parametrize("kept", [1, 20, 40, 200])
def test_a_torn_last_line_is_left_out_and_removed_by_the_next_writer(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "d.jsonl"
    whole, torn = decided("a").to_line(), decided("b").to_line()
    path.write_bytes(whole + torn[:kept])
    state = read_decisions(path)
    assert state.torn
    assert labels_in(path) == {"a": "unsafe"}
    write(path, decided("c"))
    assert path.read_bytes() == whole + decided("c").to_line()


def test_a_torn_first_line_is_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(decided("a").to_line()[:70])
    assert labels_in(path) == {}
    write(path, decided("b"))
    assert labels_in(path) == {"b": "unsafe"}


def test_a_last_line_that_lacks_its_newline_only_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(decided("a").to_line().rstrip(b"\n"))
    write(path, decided("b"))
    assert labels_in(path) == {"a": "unsafe", "b": "unsafe"}


@pytest.mark.parametrize(
    "content", [b"hello\n", b"hello", b'{"schema":"clipmod/1","source":"a"}\n', b"\x00\xff\n"]
)
def test_another_file_is_refused_and_not_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="line 1 is not a decision"), DecisionFile(path):
        pass
    assert path.read_bytes() == content
    assert not are_decisions(path)
    assert [one.name for one in tmp_path.iterdir()] == ["d.jsonl"]  # no lock is left


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_bytes(decided("a").to_line() + decided("b").to_line()[:60] + b"\n" + decided("c").to_line())
    with pytest.raises(UsageError, match="line 2 is not a decision"):
        read_decisions(path)


def test_there_is_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    with DecisionFile(path), pytest.raises(OutputError, match="is being written"), DecisionFile(path):
        pass
    write(path, decided("a"))
    assert are_decisions(path)


def test_a_decision_is_on_the_disk_before_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d.jsonl"
    with DecisionFile(path) as file:
        file.append([decided("a"), decided("b")])
        assert labels_in(path) == {"a": "unsafe", "b": "unsafe"}

        def full(*_: object) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("os.write", full)
            with pytest.raises(OutputError, match="No space left"):
                file.append([decided("c")])
        assert decided("c").key not in file.state.current
        file.append([decided("d")])
    assert labels_in(path) == {"a": "unsafe", "b": "unsafe", "d": "unsafe"}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(LABELS)), max_size=12), st.data())
def test_the_state_is_the_fold_of_any_prefix(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, DecisionLabel]], data: st.DataObject
) -> None:
    """Cut anywhere, the file comes to what its whole lines say."""
    path = tmp_path_factory.mktemp("fold") / "d.jsonl"
    lines = [decided(name, label).to_line() for name, label in steps]
    cut = data.draw(st.integers(0, sum(map(len, lines))))
    path.write_bytes(b"".join(lines)[:cut])
    expected: dict[str, str] = {}
    end = 0
    for (name, label), line in zip(steps, lines, strict=True):
        end += len(line)
        if end > cut + 1:  # a line that lacks only its newline counts
            break
        if label == "undo":
            expected.pop(name, None)
        elif expected.get(name) != "minor":
            expected[name] = label
    assert labels_in(path) == expected
