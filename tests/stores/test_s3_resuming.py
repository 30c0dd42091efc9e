"""A scan of a bucket is gone on with: what stands is not fetched, what changed or failed is."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

from tests.end_to_end.command import Command, read_records
from tests.stores.kit import ROOT, by_source, scan
from tests.stores.servers import FakeS3, sample


def test_a_second_run_fetches_nothing_but_what_changed(clipmod: Command, s3: FakeS3, out: Path) -> None:
    s3.put_samples()
    s3.put("denied.png", sample("cat.png"))
    s3.refused.add("denied.png")
    assert scan(clipmod, s3, ROOT, "-o", out).code == 3
    before = by_source(read_records(out.read_bytes()))

    s3.asked.clear()
    s3.refused.clear()
    assert scan(clipmod, s3, ROOT, "-o", out).code == 0
    assert s3.gets() == ["denied.png"]
    assert len(s3.asked) <= 4  # a page for the records, one for the inputs, and the object

    s3.asked.clear()
    s3.put("cat.png", sample("color-chart.png"))
    s3.put("new.png", sample("cat.png"))
    assert scan(clipmod, s3, ROOT, "-o", out).code == 0
    assert sorted(s3.gets()) == ["cat.png", "new.png"]
    after = by_source(read_records(out.read_bytes()))
    assert set(after) == {*before, "new.png"}
    assert (before["cat.png"]["final_decision"], after["cat.png"]["final_decision"]) == ("Safe", "NSFW")


def test_verifying_reads_and_hashes_again(clipmod: Command, s3: FakeS3, out: Path) -> None:
    s3.put("cat.png", sample("cat.png"))
    assert scan(clipmod, s3, ROOT, "-o", out).code == 0
    s3.asked.clear()
    assert scan(clipmod, s3, ROOT, "-o", out, "--resume=verify").code == 0
    assert s3.gets() == ["cat.png"]
    (record,) = read_records(out.read_bytes())
    record["sha256"] = "0" * 64
    out.write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")
    assert scan(clipmod, s3, ROOT, "-o", out, "--resume=verify").code == 0
    assert [one["sha256"] != "0" * 64 for one in read_records(out.read_bytes())] == [True]


def test_a_store_that_goes_away_leaves_what_a_second_run_judges(
    clipmod: Command, s3: FakeS3, out: Path
) -> None:
    keys = s3.put_samples()
    s3.down_after = 4
    assert scan(clipmod, s3, ROOT, "-o", out).code == 3
    first = by_source(read_records(out.read_bytes()))
    assert set(first) == set(keys)
    lost = {key for key, record in first.items() if record["status"] == "error"}
    assert lost
    assert len(lost) < len(keys)
    assert all(first[key]["error"]["retryable"] for key in lost)
    assert {first[key]["error"]["code"] for key in lost} <= {"read_error", "connect_error"}

    s3.down_after = None
    s3.asked.clear()
    assert scan(clipmod, s3, ROOT, "-o", out).code == 0
    assert set(s3.gets()) == lost
    second = by_source(read_records(out.read_bytes()))
    assert {record["status"] for record in second.values()} == {"ok"}
    assert len(second) == len(keys)


def test_records_stand_while_the_store_is_unreachable(clipmod: Command, s3: FakeS3, out: Path) -> None:
    s3.put("cat.png", sample("cat.png"))
    assert scan(clipmod, s3, ROOT + "cat.png", "-o", out).code == 0
    away = scan(clipmod, s3, ROOT + "cat.png", "-o", out, AWS_ENDPOINT_URL="http://127.0.0.1:9")
    assert "for changes" in away.stderr
    assert [record["status"] for record in read_records(out.read_bytes())][:1] == ["ok"]


def test_an_archive_is_judged_by_its_members(clipmod: Command, s3: FakeS3, out: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("../cat.png", sample("cat.png"))
        file.writestr("chart.png", sample("color-chart.png"))
        file.writestr("notes.txt", b"nothing")
    s3.put("dump.zip", packed.getvalue())
    s3.put("nameless", packed.getvalue())
    s3.put("z.png", sample("cat.png"))
    assert scan(clipmod, s3, ROOT, "-o", out).code == 0
    records = by_source(read_records(out.read_bytes()))
    assert {name: record["final_decision"] for name, record in records.items()} == {
        "dump.zip!../cat.png": "Safe", "dump.zip!chart.png": "NSFW",
        "nameless!../cat.png": "Safe", "nameless!chart.png": "NSFW", "z.png": "Safe",
    }  # fmt: skip
    assert sorted(record["index"] for record in records.values()) == list(range(5))
    again = scan(clipmod, s3, ROOT, "-o", out)
    assert ": 5 done, 0 to retry" in again.stderr
    s3.put("dump.zip", packed.getvalue() + b"\0")
    assert scan(clipmod, s3, ROOT, "-o", out).code == 0
    assert set(by_source(read_records(out.read_bytes()))) == set(records)


def test_a_listing_that_breaks_is_one_record(clipmod: Command, s3: FakeS3, out: Path) -> None:
    s3.put("cat.png", sample("cat.png"))
    s3.unlisted = True
    assert scan(clipmod, s3, ROOT, "-o", out).code == 6
    (record,) = read_records(out.read_bytes())
    assert (record["source"], record["error"]["code"]) == (ROOT, "permission_denied")
    words = (ROOT + "cat.png", "-o", out)
    assert scan(clipmod, s3, *words).code == 3, "the bucket is not named again, and its record stays"
    s3.asked.clear()
    assert scan(clipmod, s3, *words).code == 3  # its record is found without a listing
    assert s3.gets() == []
