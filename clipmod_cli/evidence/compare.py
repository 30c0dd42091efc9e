"""What changes between two sets of records of the same inputs. DuckDB joins them, so they may be large."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from clipmod_cli.errors import UsageError
from clipmod_cli.evidence.folder import open_database
from clipmod_cli.output.reading.files import check_file
from clipmod_cli.output.resuming.files import whole_records

_COLUMNS: Final = {
    "source": "VARCHAR",
    "source_b64": "VARCHAR",
    "member": "VARCHAR",
    "member_b64": "VARCHAR",
    "status": "VARCHAR",
    "final_decision": "VARCHAR",
    "needs_review": "BOOLEAN",
    "unsafe_score": "DOUBLE",
    "ensemble_category": "VARCHAR",
}
"""What is read of a record; full and compact ones have these fields."""

_RECORDS: Final = """
    SELECT *, row_number() OVER (PARTITION BY source, source_b64, member, member_b64 ORDER BY line) AS nth,
    CASE WHEN status = 'error' THEN 'error' ELSE coalesce(final_decision, 'undecided') END
        || CASE WHEN needs_review THEN ' (review)' ELSE '' END AS outcome
    FROM (SELECT *, row_number() OVER () AS line
          FROM read_json({path}, format = 'newline_delimited', columns = {columns}))
"""
_JOINED: Final = f"""
    WITH before AS ({_RECORDS.format(path="$before", columns="$columns")}),
    after AS ({_RECORDS.format(path="$after", columns="$columns")})
    SELECT coalesce(after.line, before.line) AS line, coalesce(after.source, before.source) AS source,
    coalesce(after.member, before.member) AS member, before.outcome AS before, after.outcome AS after,
    before.unsafe_score AS score_before, after.unsafe_score AS score_after,
    after.ensemble_category AS category
    FROM before FULL JOIN after
    ON before.source = after.source AND before.member IS NOT DISTINCT FROM after.member
    AND before.source_b64 IS NOT DISTINCT FROM after.source_b64
    AND before.member_b64 IS NOT DISTINCT FROM after.member_b64 AND before.nth = after.nth
"""  # noqa: S608 - made of constants


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """An input whose outcome changes; an outcome is `NSFW`, `Safe`, `error`..., perhaps with ` (review)`."""

    source: str
    member: str | None
    before: str
    after: str
    score_before: float | None
    score_after: float | None
    category: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordChanges:
    """The outcome of comparing records.

    Attributes:
        same: inputs whose decision and need of review are the same.
        counts: (before, after, how many) of all that change, most first.
        changes: the first of them, errors, then those with the largest change of score.
        only_before: inputs that only the older records have.
        only_after: inputs that only the newer records have.
    """

    same: int
    counts: Sequence[tuple[str, str, int]]
    changes: Sequence[Change]
    only_before: int
    only_after: int

    @property
    def changed(self) -> int:
        """How many inputs change."""
        return sum(count for _, _, count in self.counts)


def compare(before: Path, after: Path, *, show: int) -> RecordChanges:
    """Return what differs between two outputs; `show` is how many changes to list.

    Inputs are matched by source, member, and where a source occurs several times by its occurrence.

    Raises:
        UsageError: a file holds something else than records.
        OutputError: a temporary copy of a table cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="clipmod-") as folder, open_database(spill=folder) as con:
            before_path, after_path = (
                glob.escape(str(check_file(str(whole_records(one)), Path(folder)).path))
                for one in (before, after)
            )
            found = {"before": before_path, "after": after_path, "columns": _COLUMNS}
            con.execute(f"CREATE TEMP TABLE joined AS {_JOINED}", found)
            counts = con.execute(
                "SELECT before, after, count(*) FROM joined GROUP BY ALL ORDER BY 3 DESC, before, after"
            ).fetchall()
            rows = con.execute(
                "SELECT source, member, before, after, score_before, score_after, category FROM joined "
                "WHERE before <> after "
                "ORDER BY abs(score_after - score_before) DESC NULLS FIRST, line LIMIT ?",
                [show],
            ).fetchall()
    except duckdb.Error as e:
        raise UsageError(f"{before} cannot be compared: {str(e).splitlines()[0]}") from e
    names = Change.__slots__
    return RecordChanges(
        same=sum(n for old, new, n in counts if old == new),
        counts=[(old, new, n) for old, new, n in counts if old and new and old != new],
        changes=[Change(**dict(zip(names, row, strict=True))) for row in rows],
        only_before=sum(n for _, new, n in counts if new is None),
        only_after=sum(n for old, _, n in counts if old is None),
    )
