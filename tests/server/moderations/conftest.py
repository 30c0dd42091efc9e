"""Two real services on loopback, and OpenAI's own client of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from clipmod_cli.server.service import Service
from clipmod_cli.settings.reading import Resolved, resolve
from tests.end_to_end.command import SHAPES, TINY_ENSEMBLE, TINY_L
from tests.server.conftest import opened
from tests.server.ensemble.pictures import BLUE_SQUARE, RED_CIRCLE, TEXT, VIDEO
from tests.server.listening import listening
from tests.urls.server import Server, reply, serving
from tests.warm import warm

KEY = "the-key-of-this-service"

OPENAI = 'openai = ["violence", "violence/graphic"]\n'


@pytest.fixture(scope="package")
def images() -> Iterator[Server]:
    """A web server with pictures and other files."""
    with serving() as server:
        files = {"circle.jpg": RED_CIRCLE, "square.png": BLUE_SQUARE, "page.html": TEXT, "film.mp4": VIDEO}
        for name, data in files.items():
            server.on(f"/{name}", reply(body=data))
        yield server


@pytest.fixture(scope="package")
def settings_with(tmp_path_factory: pytest.TempPathFactory, images: Server) -> Iterator[Any]:
    """Settings under a policy: red circles are violence, and red squares none of OpenAI's categories."""
    home = tmp_path_factory.mktemp("home")
    shapes = SHAPES.read_text(encoding="utf-8").replace('label = "red circle"\n', OPENAI)
    mild, severe = shapes.split('name = "red_shape"\nsafety = "SAFE"')
    policy = home / "shapes.toml"
    policy.write_text(f'{mild}name = "red_shape"\nsafety = "UNSAFE"{severe}', encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for folder in ("DATA", "CONFIG", "CACHE"):
            patch.setenv(f"XDG_{folder}_HOME", str(home / folder.lower()))
        for name in ("API_KEYS", "USE_API_KEYS", "CLIPMOD_API_KEYS", "OPENAI_API_KEY"):
            patch.delenv(name, raising=False)
        patch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        warm(home / "cache")

        def make(**changes: Any) -> Resolved:
            ours = {
                "policy": str(policy),
                "isolate": False,
                "access_log": False,
                "no_db": True,
                "data_dir": str(home / "kept"),
                "allow_host": (f"localhost:{images.port}",),
            }
            return resolve({**ours, **changes})

        yield make


@pytest.fixture(scope="package")
def service(settings_with: Any) -> Iterator[Service]:
    """A service of the tiny ensemble."""
    with opened(settings_with(models=tuple(TINY_ENSEMBLE.split(",")))) as one:
        yield one


@pytest.fixture(scope="package")
def url(settings_with: Any, service: Service) -> Iterator[str]:
    """The base URL of a service without keys."""
    with listening(service, settings_with(models=tuple(TINY_ENSEMBLE.split(","))).settings) as port:
        yield f"http://127.0.0.1:{port}/v1"


@pytest.fixture(scope="package")
def client(url: str) -> Iterator[OpenAI]:
    """OpenAI's client of it, which asks once."""
    with OpenAI(base_url=url, api_key="none", max_retries=0) as one:
        yield one


@pytest.fixture(scope="package")
def lenient(settings_with: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of a service with a key that ignores text and calls Safe what was not looked at."""
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text(KEY, encoding="utf-8")
    resolved: Resolved = settings_with(
        models=(TINY_L,),
        api_keys_file=str(keys),
        v1_ignore_text=True,
        unseen="safe",
        max_multi_files=2,
        max_image_mb=1,
    )
    with opened(resolved) as one, listening(one, resolved.settings) as port:
        yield f"http://127.0.0.1:{port}/v1"
