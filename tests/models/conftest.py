"""What the tests of several backends look at, made once a session."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from clipmod_cli.models.open_clip.source import OpenClipSource


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


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have towers and hashes kept in `tmp_path`, however full the disk is."""
    from clipmod_cli.models.tower import storage

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(storage, "RESERVED_BYTES", 0)


@pytest.fixture
def source(own_cache: None, tmp_path: Path) -> OpenClipSource:
    """A tiny model with weights in float32, whose tower may be kept."""
    from tests.models.source_kit import folder_source
    from tests.models.tower_kit import save, trembling

    return folder_source(save(tmp_path / "model", trembling(1)))
