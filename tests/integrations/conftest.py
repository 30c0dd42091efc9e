"""A guard over a tiny model that knows what a red circle is, loaded once; and Django, set up once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clipmod_cli.integrations.guard import UploadGuard
from clipmod_cli.integrations.uploads import UploadCheck
from clipmod_cli.models.seam import Model
from tests.end_to_end.command import SHAPES, TINY_L
from tests.warm import warm

TINY_SETTINGS: dict[str, Any] = {
    "policy": str(SHAPES),
    "models": TINY_L,
    "isolate": False,
    "max_image_mb": 9,
    "max_video_mb": 12,
}


@pytest.fixture(scope="session")
def checks() -> list[UploadCheck]:
    """What `guard` told its `on_check`."""
    return []


@pytest.fixture(scope="session")
def guard(tmp_path_factory: pytest.TempPathFactory, checks: list[UploadCheck]) -> Iterator[UploadGuard]:
    """A guard whose model is loaded, with the environment of a user who has set nothing."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        bare(home, patch)
        warm(home / "cache")
        one = UploadGuard(on_check=checks.append, **TINY_SETTINGS)
        one.warm()
    yield one
    one.close()


def bare(home: Path, patch: pytest.MonkeyPatch) -> None:
    """Set the environment of a user who has set nothing."""
    for name in [one for one in os.environ if one.startswith("CLIPMOD_")]:
        patch.delenv(name)
    for folder in ("DATA", "CONFIG", "CACHE"):
        patch.setenv(f"XDG_{folder}_HOME", str(home / folder.lower()))
    patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


@pytest.fixture
def model(guard: UploadGuard) -> Model:
    """The model of `guard`."""
    judge: Any = guard._judge
    (member,) = judge._service.get().panel.ensemble.members
    found: Model = member.model
    return found


@pytest.fixture(scope="session")
def django_ready() -> None:
    """Django, with an application that has a guarded field. No other test of the project uses it."""
    import django
    from django.conf import settings
    from django.core.management import call_command

    settings.configure(
        ALLOWED_HOSTS=["testserver"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.AutoField",
        INSTALLED_APPS=["tests.integrations.photos"],
        LOGGING_CONFIG=None,
        ROOT_URLCONF="tests.integrations.photos.urls",
        SECRET_KEY="tests",
        STORAGES={"default": {"BACKEND": "django.core.files.storage.InMemoryStorage"}},
        USE_TZ=True,
    )
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)
