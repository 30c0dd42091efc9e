"""One definition of every setting: its flag, variable, key in the settings file, and default.

A setting is a field of `Settings`. The command line builds its options from these
fields (`clipmod_cli.cli.options`), the environment reads `CLIPMOD_<NAME>`, the settings
file has a key of the field's name. Order: flag, environment, file, default. Nothing is
read from the working directory. This module is imported by `clipmod --help`, so it
imports pydantic only when settings are resolved.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_type_hints

from clipmod_cli.errors import SettingsError

ENV_PREFIX = "CLIPMOD_"
Origin: TypeAlias = Literal["flag", "environment", "file", "default"]
Group: TypeAlias = Literal["judging", "machine", "store", "talk", "output", "sources", "urls"]
Wanted: TypeAlias = Literal["nsfw", "review", "safe", "error"]


@dataclass(frozen=True, slots=True)
class Option:
    """How a setting looks on the command line.

    Attributes:
        help: one sentence; the default is appended by the command line.
        flags: its option names; derived from the field's name when empty.
        metavar: what stands for the value in help.
    """

    help: str
    group: Group
    flags: tuple[str, ...] = ()
    metavar: str | None = None


def _setting(default: Any, group: Group, text: str, *flags: str, metavar: str | None = None) -> Any:
    return field(default=default, metadata={"option": Option(text, group, flags, metavar)})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Every setting with its resolved value."""

    models: tuple[str, ...] = _setting(
        ("auto",), "judging", "auto, ensemble, fallback, nudenet, or model specs with weights; repeatable",
        metavar="SPEC",
    )  # fmt: skip
    policy: str = _setting(
        "female-presence", "judging", "a built-in policy or a TOML file", metavar="NAME|FILE"
    )
    classes: str | None = _setting(
        None, "judging", "judge over these words instead of a policy", metavar="WORDS"
    )
    unsafe: str | None = _setting(
        None, "judging", "which of the --classes are UNSAFE", metavar="WORDS"
    )  # fmt: skip
    sensitivity: Literal["low", "medium", "high", "ultra"] = _setting(
        "medium", "judging", "which of the policy's NSFW thresholds holds"
    )
    threshold: float | None = _setting(
        None, "judging", "the NSFW threshold itself, 0..1, in place of the sensitivity's", metavar="X"
    )
    allow_partial: bool = _setting(
        False, "judging", "let a model judge a policy that it cannot wholly see (always needs review)"
    )  # fmt: skip
    decode: Literal["fast", "exact"] = _setting(
        "fast", "judging", "scaled decoding, or each model's own transform to the bit"
    )
    frames: str = _setting(
        "key", "judging", "which frames of an animation are scored", metavar="key|fps=N|dense|max=N"
    )
    frames_detail: bool = _setting(False, "output", "write the scores of every frame into the record")

    device: str = _setting("auto", "machine", "where models run", metavar="auto|cpu|cuda[:N]|mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = _setting(
        "auto", "machine", "in what precision models run"
    )
    batch_size: str = _setting("auto", "machine", "pictures in one forward pass", metavar="N|auto")
    workers: str = _setting("auto", "machine", "decoding workers", metavar="N|auto")
    isolate: bool = _setting(
        True, "machine", "decode in worker processes: a decoder that crashes or hangs costs one input"
    )
    offline: bool = _setting(False, "machine", "never touch the network for weights")

    db: str | None = _setting(
        None, "store", "the DuckDB store (default: in the user data folder)", metavar="FILE"
    )
    no_db: bool = _setting(False, "store", "keep no statistics")
    retention: int | None = _setting(None, "store", "let rows older than this go", metavar="DAYS")

    config: str | None = _setting(
        None, "talk", "the settings file (default: in the user config folder)", metavar="FILE"
    )
    quiet: bool = _setting(False, "talk", "say only errors", "-q", "--quiet")
    verbose: bool = _setting(False, "talk", "say more, tracebacks among it", "-v", "--verbose")
    progress: Literal["auto", "plain", "json", "none"] = _setting(
        "auto", "talk", "how progress is shown on stderr"
    )
    log_file: str | None = _setting(None, "talk", "write a full log here", metavar="FILE")
    json: bool = _setting(False, "talk", "JSON Lines on stdout even on a terminal")

    output: str | None = _setting(
        None, "output", "write records here; - is stdout", "-o", "--output", metavar="FILE"
    )
    overwrite: bool = _setting(False, "output", "begin the output anew")
    resume: Literal["yes", "no", "verify"] = _setting(
        "yes", "output",
        "go on where an existing output ends; --resume=verify hashes again what is there; "
        "--no-resume refuses an existing output",
        metavar="[=verify]",
    )  # fmt: skip
    only: tuple[Wanted, ...] = _setting(
        (), "output", "show only these on stdout: nsfw, review, safe, error; repeatable", metavar="KIND"
    )
    fail_on: tuple[Wanted, ...] = _setting(
        (), "output", "exit 1 if something of this kind was found: nsfw, review, error", metavar="KIND"
    )
    errors_to: str | None = _setting(
        None, "output", "write the failed inputs here, one a line, ready for --files-from", metavar="FILE"
    )

    files_from: str | None = _setting(
        None, "sources", "read a list of paths from this file; - is stdin", metavar="FILE"
    )
    null: bool = _setting(False, "sources", "lists are separated by NUL bytes (find -print0)", "-0", "--null")
    include: tuple[str, ...] = _setting(
        (), "sources", "only files in folders that match (gitignore syntax); repeatable", metavar="GLOB"
    )
    exclude: tuple[str, ...] = _setting(
        (), "sources", "no files or folders that match (gitignore syntax); repeatable", metavar="GLOB"
    )
    max_depth: int | None = _setting(
        None, "sources", "how deep to walk; 1 is a folder's own files", metavar="N"
    )
    hidden: bool = _setting(False, "sources", "walk hidden files and folders too")
    follow: bool = _setting(False, "sources", "follow links found in folders")
    limit: int | None = _setting(None, "sources", "stop after this many inputs", metavar="N")
    dry_run: bool = _setting(
        False, "sources", "count what would be judged, by format, and stop", "-n", "--dry-run"
    )

    url_column: str = _setting("url", "urls", "the column of a table that holds the URLs", metavar="NAME")
    concurrency: int = _setting(64, "urls", "downloads at once", metavar="N")
    per_host: int = _setting(4, "urls", "downloads at once from one host", metavar="N")
    timeout: float = _setting(30.0, "urls", "how long one download may take, in seconds", metavar="S")
    retries: int = _setting(2, "urls", "tries after a 429, a 5xx or no connection", metavar="N")
    allow_private: bool = _setting(False, "urls", "ask private and loopback addresses too, on any port")
    allow_ports: str | None = _setting(
        None, "urls", "ask these ports besides 80 and 443, as 8080,8443", metavar="LIST"
    )
    header: tuple[str, ...] = _setting(
        (), "urls", "send 'Name: value' to the URLs' own hosts, not to redirects elsewhere; repeatable",
        metavar="HEADER",
    )  # fmt: skip
    save_to: str | None = _setting(
        None, "urls", "keep what was downloaded in this folder, named by its SHA-256", metavar="DIR"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """Settings with where each value came from."""

    settings: Settings
    origins: Mapping[str, Origin]
    file: Path | None

    def named(self, name: str) -> bool:
        """Return whether the user set this, rather than the default."""
        return self.origins[name] != "default"


def default_config_path() -> Path:
    """Return where the settings file is looked for when none is named."""
    from platformdirs import user_config_path

    return user_config_path("clipmod", appauthor=False) / "config.toml"


def option_of(name: str) -> Option:
    """Return how the setting of this name looks on the command line."""
    found: Option = next(f.metadata["option"] for f in fields(Settings) if f.name == name)
    return found


def flag_of(name: str) -> str:
    """Return the long option of a setting, as `--batch-size`."""
    flags = option_of(name).flags
    return flags[-1] if flags else "--" + name.replace("_", "-")


def resolve(flags: Mapping[str, Any]) -> Resolved:
    """Return settings from flags, environment, file and defaults, in that order.

    Args:
        flags: what the user gave on the command line, by setting name.

    Raises:
        SettingsError: naming every wrong value, and where it came from.
    """
    from pydantic_settings import EnvSettingsSource

    path, file_values = _read_file(flags.get("config") or os.environ.get(f"{ENV_PREFIX}CONFIG"))
    schema = _schema(file_values)
    env_values = EnvSettingsSource(schema)()
    origins: dict[str, Origin] = {}
    for name in (f.name for f in fields(Settings)):
        origins[name] = (
            "flag" if name in flags
            else "environment" if name in env_values
            else "file" if name in file_values
            else "default"
        )  # fmt: skip
    settings = _validate(schema, flags, lambda name: _place_of(name, origins[name], path))
    return Resolved(settings=settings, origins=origins, file=path)


def _read_file(named: str | None) -> tuple[Path | None, dict[str, Any]]:
    import tomllib

    path = Path(named) if named else default_config_path()
    try:
        if not named and not _is_there(path):
            return None, {}
        path = path.expanduser()
        # utf-8-sig: Windows editors put a mark before the text
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
    except PermissionError:  # somebody else's home folder, as in a container run under another user
        return False


def _schema(file_values: Mapping[str, Any]) -> Any:
    """Return the pydantic-settings class with the fields of `Settings` and these values of the file."""
    from typing import Annotated

    from pydantic import BeforeValidator, create_model
    from pydantic_settings import (
        BaseSettings,
        InitSettingsSource,
        PydanticBaseSettingsSource,
        SettingsConfigDict,
    )

    class Base(BaseSettings):
        model_config = SettingsConfigDict(
            env_prefix=ENV_PREFIX,
            enable_decoding=False,
            extra="forbid",
            coerce_numbers_to_str=True,  # `workers = 4` in the file
        )

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 — the signature is the library's
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            # The values, not the file: `--config <(...)` can be read but once.
            return init_settings, env_settings, InitSettingsSource(settings_cls, dict(file_values))

    def split(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return tuple(part.strip() for part in value.split(",") if part.strip())

    hints = get_type_hints(Settings)
    lists = {
        name: Annotated[hint, BeforeValidator(split)] for name, hint in hints.items() if "tuple" in str(hint)
    }
    columns: dict[str, Any] = {f.name: ({**hints, **lists}[f.name], f.default) for f in fields(Settings)}
    with warnings.catch_warnings():
        # `json` is the promised name, and pydantic's own long-deprecated method of that name is not used.
        warnings.filterwarnings("ignore", message='Field name "json"')
        return create_model("SettingsSchema", __base__=Base, **columns)


def _place_of(name: str, origin: Origin, path: Path | None) -> str:
    """Return what a person has to change for this setting: a flag, a variable or a key."""
    if origin == "environment":
        return f"{ENV_PREFIX}{name.upper()}"
    return f"{path}: {name}" if origin == "file" else flag_of(name)


def _validate(schema: Any, flags: Mapping[str, Any], place: Callable[[str], str]) -> Settings:
    from pydantic import ValidationError

    try:
        checked = schema(**flags)
    except ValidationError as e:
        lines = [f"{place(str(err['loc'][0]))}: {err['msg']} (got {err['input']!r})" for err in e.errors()]
        raise SettingsError("\n".join(lines)) from None
    settings = Settings(**{f.name: getattr(checked, f.name) for f in fields(Settings)})
    if faults := list(_faults(settings, place)):
        raise SettingsError("\n".join(faults))
    return settings


def _faults(settings: Settings, place: Callable[[str], str]) -> Iterator[str]:
    """Yield what is wrong with values that each are well-formed but make no sense."""
    if settings.threshold is not None and not 0 <= settings.threshold <= 1:
        yield f"{place('threshold')} {settings.threshold} is not within 0..1"
    if settings.unsafe is not None and settings.classes is None:
        yield f"{place('unsafe')} names some of the --classes; give --classes too"
    if "safe" in settings.fail_on:
        yield f"{place('fail_on')} takes nsfw, review or error, not safe"
    for name in ("batch_size", "workers"):
        try:
            count_of(getattr(settings, name), place(name), default=1)
        except SettingsError as e:
            yield str(e)
    yield from _url_faults(settings, place)
    for name in ("max_depth", "limit", "retention", "retries"):
        value = getattr(settings, name)
        if value is not None and value < 0:
            yield f"{place(name)} {value} is below 0"


def _url_faults(settings: Settings, place: Callable[[str], str]) -> Iterator[str]:
    for name in ("concurrency", "per_host"):
        if getattr(settings, name) < 1:
            yield f"{place(name)} {getattr(settings, name)} is below 1"
    if not 0 < settings.timeout < float("inf"):
        yield f"{place('timeout')} {settings.timeout} is not a number of seconds above 0"


def count_of(text: str, flag: str, *, default: int) -> int:
    """Return a whole number from 1, or `default` for `auto`.

    Raises:
        SettingsError: for anything else.
    """
    if text == "auto":
        return default
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise SettingsError(f"{flag} {text!r} is neither auto nor a whole number from 1")
