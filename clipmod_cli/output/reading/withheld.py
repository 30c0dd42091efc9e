"""What must not be shown again: inputs that a person marked as perhaps showing a minor (`clipmod review`).

They are listed in a file beside the output, so that every reader of its records leaves them out, whatever was
given to it. The records themselves stay: a resumed run does not judge these inputs again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from clipmod_cli.atomic import atomic_file
from clipmod_cli.errors import OutputError, UsageError
from clipmod_cli.output.lock import OutputLock
from clipmod_cli.output.resuming.files import beside
from clipmod_cli.output.resuming.gone import DROPPED
from clipmod_cli.records import read_name, write_name

WITHHELD_SCHEMA: Final = "clipmod-withheld/1"


@dataclass(frozen=True, slots=True)
class WithheldInput:
    """One name of a content that is withheld; source and member may hold any byte."""

    sha256: str | None
    source: str
    member: str | None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Return the input of a record, or of a line of a list."""
        member = record.get("member")  # a program may have left out what is null
        return cls(
            record.get("sha256"),
            read_name(record["source"], record.get("source_b64")),
            None if member is None else read_name(member, record.get("member_b64")),
        )


class WithheldInputs:
    """The contents that are withheld: by hash; by name where a record has no hash."""

    def __init__(self, inputs: Iterable[WithheldInput] = ()) -> None:
        """Index them."""
        self.inputs = frozenset(inputs)
        self._hashes = {one.sha256 for one in self.inputs} - {None}
        self._names = {(one.source, one.member) for one in self.inputs}

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.inputs)

    def covers(self, record: Mapping[str, Any]) -> bool:
        """Return whether the input of a record is withheld."""
        one = WithheldInput.of(record)
        return one.sha256 in self._hashes if one.sha256 else (one.source, one.member) in self._names

    def covers_line(self, line: bytes) -> bool:
        """Return whether the input of a record's line is withheld; a line that is no record is not."""
        from pydantic_core import from_json

        try:
            return self.covers(from_json(line))
        except (ValueError, KeyError, TypeError):
            return False


def withheld_path(output: Path) -> Path:
    """Return where the list of an output is; the records that `--prune` dropped from one have the same."""
    return beside(output.with_name(output.name.removesuffix(DROPPED)), ".withheld.jsonl")


def read_withheld(output: Path) -> WithheldInputs:
    """Return what is withheld of an output; nothing without a list.

    Raises:
        UsageError: the list cannot be read or is damaged: nothing is shown rather than too much.
    """
    from pydantic_core import from_json

    path = withheld_path(output)
    number = 0
    try:
        found = set()
        for number, text in enumerate(path.read_bytes().splitlines(), 1):  # noqa: B007
            found.add(_read_line(from_json(text)))
    except FileNotFoundError:
        return WithheldInputs()
    except OSError as error:
        raise UsageError(f"cannot read the list of withheld inputs {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} line {number} is damaged. Remove that file and run `clipmod review` on {output} with "
            "the same --decisions, which writes it again"
        ) from error
    return WithheldInputs(found)


def _read_line(line: Mapping[str, Any]) -> WithheldInput:
    if line["schema"] != WITHHELD_SCHEMA:
        raise ValueError(line["schema"])
    return WithheldInput.of(line)


def change_withheld(
    output: Path, *, add: Iterable[Mapping[str, Any]] = (), remove: Iterable[Mapping[str, Any]] = ()
) -> None:
    """Change an output's list, and return when it is on the disk; one without lines is removed.

    Args:
        output: whose list it is.
        add: files, each with `sha256`, `source`, `source_b64`, `member` and `member_b64`.
        remove: likewise.

    Raises:
        UsageError: the list is damaged.
        OutputError: it cannot be written.
    """
    path = withheld_path(output)
    try:
        with OutputLock(path):
            before = read_withheld(output).inputs
            after = (before | {WithheldInput.of(one) for one in add}) - {
                WithheldInput.of(one) for one in remove
            }
            if after == before:
                return
            if not after:
                path.unlink()
                return
            with atomic_file(path, sync=True) as file:
                for one in sorted(after, key=repr):
                    file.write(_line_of(one))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def _line_of(one: WithheldInput) -> bytes:
    from pydantic_core import to_json

    source, source_b64 = write_name(one.source)
    member, member_b64 = (None, None) if one.member is None else write_name(one.member)
    return (
        to_json(
            {
                "schema": WITHHELD_SCHEMA,
                "sha256": one.sha256,
                "source": source,
                "source_b64": source_b64,
                "member": member,
                "member_b64": member_b64,
            }
        )
        + b"\n"
    )
