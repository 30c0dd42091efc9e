"""The settings file: TOML with one key for each setting. Faults are told with their line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from clipmod_cli.errors import SettingsError, did_you_mean
from clipmod_cli.settings.definition import Settings

KEYS = frozenset(f.name for f in fields(Settings)) - {"config"}
"""The file cannot name itself."""


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """The values of a settings file.

    Attributes:
        path: of the file; None where there is none.
        lines: of each key, from 1.
    """

    path: Path | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[str, int] = field(default_factory=dict)

    def place_of(self, name: str) -> str:
        """Return `file:line: key` of a setting."""
        return f"{self.path}:{self.lines[name]}: {name}"


def default_config_path() -> Path:
    """Return the settings file that is read unless another is named."""
    from platformdirs import user_config_path

    return user_config_path("clipmod", appauthor=False) / "config.toml"


def read_settings_file(named: str | None) -> SettingsFile:
    """Return the values of a file, or of the default one if it exists.

    Raises:
        SettingsError: it cannot be read, or has an unknown key.
    """
    import tomllib

    from clipmod_cli.toml_lines import locate

    path = Path(named) if named else default_config_path()
    try:
        if not named and not _exists(path):
            return SettingsFile()
        path = path.expanduser()
        # utf-8-sig: Windows editors write a byte order mark
        text = path.read_text(encoding="utf-8-sig")
        values = tomllib.loads(text)
    except (OSError, RuntimeError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        reason = getattr(e, "strerror", None) or e
        raise SettingsError(f"cannot read the settings file {path}: {reason}") from e
    lines = {str(keys[0]): line for keys, line in locate(text).items() if len(keys) == 1}
    file = SettingsFile(path, values, lines)
    if unknown := [name for name in values if name not in KEYS]:
        raise SettingsError("\n".join(_unknown(file, name) for name in unknown))
    return file


def _unknown(file: SettingsFile, name: str) -> str:
    near = did_you_mean(name.replace("-", "_").lower(), KEYS)
    known = near or "; `clipmod config show` lists all settings"
    return f"{file.path}:{file.lines[name]}: unknown setting {name}{known}"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:  # another user's home folder, for example in a container
        return False
