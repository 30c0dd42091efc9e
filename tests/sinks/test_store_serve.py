"""What `clipmod serve` tells the store comes out of it, counted once."""

from __future__ import annotations

import math
import os
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipmod_cli.output.history.rows import request_line
from clipmod_cli.output.history.run import HistoryRun, open_rows
from clipmod_cli.output.history.store import HistoryStore
from clipmod_cli.records import to_line, to_record
from clipmod_cli.settings.reading import resolve
from tests.results import RUN, plain_failure, plain_verdict
from tests.sinks.rows import fill, info, leave_behind, seal_all, warnings_in
from tests.sinks.serve import NOW, REQUEST, hosted, keep_files, request, serving

NAMES = st.text(max_size=30) | st.binary(min_size=1, max_size=10).map(os.fsdecode)


def plain(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def test_requests_are_kept_as_they_were(store: HistoryStore) -> None:
    run = serving(store)
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5)))
    run.add_request(request(7, requested_at=elsewhere, status=400, judged_by=None, error="it's \u00e9"))
    run.finish({}, 0)
    came = plain(NOW)
    assert store.query("SELECT * FROM requests").rows == [
        ("serve-run", 0, "request-7", came, "/predict/single", 400, 1, 100.0, None, 1, "it's \u00e9")
    ]


REQUESTS = st.fixed_dictionaries(
    {
        "name": NAMES,
        "time_ms": st.floats(),
        "status": st.integers(100, 599),
        "moment": st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),  # noqa: DTZ001 -- any zone's
    }
)


@settings(max_examples=2, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(REQUESTS, min_size=8, max_size=20))
def test_whatever_a_request_says_it_is_one_row(store: HistoryStore, said: list[dict[str, Any]]) -> None:
    before = store.serve_stats()["total_requests"]
    run = HistoryRun(store, info(f"run-{before}"))
    for number, one in enumerate(said):
        texts = dict.fromkeys(("endpoint", "error", "judged_by"), one["name"])
        times = {"requested_at": one["moment"], "time_ms": one["time_ms"]}
        run.add_request(request(number, status=one["status"], **texts, **times))
    run.finish({}, 0)
    assert store.serve_stats()["total_requests"] == before + len(said)
    query = f"SELECT time_ms FROM requests WHERE run_id = 'run-{before}' ORDER BY number"  # noqa: S608
    times_ms = [one["time_ms"] for one in said]
    assert [row[0] for row in store.query(query).rows] == [
        time_ms if math.isfinite(time_ms) else None for time_ms in times_ms
    ]


def test_a_client_that_repeats_an_id_is_counted_each_time(store: HistoryStore) -> None:
    run = serving(store)
    for _ in range(3):
        run.add_request(REQUEST)
    run.finish({}, 0)
    assert store.serve_stats()["total_requests"] == 3


def test_many_threads_lose_and_mix_nothing(store: HistoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipmod_cli.output.history.run.SEAL_ROWS", 60)
    run = serving(store)

    def work(first: int) -> None:
        for number in range(first, first + 50):
            run.add_request(request(number))
            if number % 10 == 0:
                run.check()
            if number % 100 == 0:
                run.tick()

    threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 400, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.finish({}, 0)
    ids = store.query("SELECT request_id FROM requests ORDER BY number").rows
    assert sorted(ids) == sorted((f"request-{number}",) for number in range(400))


def test_the_numbers_of_serve_leave_out_scans(store: HistoryStore) -> None:
    fill(store, 5)  # a scan
    run = serving(store)
    for index, unsafe in enumerate([0.9, 0.2, 0.8]):
        run.add(
            to_line(
                to_record(plain_verdict(index, unsafe=unsafe), RUN).model_copy(update={"run_id": "serve-run"})
            )
        )
    run.add(to_line(to_record(plain_failure(3), RUN).model_copy(update={"run_id": "serve-run"})))
    for number, (time_ms, concurrent) in enumerate([(100.0, 3), (200.0, 1), (300.0, 2)]):
        run.add_request(request(number, time_ms=time_ms, concurrent=concurrent))
    refused: dict[str, Any] = {
        "status": 413,
        "images": 0,
        "judged_by": None,
        "time_ms": 1.0,
        "error": "too large",
    }
    run.add_request(request(8, **refused))
    run.add_request(request(9, **{**refused, "status": 500}))
    keep_files(store.path.parent, hosted("one"))
    keep_files(store.path.parent, hosted("two", expires_at=NOW - timedelta(seconds=1)))
    HistoryStore(store.path, data_folder=store.path.parent).register()
    run.finish({}, 0)
    seal_all(store)
    assert store.serve_stats() == store.stats()["serve"]
    assert store.serve_stats(hosted=7)["total_images_hosted"] == 7
    found = store.serve_stats()
    assert found.pop("database_size_mb") == pytest.approx(store.size / 1e6)
    endpoints = found.pop("endpoints")
    assert found == {
        "total_requests": 5,
        "total_images_processed": 3,
        "nsfw_detections": 2,
        "safe_detections": 1,
        "average_confidence": pytest.approx((0.9 + 0.8 + 0.8) / 3),
        "average_processing_time_ms": pytest.approx(84.2),
        "p95_processing_time_ms": pytest.approx(84.2),
        "p99_processing_time_ms": pytest.approx(84.2),
        "average_latency_ms": 200.0,
        "p95_latency_ms": pytest.approx(290.0),
        "p99_latency_ms": pytest.approx(298.0),
        "models_usage": {"triple_ensemble": 3},
        "error_rate": 0.2,
        "total_predictions_stored": 3,
        "total_images_hosted": 1,
        "max_concurrent_requests": 3,
    }
    assert endpoints == [
        {
            "endpoint": "/predict/single", "requests": 5, "images": 3, "errors": 1, "mean_ms": 200.0,
            "p95_ms": pytest.approx(290.0), "p99_ms": pytest.approx(298.0),
        }
    ]  # fmt: skip


def test_of_nothing_nothing_is_known(store: HistoryStore) -> None:
    found = store.serve_stats()
    unknown = {key for key, value in found.items() if value is None}
    assert unknown == {
        "average_confidence", "average_processing_time_ms",
        "p95_processing_time_ms", "p99_processing_time_ms",
        "average_latency_ms", "p95_latency_ms", "p99_latency_ms",
    }  # fmt: skip
    assert not any(value for key, value in found.items() if key not in unknown)
    assert not store.path.parent.exists()


def test_a_running_service_is_counted_at_once(store: HistoryStore) -> None:
    run = serving(store)
    for number in range(1, 4):
        run.add_request(request(number))
        assert store.serve_stats()["total_requests"] == number
    run.finish({}, 0)
    assert store.serve_stats()["total_requests"] == 3


def test_the_numbers_go_on_over_a_restart(store: HistoryStore) -> None:
    for run_id in ("first", "second"):
        run = HistoryRun(store, info(run_id))
        run.add_request(REQUEST)
        run.finish({}, 0)
    assert store.serve_stats()["total_requests"] == 2


def test_a_torn_line_and_garbage_take_nothing_with_them(store: HistoryStore) -> None:
    line = request_line(REQUEST, RUN.run_id, 0, 1)
    leave_behind(store, b"\0\xff{}\n{}\n" + line + line[:-20])
    assert store.serve_stats()["total_requests"] == 1
    assert store.maintain()
    assert store.serve_stats()["total_requests"] == 1


def test_what_cannot_be_kept_never_fails_a_request(
    store: HistoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.path.parent.mkdir()
    store.folder.touch()
    run = serving(store)
    run.add_request(REQUEST)
    with pytest.raises(OSError, match="cannot write"):
        run.check()
    run.finish({}, 0)
    assert len(warnings_in(caplog)) == 1


def test_without_a_store_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("DATA", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"XDG_{folder}_HOME", str(tmp_path))
    sink = open_rows(resolve({"no_db": True}).settings, RUN, [], "clipmod serve")
    sink.add_request(REQUEST)
    sink.finish({}, 0)
    assert list(tmp_path.iterdir()) == []
