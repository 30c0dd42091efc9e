"""Settings from flags, environment, settings file and defaults, in that order; errors name the origin.

Nothing is read from the working directory. `clipmod --help` imports this module, so pydantic is imported
late.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from clipmod_cli.errors import SettingsError
from clipmod_cli.settings.definition import ENV_PREFIX, Origin, Settings, flag_of, option_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """Settings with the origin of each value."""

    settings: Settings
    origins: Mapping[str, Origin]
    file: Path | None

    def named(self, name: str) -> bool:
        """Return whether the user set this, so that it is not the default."""
        return self.origins[name] != "default"


def default_config_path() -> Path:
    """Return the settings file that is read unless another is named."""
    from platformdirs import user_config_path

    return user_config_path("clipmod", appauthor=False) / "config.toml"


def resolve(flags: Mapping[str, Any]) -> Resolved:
    """Return settings from flags, environment, file and defaults, in that order.

    Args:
        flags: what the user gave on the command line, by setting name.

    Raises:
        SettingsError: naming every wrong value, and where it came from.
    """
    path, file_values = _read_file(flags.get("config") or os.environ.get(f"{ENV_PREFIX}CONFIG"))
    variables = ((f.name, os.environ.get(f"{ENV_PREFIX}{f.name.upper()}")) for f in fields(Settings))
    env_values = {name: value for name, value in variables if value is not None}
    origins: dict[str, Origin] = {}
    for name in (f.name for f in fields(Settings)):
        origins[name] = (
            "flag" if name in flags
            else "environment" if name in env_values
            else "file" if name in file_values
            else "default"
        )  # fmt: skip
    values = {**file_values, **env_values, **flags}
    settings = _validate(values, lambda name: _place_of(name, origins[name], path))
    return Resolved(settings=settings, origins=origins, file=path)


def _read_file(named: str | None) -> tuple[Path | None, dict[str, Any]]:
    import tomllib

    path = Path(named) if named else default_config_path()
    try:
        if not named and not _is_there(path):
            return None, {}
        path = path.expanduser()
        # utf-8-sig: Windows editors write a byte order mark
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, RuntimeError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise SettingsError(f"cannot read the settings file {path}: {e}") from e
    known = {f.name for f in fields(Settings)} - {"config"}
    if unknown := sorted(set(values) - known):
        keys = ", ".join(unknown)
        raise SettingsError(f"{path}: unknown setting {keys}; `clipmod config show` lists them all")
    return path, values


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:  # another user's home folder, for example in a container
        return False


def _split(name: str, value: Any) -> Any:
    """Split a text for a setting with several values; return anything else unchanged."""
    if not isinstance(value, str) or "tuple" not in str(Settings.__annotations__[name]):
        return value
    return tuple(part.strip() for part in value.split(option_of(name).between) if part.strip())


def _place_of(name: str, origin: Origin, path: Path | None) -> str:
    """Return the flag, variable or key that sets this."""
    if origin == "environment":
        return f"{ENV_PREFIX}{name.upper()}"
    return f"{path}: {name}" if origin == "file" else flag_of(name)


def _validate(values: Mapping[str, Any], place: Callable[[str], str]) -> Settings:
    from pydantic import TypeAdapter, ValidationError

    try:
        settings = TypeAdapter(Settings).validate_python({n: _split(n, v) for n, v in values.items()})
    except ValidationError as e:
        raise SettingsError("\n".join(_fault(err, place) for err in e.errors())) from None
    if faults := list(_faults(settings, place)):
        raise SettingsError("\n".join(faults))
    return settings


def _fault(error: Any, place: Callable[[str], str]) -> str:
    name = str(error["loc"][0])
    if option_of(name).group == "secret":
        return f"{place(name)}: {error['msg']}"
    expected = error.get("ctx", {}).get("expected", "").replace("'", "")
    wanted = _WANTED.get(error["type"]) or expected or error["msg"]
    return f"{place(name)} must be {wanted}, not {error['input']!r}"


_WANTED: Final = {
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
}
"""By pydantic's kind of error; `literal_error` brings its own list."""


_RANGES: Final[tuple[tuple[str, Callable[[float], bool], tuple[str, ...]], ...]] = (
    ("is below 0", lambda value: value >= 0, ("max_depth", "limit", "retention", "retries", "cache_mb")),
    ("is below 1", lambda value: value >= 1, ("concurrency", "per_host")),
    ("is not within 0..1", lambda value: 0 <= value <= 1, ("threshold",)),
    ("is not a port (0..65535)", lambda value: 0 <= value < 65536, ("port",)),
    ("is not a number of seconds", lambda value: 0 <= value < float("inf"), ("grace",)),
    (
        "is not a number above 0",
        lambda value: 0 < value < float("inf"),
        (
            "timeout", "max_requests", "deadline", "max_image_mb", "max_video_mb", "max_multi_files",
            "max_multi_mb", "max_url_count", "max_stream_files", "max_stream_mb", "image_expiry_hours",
            "hosting_mb", "rate_limit",
        ),
    ),
)  # fmt: skip
"""A message, the condition that it is about, and the settings that have to meet it."""


def _faults(settings: Settings, place: Callable[[str], str]) -> Iterator[str]:
    """Yield messages for values that are out of range or contradict each other."""
    if settings.unsafe is not None and settings.classes is None:
        yield f"{place('unsafe')} names some of the --classes; give --classes too"
    if "safe" in settings.fail_on:
        yield f"{place('fail_on')} takes nsfw, review or error, not safe"
    for name in ("batch_size", "workers"):
        try:
            count_of(getattr(settings, name), place(name))
        except SettingsError as e:
            yield str(e)
    for message, is_met, names in _RANGES:
        for name in names:
            value = getattr(settings, name)
            if value is not None and not is_met(value):
                yield f"{place(name)} {value} {message}"


def count_of(text: str, flag: str) -> int | None:
    """Return a whole number from 1, or None for `auto`.

    Raises:
        SettingsError: for anything else.
    """
    if text == "auto":
        return None
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise SettingsError(f"{flag} {text!r} is neither auto nor a whole number from 1")
