"""The access log: what a line holds, and which lines there are."""

from __future__ import annotations

import io
import json
import logging
from datetime import UTC, datetime
from typing import Any

import pytest

from clipmod_cli.server.fairness.callers import REQUEST
from clipmod_cli.server.operations.request_log import AccessLog, access_log_of, line_of, log, noting_requests
from clipmod_cli.server.request_info import RequestInfo
from clipmod_cli.settings.definition import Settings
from tests.server.gate.doors import Seen, gated


def asked(**changes: Any) -> RequestInfo:
    plain = {
        "id": "x",
        "method": "GET",
        "path": "/p",
        "client": "192.0.2.1",
        "status": 200,
        "seconds": 0.0123,
    }
    return RequestInfo(**{**plain, **changes})


def lines(least: int, *ones: RequestInfo) -> list[dict[str, Any]]:
    stream, before = io.StringIO(), log.handlers[:]
    try:
        watcher = AccessLog(stream, least)
        for one in ones:
            watcher.finished(one)
    finally:
        log.handlers = before
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_request_is_one_json_object_on_a_line() -> None:
    line = line_of(asked(path='/\n"x\u2028', key_id="0a1b", refused="rate"), datetime(2026, 1, 2, tzinfo=UTC))
    assert "\n" not in line
    told = json.loads(line)
    assert told["time"] == "2026-01-02T00:00:00.000+00:00"
    assert (told["key"], told["refused"], told["ms"], told["status"]) == ("0a1b", "rate", 12.3, 200)


def test_a_path_with_variables_is_logged_by_its_template_and_an_unknown_one_is_cut() -> None:
    (known, unknown) = lines(
        logging.INFO, asked(route="/image/{image_id}", path="/image/secret"), asked(path="/" + "x" * 5000)
    )
    assert known["path"] == "/image/{image_id}"
    assert len(unknown["path"]) == 200


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("given", "trace_id"),
    [
        (f"00-{TRACE}-{SPAN}-01", TRACE),
        (f" 00-{TRACE}-{SPAN}-00 ", TRACE),
        (f"01-{TRACE}-{SPAN}-01-what-a-later-version-adds", TRACE),
        (f"00-{TRACE}-{SPAN}-01-more", ""),
        (f"ff-{TRACE}-{SPAN}-01", ""),
        (f"00-{'0' * 32}-{SPAN}-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE.upper()}-{SPAN}-01", ""),
        (f"00-{TRACE}-{SPAN}", ""),
        (f"00-{TRACE}-{SPAN}-0g", ""),
        ("x" * 10_000, ""),
        ("", ""),
    ],
)
def test_a_valid_trace_is_logged_and_nothing_else_is(given: str, trace_id: str) -> None:
    seen = Seen()
    answer = gated(seen).get("/", headers={"traceparent": given})
    assert seen.last.trace_id == trace_id
    assert TRACE not in str(answer.headers)  # nothing is sent back
    told = json.loads(line_of(seen.last, datetime.now(UTC)))
    assert told.get("trace_id", "") == trace_id


def test_two_traces_are_none() -> None:
    seen = Seen()
    one = f"00-{TRACE}-{SPAN}-01"
    gated(seen).get("/", headers=[("traceparent", one), ("traceparent", one)])
    assert seen.last.trace_id == ""


def test_messages_about_a_request_name_it_and_its_trace() -> None:
    ours, stream = logging.getLogger("clipmod_cli"), io.StringIO()
    handler = logging.StreamHandler(stream)
    ours.addHandler(handler)
    try:
        with noting_requests():
            ours.warning("of nobody")
            before = REQUEST.set(asked(id="an-id", trace_id=TRACE))
            logging.getLogger("clipmod_cli.server.x").error("it failed: %s", "reason")
            REQUEST.reset(before)
        ours.error("later")
    finally:
        ours.removeHandler(handler)
    assert stream.getvalue().splitlines() == [
        "of nobody",
        f"it failed: reason (request an-id, trace {TRACE})",
        "later",
    ]


def test_probes_are_told_only_when_more_is_asked_for_and_faults_always() -> None:
    probe, fault, plain = asked(path="/healthz"), asked(status=503, path="/readyz"), asked()
    assert len(lines(logging.DEBUG, probe, fault, plain)) == 3
    assert [line["path"] for line in lines(logging.INFO, probe, fault, plain)] == ["/readyz", "/p"]
    assert [line["status"] for line in lines(logging.ERROR, probe, fault, plain)] == [503]


def test_the_settings_say_what_is_logged() -> None:
    before = log.handlers[:]
    try:
        assert access_log_of(Settings(access_log=False)) == []
        for settings, least in (
            (Settings(), logging.INFO),
            (Settings(quiet=True), logging.ERROR),
            (Settings(verbose=True), logging.DEBUG),
        ):
            assert [one.least for one in access_log_of(settings)] == [least]
    finally:
        log.handlers = before
