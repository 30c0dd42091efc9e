"""The command that installs an extra, by how clipmod was installed."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from clipmod_cli import install
from clipmod_cli.errors import MissingPackageError
from clipmod_cli.install import EXTRAS, IMAGE_MARK, Installation, is_installed, require_extra

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "open_clip": "open_clip_torch",
    "cv2": "opencv-python-headless",
    "pillow_heif": "pillow-heif",
    "sklearn": "scikit-learn",
}
"""Names of packages that are not those of their modules."""


@pytest.fixture
def prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment that is active and has pip, beside the working directory."""
    made = tmp_path / "env with blank"
    (made / "bin").mkdir(parents=True)
    pip = made / "bin" / "pip"
    pip.write_text("#!/bin/sh\n", encoding="utf-8")
    pip.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("VIRTUAL_ENV", str(made))
    monkeypatch.setenv("PATH", str(made / "bin"))
    return made


def command(prefix: Path, extra: str = "clip", **said: Any) -> str:
    origin = said.pop("origin", {})
    return Installation(prefix=prefix, python=prefix / "bin" / "python", origin=origin, **said).command(extra)


def origin_of(folder: Path, *, editable: bool = False) -> dict[str, Any]:
    """Return what pip writes into `direct_url.json` for a local folder."""
    return {"url": folder.as_uri(), "dir_info": {"editable": True} if editable else {}}


def test_from_the_index(prefix: Path) -> None:
    assert command(prefix) == "pip install 'clipmod[clip]'"
    assert command(prefix, "") == "pip install clipmod"


def test_from_a_checkout_it_is_named_as_a_person_would(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = prefix.parent / "check out"
    checkout.mkdir()
    assert command(prefix, origin=origin_of(checkout)) == f"pip install '{checkout}[clip]'"
    assert command(prefix, origin=origin_of(checkout, editable=True)) == f"pip install -e '{checkout}[clip]'"
    monkeypatch.chdir(checkout)
    assert command(prefix, origin=origin_of(checkout)) == "pip install '.[clip]'"
    assert command(prefix, "", origin=origin_of(checkout)) == "pip install ."
    monkeypatch.chdir(prefix.parent)
    assert command(prefix, origin=origin_of(checkout)) == "pip install './check out[clip]'"


def test_a_checkout_that_is_gone_is_not_named(prefix: Path) -> None:
    assert command(prefix, origin=origin_of(prefix.parent / "gone")) == "pip install 'clipmod[clip]'"


def test_from_an_address_it_is_installed_again_at_the_same_commit(prefix: Path) -> None:
    git = {"vcs": "git", "requested_revision": "main", "commit_id": "0123abc"}
    origin = {"url": "https://example.com/clipmod.git", "vcs_info": git}
    said = command(prefix, origin=origin)
    assert said == "pip install 'clipmod[clip] @ git+https://example.com/clipmod.git@0123abc'"
    origin = {"url": "https://example.com/clipmod-1-py3-none-any.whl", "archive_info": {}}
    said = command(prefix, origin=origin)
    assert said == "pip install 'clipmod[clip] @ https://example.com/clipmod-1-py3-none-any.whl'"


def test_an_environment_that_is_not_active_is_named(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("VIRTUAL_ENV")
    python = f"'{prefix}/bin/python'"
    assert command(prefix) == f"{python} -m pip install 'clipmod[clip]'"
    assert command(prefix, installer="uv") == f"uv pip install --python {python} 'clipmod[clip]'"
    monkeypatch.chdir(prefix)
    assert command(prefix) == "bin/python -m pip install 'clipmod[clip]'"


def test_uv_installs_into_its_own_environments(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command(prefix, installer="uv") == "uv pip install 'clipmod[clip]'"
    monkeypatch.setattr(install, "is_installed", lambda extra: extra == "heic")
    (prefix / "uv-receipt.toml").touch()
    assert command(prefix, installer="uv") == "uv tool install 'clipmod[clip,heic]'"  # heic stays


def test_pipx_and_the_image_have_commands_of_their_own(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (prefix / "pipx_metadata.json").touch()
    assert command(prefix) == "pipx runpip 'env with blank' install 'clipmod[clip]'"
    here = Path.cwd()
    said = command(prefix, origin=origin_of(here))
    assert said == f"pipx runpip 'env with blank' install '{here}[clip]'"  # pipx leaves the working directory
    monkeypatch.setattr(install, "is_installed", lambda extra: extra == "nudenet")
    (prefix / IMAGE_MARK).touch()
    assert command(prefix) == "docker build --build-arg EXTRAS=clip,nudenet ."


def test_a_package_is_repaired_where_clipmod_is(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def repair(**said: Any) -> str:
        found = Installation(prefix=prefix, python=prefix / "bin" / "python", origin={}, **said)
        return found.package_command("pillow", repair=True)

    monkeypatch.setattr(install, "is_installed", lambda extra: extra == "heic")
    assert repair() == "pip install --force-reinstall --no-deps pillow"
    assert repair(installer="uv") == "uv pip install --force-reinstall --no-deps pillow"
    (prefix / "uv-receipt.toml").touch()
    assert repair() == "uv tool install --reinstall 'clipmod[heic]'"
    (prefix / IMAGE_MARK).touch()
    assert repair() == "docker build --build-arg EXTRAS=heic ."


def test_without_having_been_installed_the_source_is_named(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "NAME", "no-such-distribution")
    found = Installation.here()
    assert found.source == Path(install.__file__).parent.parent
    monkeypatch.chdir(found.source)
    assert command(prefix, source=found.source) == "pip install '.[clip]'"


def test_the_extras_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    (every,) = extras.pop("all")
    assert Requirement(every).extras == set(extras) - {"ray"}  # 240 MB, and not for every machine
    for extra, requirements in extras.items():
        names = {Requirement(text).name for text in requirements}
        assert names == {PACKAGES.get(module, module) for module in EXTRAS[extra]}
    assert set(EXTRAS) == set(extras)


def test_an_extra_is_there_if_all_its_packages_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRAS, "clip", ("json", "csv"))
    assert is_installed("clip")
    require_extra("clip", "this model")
    monkeypatch.setitem(EXTRAS, "clip", ("json", "no_such_module"))
    assert not is_installed("clip")
    with pytest.raises(MissingPackageError, match="this model needs the extra clip: "):
        require_extra("clip", "this model")
