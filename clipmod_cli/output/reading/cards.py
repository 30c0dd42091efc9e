"""The run cards beside outputs: what compact records do not repeat, and where paths are relative to."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from clipmod_cli.output.database import quoted
from clipmod_cli.output.resuming.card import RunCard, card_path
from clipmod_cli.output.resuming.moved import MovedFiles
from clipmod_cli.output.resuming.names import InputNames, working_directory
from clipmod_cli.records import write_name


@dataclass(frozen=True)
class RunCards:
    """The run cards of some outputs as they were read, by the output, and what was moved of the inputs.

    Of stdin and of a copy there is no card.
    """

    by_name: Mapping[str, RunCard] = field(default_factory=dict)
    moved: MovedFiles = field(default_factory=MovedFiles)

    @property
    def policies(self) -> dict[str, dict[str, Any]]:
        """Return the policy's name, hash and threshold, and the names of the models, by run_key."""
        return {
            card.facts["run_key"]: {
                **{key: _table(card.facts.get("policy")).get(key) for key in ("name", "hash", "threshold")},
                "models": _names(_table(card.facts.get("models")).get("members")),
            }
            for card in self.by_name.values()
            if isinstance(card.facts.get("run_key"), str)
        }

    @property
    def filled_in(self) -> str:
        """Return SQL, `REPLACE (...)` on the columns of a record, for what compact records do not repeat."""
        known = self.policies
        if not known:
            return ""
        keys = ", ".join(map(quoted, known))

        def looked_up(field: str, kind: str) -> str:
            values = ", ".join(f"{_literal(one[field])}::{kind}" for one in known.values())
            return f"map_extract_value(MAP([{keys}], [{values}]), run_key)"

        models = f"CASE WHEN decided_by = 'models' THEN {looked_up('models', 'VARCHAR[]')} END"
        return (
            f"REPLACE (coalesce(policy, {looked_up('name', 'VARCHAR')}) AS policy, "
            f"coalesce(policy_hash, {looked_up('hash', 'VARCHAR')}) AS policy_hash, "
            f"coalesce(threshold, {looked_up('threshold', 'DOUBLE')}) AS threshold, "
            f"coalesce(models_used, {models}) AS models_used) "
        )

    @property
    def newest(self) -> frozenset[str]:
        """Return the run_ids whose records may be new: those of the last run, if it is not the only one."""
        cards = [card for card in self.by_name.values() if len(card.runs) > 1]
        return frozenset(run_id for card in cards for run_id in card.newest)

    def last_counts(self) -> list[dict[str, Any]]:
        """Return what the last run of each output told: `name`, `ended_at`, `new`, `gone`, `moved` inputs."""
        found = []
        for name, card in self.by_name.items():
            run = card.runs[-1] if card.runs else {}
            if counts := _table(run.get("counts")):
                told = {key: counts.get(key) for key in ("new", "gone", "moved")}
                found.append({"name": name, "ended_at": run.get("ended_at"), **told})
        return found

    def path_of(self, source: str, run_id: str | None) -> str:
        """Return where a source is, seen from here: paths are relative to the folder of their run."""
        directory = self._directories.get(run_id or "")
        if directory is None or "://" in source or directory == working_directory():
            return source
        return os.path.join(directory, source)  # noqa: PTH118 - the name may hold any byte

    def moved_to(self, source: str, run_id: str | None, sha256: str | None) -> str | None:
        """Return where `clipmod apply` moved a source; None if it did not."""
        directory = self._directories.get(run_id or "", working_directory())
        return self.moved.find(InputNames().resolve(source, directory), sha256)

    @cached_property  # asked for each record, and a nightly scan has hundreds of runs
    def _directories(self) -> dict[str, str | None]:
        return {
            run_id: conditions.directory
            for card in self.by_name.values()
            for run_id, conditions in card.conditions.items()
        }


def _table(value: Any) -> Mapping[str, Any]:
    """Return a table of a card; an empty one for any other value in its place."""
    return value if isinstance(value, dict) else {}


def _names(members: Any) -> list[str]:
    return [str(_table(one).get("name")) for one in members] if isinstance(members, list) else []


def _literal(value: Any) -> str:
    """Return a value of a run card, which is a file that anybody may have written, as SQL."""
    match value:
        case str():
            return quoted(value)
        case float() | int():
            return repr(float(value))
        case list():
            return f"[{', '.join(quoted(str(one)) for one in value)}]"
    return "NULL"


def read_cards(names: Sequence[str]) -> RunCards:
    """Return the run cards that lie beside these outputs.

    Raises:
        OutputMismatchError: a file with the name of a run card is none.
        OutputError: a card cannot be read.
    """
    found = {}
    for name in names:
        if name != "-" and card_path(Path(name)).is_file():
            found[write_name(name)[0]] = RunCard.read(Path(name))
    return RunCards(found, MovedFiles.beside(*(Path(name) for name in names if name != "-")))
