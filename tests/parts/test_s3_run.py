"""A run in parts from a bucket into a bucket, by the real command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.end_to_end.command import Command, read_records
from tests.end_to_end.conftest import clipmod
from tests.stores.conftest import s3
from tests.stores.kit import NUDENET, ROOT, scan
from tests.stores.servers import FakeS3, sample

__all__ = ["clipmod", "s3"]

PREFIX = "results/run 1#a?b%2Fc+d&\u00e9e\u0301//"
"""A key is a name and no more: it is no URL, no path, and is not normalised."""

OUT = ROOT + PREFIX

ODD_KEYS = (
    "CAT.png", "a?versionId=x.png", "a%2Fb.png", "a#1 +.png", "caf\N{LATIN SMALL LETTER E WITH ACUTE}.png",
    "cafe\N{COMBINING ACUTE ACCENT}.png", "deep//x.png", f"{'long/' * 190}x.png",
)  # fmt: skip
"""Each is a name of its own, whatever a file system or a library makes of it."""


def comparable(value: Any) -> Any:
    """Return what two runs have in common of a record."""
    if isinstance(value, dict):
        return {
            name: comparable(one)
            for name, one in value.items()
            if not name.endswith(("_ms", "_at")) and name != "run_id"
        }
    return value


def test_two_shards_judge_a_bucket_into_a_bucket_as_one_plain_scan_does(
    clipmod: Command, s3: FakeS3, tmp_path: Path
) -> None:
    keys = s3.put_samples("in/")
    for key in ODD_KEYS:
        s3.put(f"in/{key}", sample("cat.png"))
    keys += ODD_KEYS
    s3.put("in/folder/", b"")  # as consoles make them; it is no picture
    plain, merged = tmp_path / "plain.jsonl", tmp_path / "merged.jsonl"
    assert scan(clipmod, s3, ROOT + "in/", "-o", plain).code == 0
    for shard in ("1/2", "2/2"):
        run = scan(clipmod, s3, ROOT + "in/", "-o", OUT, "--shard", shard, "--part-size", "3")
        assert run.code == 0, run.stderr
    told = json.loads(clipmod("parts", OUT, "--json", env=s3.environment).stdout)
    assert (told["planned"], told["inputs"], told["records"]) == (len(keys),) * 3
    run = clipmod("merge", OUT, "-o", merged, env=s3.environment)
    assert run.code == 0, run.stderr
    both = [read_records(path.read_bytes()) for path in (plain, merged)]
    assert [comparable(one) for one in both[0]] == [comparable(one) for one in both[1]]
    assert {one["source"] for one in both[0]} >= {f"{ROOT}in/{key}" for key in ODD_KEYS}
    s3.asked.clear()
    again = scan(clipmod, s3, ROOT + "in/", "-o", OUT, "--shard", "1/2")
    assert again.code == 0, again.stderr
    fetched = set(s3.gets())
    assert not any(key.startswith("in/") for key in fetched)
    own = {f"{PREFIX}done/part-{part:06}.json" for part in range(-(-told["parts"] // 2))}
    assert {key for key in fetched if "/done/" in key} == own  # not those of the other shard


def test_a_server_without_conditional_writes_is_refused_before_anything_is_judged(
    clipmod: Command, s3: FakeS3
) -> None:
    s3.put_samples("in/")
    s3.unconditional = True
    run = clipmod("scan", ROOT + "in/", "-o", OUT, *NUDENET, env=s3.environment)
    assert (run.code, run.stdout) == (2, b"")
    assert "does not keep the condition If-None-Match" in run.stderr
    assert [key for key in s3.gets() if key.startswith("in/")] == []
