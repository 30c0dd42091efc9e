"""What tests of the command on a store share."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.command import Command, Outcome, Record
from tests.stores.servers import BUCKET, FakeS3

NUDENET = ("--models", "nudenet", "--policy", "nsfw", "--no-db")
ROOT = f"s3://{BUCKET}/"


def scan(clipmod: Command, s3: FakeS3, *words: str | Path, **more: str) -> Outcome:
    """Run `clipmod scan WORDS`, telling it of the server."""
    return clipmod("scan", *words, *NUDENET, env={**s3.environment, **more})


def by_source(records: list[Record]) -> dict[str, Record]:
    """Return records by what follows the bucket, members after a `!`."""
    named = {
        record["source"].removeprefix(ROOT) + ("!" + record["member"] if record["member"] else ""): record
        for record in records
    }
    assert len(named) == len(records)
    return named
