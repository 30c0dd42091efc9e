"""What the tests of several backends look at, made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Real photographs, as PNG."""
    from tests.models import backends

    return backends.save_photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="session")
def random_vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small image classifier with seeded random weights."""
    from tests.models import backends

    return backends.save_random_vit(tmp_path_factory.mktemp("models") / "vit")


@pytest.fixture(scope="session")
def random_vit_b_32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a ViT-B-32 of open_clip with seeded random weights."""
    from tests.models import backends

    return backends.save_random_clip(tmp_path_factory.mktemp("models") / "vit-b-32", "ViT-B-32")
