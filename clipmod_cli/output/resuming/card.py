"""The run card beside an output (`OUT.run.json`): what is needed to repeat it, and its runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from clipmod_cli.atomic import atomic_file
from clipmod_cli.errors import ExitCode, OutputError, OutputMismatchError
from clipmod_cli.output.resuming.files import beside, part_path
from clipmod_cli.output.resuming.resume import RunConditions
from clipmod_cli.records import read_name, write_name

CARD_SCHEMA: Final = "clipmod-run/1"
MOST_IDLE_RUNS: Final = 100
"""Of the runs that wrote no record only so many are kept, the last ones."""

COMPLETE: Final = frozenset(
    {ExitCode.OK, ExitCode.FOUND, ExitCode.SOME_FAILED, ExitCode.NOTHING_JUDGED, ExitCode.USAGE}
)
"""How a run ends that has told what it found. What other runs found is new to the user in the next one."""


def card_path(output: Path) -> Path:
    """Return where the run card of an output is."""
    return beside(output, ".run.json")


@dataclass
class RunCard:
    """The run card of one output; its writer holds the output's lock.

    Attributes:
        facts: what made the last run's results: models, device, decoding, policy, versions, `run_key`.
        runs: all runs, the last one last; see `begin` and `end`.
    """

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, output: Path) -> Self:
        """Return the card of an output; an empty one where there is none, or where the output is empty.

        Raises:
            OutputMismatchError: the file of this name is not a run card.
            OutputError: it cannot be read.
        """
        path = card_path(output)
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls(path)
        except OSError as error:
            raise OutputError(f"cannot read {path}: {error.strerror}") from error
        except ValueError:
            fields = None
        if not _is_card(fields):
            raise OutputMismatchError(
                f"{path} is in the place of the run card of {output.name} and is not one. "
                "Move it away, or name another output"
            )
        if not any(one.exists() and one.stat().st_size for one in (output, part_path(output))):
            return cls(path)
        del fields["schema"]
        runs = fields.pop("runs")
        return cls(path, fields, runs)

    def begin(self, facts: Mapping[str, Any], run_id: str, command: str, conditions: RunConditions) -> None:
        """Add a run that has begun, and write the card.

        Raises:
            OutputError: it cannot be written.
        """
        self.facts = dict(facts)
        self.runs.append(_entry(run_id, command, conditions))
        self._write()

    def merge(
        self, facts: Mapping[str, Any], runs: Iterable[str], command: str, conditions: RunConditions
    ) -> None:
        """Replace the card by that of an output which was made of the records of several runs, and write it.

        Args:
            facts: as in `begin`, the same of all.
            runs: their run_ids.
            command: that made the output.
            conditions: of all runs.

        Raises:
            OutputError: it cannot be written.
        """
        ended = {"ended_at": _now(), "exit_code": int(ExitCode.OK)}
        self.facts, self.runs = dict(facts), [_entry(one, command, conditions) | ended for one in runs]
        self._write()

    def end(self, exit_code: int, counts: Mapping[str, int]) -> None:
        """Tell how the last run ended, and write the card.

        Raises:
            OutputError: it cannot be written.
        """
        self.runs[-1] |= {"ended_at": _now(), "exit_code": int(exit_code), "counts": dict(counts)}
        idle = [
            run for run in self.runs[:-MOST_IDLE_RUNS] if run["counts"] and not run["counts"].get("written")
        ]
        self.runs = [run for run in self.runs if run not in idle]
        self._write()

    @property
    def conditions(self) -> dict[str, RunConditions]:
        """The conditions of each run by its run_id."""
        return {
            run["run_id"]: RunConditions(
                directory=None
                if run["directory"] is None
                else read_name(run["directory"], run["directory_b64"]),
                abilities=frozenset(run["abilities"]),
                folders=tuple((read_name(*one[:2]), read_name(*one[2:])) for one in run["folders"]),
            )
            for run in self.runs
        }

    @property
    def unfinished(self) -> frozenset[str]:
        """The run_ids of the last runs that were stopped or killed before they had told what they found."""
        return frozenset(_until_complete(reversed(self.runs)))

    @property
    def newest(self) -> frozenset[str]:
        """The run_ids of the last run, and of the unfinished ones before it that it went on with."""
        last = {run["run_id"] for run in self.runs[-1:]}
        return frozenset(last.union(_until_complete(reversed(self.runs[:-1]))))

    def _write(self) -> None:
        fields = {"schema": CARD_SCHEMA, **self.facts, "runs": self.runs}
        try:
            with atomic_file(self.path, sync=True) as file:
                file.write(json.dumps(fields, indent=1, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror}") from error


def _entry(run_id: str, command: str, conditions: RunConditions) -> dict[str, Any]:
    """Return a run that has begun."""
    directory, encoded = (None, None) if conditions.directory is None else write_name(conditions.directory)
    return {
        "run_id": run_id,
        "started_at": _now(),
        "ended_at": None,
        "exit_code": None,
        "command": write_name(command)[0],
        "directory": directory,
        "directory_b64": encoded,
        "folders": [[*write_name(name), *write_name(real)] for name, real in conditions.folders],
        "abilities": sorted(conditions.abilities),
        "counts": None,
    }


def _until_complete(runs: Iterator[dict[str, Any]]) -> Iterator[str]:
    for run in runs:
        if run["exit_code"] in COMPLETE:
            return
        yield run["run_id"]


def _is_card(fields: Any) -> bool:
    if not isinstance(fields, dict) or fields.get("schema") != CARD_SCHEMA:
        return False
    runs = fields.get("runs")
    needed = ("run_id", "exit_code", "directory", "directory_b64", "folders", "abilities", "counts")
    return isinstance(runs, list) and all(
        isinstance(run, dict) and all(name in run for name in needed) for run in runs
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
