"""What all endpoints share."""

from __future__ import annotations

from pathlib import Path

import pytest

from clipmod_cli.cli.serving import bind, listen
from clipmod_cli.errors import UsageError
from clipmod_cli.output.history.store import HistoryStore
from clipmod_cli.server.app import create_app
from clipmod_cli.server.service import Service
from clipmod_cli.types import Item
from tests.end_to_end.command import TINY
from tests.server.conftest import SettingsOf, opened

PICTURES = sorted((TINY / "pictures").iterdir())


def items(count: int) -> list[Item]:
    """Return pictures as a request brings them: counted from 0."""
    return [
        Item(source=path.name, index=index, data=path.read_bytes())
        for index, path in enumerate(PICTURES[:count])
    ]


def stored(path: Path) -> list[tuple[int, str]]:
    """Return number and name of each row."""
    return [
        (int(number), str(source))
        for number, source in HistoryStore(path).query('SELECT "index", source FROM items ORDER BY 1').rows
    ]


def test_every_judged_picture_has_a_row_whatever_request_it_came_with(settings_of: SettingsOf) -> None:
    resolved = settings_of()
    with opened(resolved) as service:
        for count in (2, 1, 3):
            assert len(list(service.judge(items(count), service.caller_of()))) == count
        names = [item.source for count in (2, 1, 3) for item in items(count)]
    assert stored(Path(str(resolved.settings.db))) == list(enumerate(names))


def test_a_service_that_ended_is_not_ready(service: Service) -> None:
    assert service.ready
    service.close()
    assert not service.ready


def test_a_port_at_which_another_one_listened_first_is_told(
    service: Service, settings_of: SettingsOf
) -> None:
    with bind(settings_of(port=0).settings) as first:
        settings = settings_of(port=first.getsockname()[1]).settings
        with bind(settings) as second:  # neither listens so far
            first.listen()
            with pytest.raises(UsageError, match=f"cannot listen at 127.0.0.1:{settings.port}"):
                listen(create_app(service, settings), service, settings, second)
