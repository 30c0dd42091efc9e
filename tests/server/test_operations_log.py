"""The access log: what a line holds, and which lines there are."""

from __future__ import annotations

import io
import json
import logging
from datetime import UTC, datetime
from typing import Any

from clipmod_cli.server.operations.request_log import AccessLog, access_log_of, line_of, log
from clipmod_cli.server.request_info import RequestInfo
from clipmod_cli.settings.definition import Settings


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
