"""Records of earlier runs and the banks of this one: which are decided again, and which judged again."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from clipmod_cli.banks.bank import NO_BANKS, Banks
from clipmod_cli.output.compact import COMPACT_SCHEMA, compact_line
from clipmod_cli.output.resuming.resume import JUDGE, Redecision
from clipmod_cli.records import RunFacts, read_name, to_line, to_record, write_name
from clipmod_cli.results import BankDecision, BankVerdict
from clipmod_cli.types import Item, Media


@dataclass(frozen=True, slots=True)
class RecordBanks:
    """Decides records again by the banks of a run. Reads no input."""

    facts: RunFacts
    banks: Banks = NO_BANKS

    def redecide(self, record: Mapping[str, Any], source: str) -> Redecision:
        """Return what becomes of a record, full or compact.

        Args:
            record: its fields.
            source: the input's name as this run has it.
        """
        pdq = record.get("pdq")
        by = self.banks.decide(record["sha256"]) or self.banks.decide_near(pdq)
        if by is None and self.banks.has_pdq and pdq is None and record["status"] == "ok":
            return JUDGE  # it may be nearly the same as an entry, and was not hashed
        if by is None:
            return JUDGE if record["decided_by"] in {"deny", "allow"} else None
        if record["decided_by"] == by.decided_by and record["matches"] == _rows(by):
            return None
        facts, is_known = self.facts, False
        if record["final_decision"] == by.decision:  # nothing new for people
            facts, is_known = replace(facts, run_id=record["run_id"]), record["known"]
            source = read_name(record["source"], record["source_b64"])
        made = to_record(_verdict_of(record, source, by), facts, known=is_known)
        return compact_line(made) if record["schema"] == COMPACT_SCHEMA else to_line(made)


def _rows(by: BankDecision) -> list[dict[str, str | None]]:
    """Return the matches as a record has them."""
    return [{name: text and write_name(text)[0] for name, text in asdict(one).items()} for one in by.matches]


def _verdict_of(record: Mapping[str, Any], source: str, by: BankDecision) -> BankVerdict:
    member = None if record["member"] is None else read_name(record["member"], record["member_b64"])
    item = Item(
        source=source,
        index=record["index"],
        member=member,
        final_url=record.get("final_url"),
        row=record["row"],
        columns=record["columns"],
    )
    media = Media(
        started=time.perf_counter(),
        sha256=record["sha256"],
        bytes=record["bytes"],
        mtime_ns=record["mtime_ns"],
        format=record.get("format"),
        pdq=record.get("pdq"),
    )
    return BankVerdict(item=item, media=media, by=by)
