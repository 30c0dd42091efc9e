"""The extras of clipmod: whether one is installed, and the command that installs it here.

The command fits how clipmod was installed: by pip, uv or pipx, into which environment, from a checkout, an
address or the package index, or in the image of the Dockerfile.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from clipmod_cli.errors import MissingPackageError

NAME: Final = "clipmod"

EXTRAS: Final[dict[str, tuple[str, ...]]] = {
    "clip": ("torch", "torchvision", "open_clip"),
    "nudenet": ("nudenet", "cv2"),
    "hf": ("torch", "torchvision", "transformers"),
    "heic": ("pillow_heif",),
    "stores": ("s3fs", "gcsfs"),
    "eval": ("sklearn", "scipy"),
    "ray": ("ray",),
}
"""The modules that each extra of pyproject.toml brings."""

IMAGE_MARK: Final = "clipmod-image"
"""A file in the environment of the Dockerfile's image, which nothing can be installed into."""


def is_installed(extra: str) -> bool:
    """Return whether all packages of an extra are installed; imports none of them."""
    return all(importlib.util.find_spec(module) is not None for module in EXTRAS[extra])


def extra_of(module: str) -> str:
    """Return the extra that brings a module."""
    return next(extra for extra, modules in EXTRAS.items() if module in modules)


def require_extra(extra: str, what: str) -> None:
    """Check that an extra is installed; `what` needs it.

    Raises:
        MissingPackageError: it is not; the message names the command that installs it.
    """
    if not is_installed(extra):
        raise MissingPackageError(f"{what} needs the extra {extra}: {install_command(extra)}")


def install_command(extra: str = "") -> str:
    """Return the shell command that adds an extra to this installation; without one, what the base lacks."""
    return Installation.here().command(extra)


def package_command(package: str, *, repair: bool = False) -> str:
    """Return the shell command that installs a package here; with `repair` again, and no other package."""
    return Installation.here().package_command(package, repair=repair)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """How clipmod was installed.

    Attributes:
        prefix: the folder of the environment.
        python: its interpreter.
        installer: the program that installed clipmod, as `pip` or `uv`.
        origin: where it came from (PEP 610, `direct_url.json`); empty for the package index.
        source: the folder of the source, where it runs without having been installed.
    """

    prefix: Path
    python: Path
    installer: str = "pip"
    origin: dict[str, Any]
    source: Path | None = None

    @classmethod
    def here(cls) -> Installation:
        """Return how the running clipmod was installed."""
        prefix, python = Path(sys.prefix), Path(sys.executable)
        try:
            found = importlib.metadata.distribution(NAME)
        except importlib.metadata.PackageNotFoundError:
            source = Path(__file__).parent.parent
            return cls(prefix=prefix, python=python, origin={}, source=source)
        installer = (found.read_text("INSTALLER") or "pip").strip()
        origin = json.loads(found.read_text("direct_url.json") or "{}")
        return cls(prefix=prefix, python=python, installer=installer, origin=origin)

    def command(self, extra: str) -> str:
        """Return the shell command that adds an extra; without one, that installs what the base lacks."""
        if self._is_image:
            return f"docker build --build-arg EXTRAS={','.join(_with_present(extra))} ."
        if self._is_uv_tool:  # it would drop the extras that are not named
            return f"uv tool install {self._requirement(*_with_present(extra))}"
        return f"{self._installer()} {self._requirement(extra)}"

    def package_command(self, package: str, *, repair: bool) -> str:
        """Return the shell command that installs a package; with `repair` again, and no other package."""
        if self._is_image:
            return self.command("")
        if self._is_uv_tool:
            how = "--reinstall" if repair else f"--with {package}"
            return f"uv tool install {how} {self._requirement(*_with_present(''))}"
        flags = "--force-reinstall --no-deps " if repair else ""
        return f"{self._installer()} {flags}{package}"

    @property
    def _is_image(self) -> bool:
        return (self.prefix / IMAGE_MARK).exists()

    @property
    def _is_uv_tool(self) -> bool:
        return (self.prefix / "uv-receipt.toml").is_file()

    @property
    def _is_pipx(self) -> bool:
        return (self.prefix / "pipx_metadata.json").is_file()

    def _installer(self) -> str:
        """Return the command that installs into this environment, whether or not it is activated."""
        if self._is_pipx:
            return f"pipx runpip {shlex.quote(self.prefix.name)} install"
        python = shlex.quote(_as_typed(self.python))
        if self.installer == "uv":
            is_active = os.environ.get("VIRTUAL_ENV") == str(self.prefix)
            return "uv pip install" if is_active else f"uv pip install --python {python}"
        found = shutil.which("pip")
        is_active = found is not None and Path(found).parent == self.python.parent
        return "pip install" if is_active else f"{python} -m pip install"

    def _requirement(self, *extras: str) -> str:
        """Return what is to be installed, as an argument; a folder that is gone is not named."""
        names = ",".join(extra for extra in extras if extra)
        suffix = f"[{names}]" if names else ""
        folder = self._folder()
        if folder is not None:
            editable = "-e " if self.origin.get("dir_info", {}).get("editable") else ""
            typed = (
                str(folder) if self._is_pipx else _as_typed(folder)
            )  # pipx installs in a folder of its own
            path = typed if typed == "." or Path(typed).is_absolute() else f"./{typed}"  # else it were a name
            return editable + shlex.quote(path + suffix)
        address = self.origin.get("url", "")
        if address and not address.startswith("file:"):
            vcs = self.origin.get("vcs_info", {})
            version = f"@{vcs['commit_id']}" if vcs else ""
            prefix = f"{vcs['vcs']}+" if vcs else ""
            return shlex.quote(f"{NAME}{suffix} @ {prefix}{address}{version}")
        return shlex.quote(f"{NAME}{suffix}")

    def _folder(self) -> Path | None:
        """Return the folder or wheel that clipmod was installed from, if it is still there."""
        if self.source is not None:
            return self.source
        address = urlsplit(self.origin.get("url", ""))
        path = Path(unquote(address.path))
        return path if address.scheme == "file" and path.exists() else None


def _with_present(extra: str) -> list[str]:
    """Return this extra and those that are installed, in the order of EXTRAS."""
    return [name for name in EXTRAS if name == extra or is_installed(name)]


def _as_typed(path: Path) -> str:
    """Return a path as a person would type it: relative where it lies in the working directory."""
    here = Path.cwd()
    is_below = path.is_relative_to(here) and here != here.parent
    return str(path.relative_to(here)) if is_below else str(path)
