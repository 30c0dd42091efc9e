"""Records as a scan writes them, and reviews over them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from clipmod_cli.records import to_line, to_record
from clipmod_cli.review.decisions import DecisionFile
from clipmod_cli.review.queue.contents import ContentTable, open_contents
from clipmod_cli.review.queue.session import ReviewSession
from clipmod_cli.review.queue.stacks import NearStacks
from clipmod_cli.review.queue.walk import ReviewPlan
from clipmod_cli.types import Item
from tests.results import RUN, plain_verdict


def line_of(name: str, unsafe: float = 0.9, *, content: str | None = None, **changes: Any) -> bytes:
    """Return the record of a still; files of the same `content` are copies."""
    agreement = changes.pop("agreement", 1.0)
    item = Item(source=name, index=0, member=changes.pop("member", None))
    made = plain_verdict(0, unsafe=unsafe)
    media = replace(made.media, **({"sha256": hash_of(content or name)} | changes.pop("media", {})))
    deciding = replace(made.deciding, agreement=agreement)
    return to_line(to_record(replace(made, item=item, media=media, deciding=deciding, **changes), RUN))


def hash_of(content: str) -> str:
    """Return the SHA-256 of a content as `line_of` writes it."""
    return hashlib.sha256(content.encode()).hexdigest()


def file_line(path: Path, unsafe: float = 0.9, **media: Any) -> bytes:
    """Return the record of a file as it is now."""
    info = path.stat()
    facts = {
        "bytes": info.st_size,
        "mtime_ns": info.st_mtime_ns,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    return line_of(str(path), unsafe, media=facts | media)


@contextmanager
def table_of(path: Path, *lines: bytes) -> Iterator[ContentTable]:
    """Give the contents of these records."""
    if lines:
        path.write_bytes(b"".join(lines))
    with open_contents([str(path)]) as table:
        yield table


@contextmanager
def reviewing(folder: Path, lines: Sequence[bytes] = (), **changes: Any) -> Iterator[ReviewSession]:
    """Give a review of these records, or of those that are there, which goes on where the last one ended.

    Args:
        folder: of the records and decisions.
        lines: the records.
        changes: of the plan and of the session; `near` are the hashes of near copies, a list each.
    """
    near = changes.pop("near", ())
    options = {name: changes.pop(name) for name in ("is_missing",) if name in changes}
    with ExitStack() as opened:
        table = opened.enter_context(table_of(folder / "out.jsonl", *lines))
        file = opened.enter_context(DecisionFile(folder / "d.jsonl"))
        plan = ReviewPlan(who="ana", **({"audit": 0.0} | changes))
        stacks = NearStacks.of(near, table.numbers)
        yield ReviewSession(table, file, plan, stacks=stacks, **options)


def shown(session: ReviewSession) -> str:
    """Return the name of what is shown; empty at the end."""
    current = session.current
    return "" if current is None else str(session.table.record(current.number)["source"])


def decide(session: ReviewSession, label: Any = "unsafe", **words: Any) -> str:
    """Decide on what is shown, and return its name."""
    name = shown(session)
    assert session.current is not None
    session.decide(session.current.number, label, **words)
    return name
