"""Each setting has one value and one origin: flag, environment, file or default."""

from __future__ import annotations

import itertools
import json
import os
import re
import threading
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from clipmod_cli.errors import SettingsError
from clipmod_cli.settings.definition import ENV_PREFIX, Group, Origin, Settings, flag_of, option_of
from clipmod_cli.settings.file import default_config_path
from clipmod_cli.settings.reading import count_of, resolve
from tests.setting_values import FIELD_NAMES, sample_of, written

IN_FILE = [name for name in FIELD_NAMES if name != "config"]
"""The settings file cannot name itself."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder and an environment without any setting."""
    for name in FIELD_NAMES:
        monkeypatch.delenv(ENV_PREFIX + name.upper(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / "config"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def write_config(text: str | bytes, path: Path | None = None) -> Path:
    """Write the settings file, at its own place unless told where."""
    path = path or default_config_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("places", list(itertools.product([False, True], repeat=3)))
def test_flag_beats_environment_beats_file_beats_default(
    places: tuple[bool, bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    flag, environment, file = places
    if file:
        write_config("threshold = 0.3")
    if environment:
        monkeypatch.setenv("CLIPMOD_THRESHOLD", "0.2")
    resolved = resolve({"threshold": 0.1} if flag else {})
    order: list[tuple[bool, float | None, Origin]] = [
        (flag, 0.1, "flag"), (environment, 0.2, "environment"), (file, 0.3, "file"), (True, None, "default")
    ]  # fmt: skip
    expected = next((value, origin) for given, value, origin in order if given)
    assert (resolved.settings.threshold, resolved.origins["threshold"]) == expected
    assert resolved.named("threshold") == any(places)
    assert resolved.file == (default_config_path() if file else None)


@pytest.mark.parametrize("name", FIELD_NAMES)
def test_every_setting_is_an_environment_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "config":
        write_config("", Path(sample_of(name)).expanduser())
    monkeypatch.setenv(ENV_PREFIX + name.upper(), written(sample_of(name), option_of(name).between))
    resolved = resolve(needed_beside(name))
    assert getattr(resolved.settings, name) == sample_of(name)
    assert resolved.origins[name] == "environment"


@pytest.mark.parametrize("name", IN_FILE)
def test_every_setting_is_a_key_of_the_settings_file(name: str) -> None:
    value = sample_of(name)
    text = written(value, option_of(name).between)
    shown = text if isinstance(value, bool | int | float) else json.dumps(text)
    write_config(f"{name} = {shown}")
    resolved = resolve(needed_beside(name))
    assert getattr(resolved.settings, name) == value
    assert resolved.origins[name] == "file"


def needed_beside(name: str) -> dict[str, Any]:
    """Return the other flags without which a setting makes no sense."""
    return {"classes": "cat, dog"} if name == "unsafe" else {}


def test_without_anything_all_are_defaults() -> None:
    resolved = resolve({})
    assert resolved.settings == Settings()
    assert set(resolved.origins.values()) == {"default"}
    assert set(resolved.origins) == set(FIELD_NAMES)


@pytest.mark.parametrize(
    "name", ["config.toml", "clipmod.toml", ".clipmod.toml", ".env", "pyproject.toml", "clipmod/config.toml"]
)
def test_the_working_directory_is_not_obeyed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = tmp_path / "uploads"
    write_config('threshold = 1.0\nCLIPMOD_THRESHOLD="1.0"\n', uploads / name)
    monkeypatch.chdir(uploads)
    assert resolve({}).settings == Settings()


@pytest.mark.parametrize("by", ["flag", "environment"])
def test_a_named_file_is_read(by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config("threshold = 0.9")  # at the place that is not named
    path = write_config("threshold = 0.4", tmp_path / "mine.toml")
    monkeypatch.setenv("CLIPMOD_CONFIG", str(path if by == "environment" else tmp_path / "other.toml"))
    resolved = resolve({"config": str(path)} if by == "flag" else {})
    assert (resolved.settings.threshold, resolved.file) == (0.4, path)


def test_a_file_that_can_be_read_only_once_is_read(tmp_path: Path) -> None:
    """As `--config <(...)` of a shell gives."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(b"threshold = 0.4"), daemon=True)
    writer.start()
    assert resolve({"config": str(pipe)}).settings.threshold == 0.4
    writer.join()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_somebody_elses_home_has_no_settings_for_us(home: Path) -> None:
    write_config("threshold = 0.4")
    home.chmod(0)
    try:
        assert resolve({}).settings == Settings()
    finally:
        home.chmod(0o700)


def test_an_editors_byte_order_mark_is_no_fault() -> None:
    write_config(b"\xef\xbb\xbfthreshold = 0.4")
    assert resolve({}).settings.threshold == 0.4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("limit = 3\ntreshold = 0.5", 'config.toml:2: unknown setting treshold (did you mean "threshold"?)'),
        ("batch-size = 4", 'unknown setting batch-size (did you mean "batch_size"?)'),
        ("[scan]\nlimit = 3", "config.toml:1: unknown setting scan"),
        ("config = 'x.toml'", "unknown setting config"),
        ("threshold = ", "cannot read the settings file"),
        (b"policy = '\xff'", "cannot read the settings file"),
        ("threshold = 'much'", "config.toml:1: threshold"),
        ("# mine\n\nthreshold = 1.5", "config.toml:3: threshold"),
        ("policy = 'nsfw'\nsensitivity = 'extreme'", "config.toml:2: sensitivity"),
        ("limit = -1", "config.toml:1: limit"),
        ("workers = 0", "config.toml:1: workers"),
    ],
)
def test_a_wrong_file_is_told_by_its_name_and_key(text: str | bytes, said: str) -> None:
    path = write_config(text)
    with pytest.raises(SettingsError) as told:
        resolve({})
    assert said in str(told.value)
    assert str(path) in str(told.value)


@pytest.mark.parametrize("missing", ["nowhere.toml", "", "~nobody-of-this-name/clipmod.toml"])
def test_a_named_file_must_be_there(missing: str, tmp_path: Path) -> None:
    named = str(tmp_path / missing) if not missing.startswith("~") else missing
    with pytest.raises(SettingsError, match="cannot read the settings file") as raised:
        resolve({"config": named})
    assert "Errno" not in str(raised.value)


WRONG = [
    ("threshold", "much"), ("threshold", "-0.01"), ("threshold", "1.01"), ("threshold", "nan"),
    ("threshold", "inf"), ("sensitivity", "extreme"), ("decode", "slow"), ("only", "bad"),
    ("fail_on", "safe"), ("batch_size", "0"), ("batch_size", "-1"), ("batch_size", "1.5"),
    ("batch_size", "²"), ("workers", "many"), ("limit", "-1"), ("max_depth", "x"), ("retention", "-2"),
    ("offline", "perhaps"), ("concurrency", "0"), ("per_host", "0"), ("retries", "-1"), ("timeout", "0"),
    ("timeout", "nan"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_variable_is_told_by_its_name(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV_PREFIX + name.upper(), value)
    with pytest.raises(SettingsError, match=f"^CLIPMOD_{name.upper()}[: ].*{value}"):
        resolve({})


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_flag_is_told_by_its_name(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV_PREFIX + name.upper(), written(sample_of(name)))  # a good one changes nothing
    with pytest.raises(SettingsError, match=f"^{flag_of(name)}[: ].*{value}"):
        resolve({name: (value,) if isinstance(sample_of(name), tuple) else value})


def test_all_wrong_values_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    write_config("decode = 'slow'")
    monkeypatch.setenv("CLIPMOD_LIMIT", "few")
    with pytest.raises(SettingsError) as told:
        resolve({"sensitivity": "extreme"})
    lines = str(told.value).splitlines()
    assert len(lines) == 3
    for place in ("--sensitivity", "CLIPMOD_LIMIT", f"{default_config_path()}:1: decode"):
        assert any(line.startswith(f"{place} must be ") for line in lines), place


@pytest.mark.parametrize("bound", [0.0, 1.0])
def test_the_bounds_of_the_threshold_are_thresholds(bound: float) -> None:
    assert resolve({"threshold": bound}).settings.threshold == bound


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("limit", "x", "--limit must be a whole number, not 'x'"),
        ("threshold", "much", "--threshold must be a number, not 'much'"),
        ("sensitivity", "extreme", "--sensitivity must be low, medium, high or ultra, not 'extreme'"),
        ("follow", "perhaps", "--follow must be true or false, not 'perhaps'"),
        ("fail_on", ("bad",), "--fail-on must be nsfw, review, error or new-nsfw, not 'bad'"),
    ],
)
def test_a_wrong_value_is_told_with_what_is_right(name: str, value: Any, said: str) -> None:
    with pytest.raises(SettingsError, match=f"^{re.escape(said)}$"):
        resolve({name: value})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("*.jpg,*.png", ("*.jpg", "*.png")), (" a , b ", ("a", "b")), ("a,,b,", ("a", "b")), ("", ())],
)
def test_lists_are_separated_by_commas(
    text: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPMOD_INCLUDE", text)
    write_config(f"exclude = {text!r}")
    settings = resolve({}).settings
    assert settings.include == settings.exclude == expected


def test_a_list_of_the_file_or_of_flags_keeps_its_commas() -> None:
    write_config("include = ['a,b', 'c']")
    settings = resolve({"exclude": ["d,e"]}).settings
    assert (settings.include, settings.exclude) == (("a,b", "c"), ("d,e",))


def test_headers_are_separated_by_lines_for_their_values_hold_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPMOD_HEADER", "Accept: image/webp, image/*\n\n X-Token: a,b \n")
    assert resolve({}).settings.header == ("Accept: image/webp, image/*", "X-Token: a,b")
    monkeypatch.delenv("CLIPMOD_HEADER")
    write_config("header = 'Accept: image/webp, image/*'")
    assert resolve({}).settings.header == ("Accept: image/webp, image/*",)
    assert resolve({"header": ["A: b, c"]}).settings.header == ("A: b, c",)


def test_a_number_of_the_file_needs_no_quotes() -> None:
    write_config("batch_size = 16\nworkers = 'auto'")
    settings = resolve({}).settings
    assert (settings.batch_size, settings.workers) == ("16", "auto")


def test_counts() -> None:
    assert count_of("auto", "--workers") is None
    assert count_of("3", "--workers") == 3
    with pytest.raises(SettingsError, match=r"^--workers 'x' is neither"):
        count_of("x", "--workers")


def test_every_setting_has_help_a_group_and_a_flag_of_its_own() -> None:
    options = {name: option_of(name) for name in FIELD_NAMES}
    flags = [flag for name in FIELD_NAMES for flag in options[name].flags or (flag_of(name),)]
    assert len(flags) == len(set(flags))
    assert all(flag.startswith("-") for flag in flags)
    for name, option in options.items():
        assert option.help.strip(), name
        assert option.group in get_args(Group), name
        assert flag_of(name) == "--" + name.replace("_", "-"), name


def test_the_samples_of_these_tests_differ_from_the_defaults() -> None:
    assert set(get_type_hints(Settings)) == {f.name for f in fields(Settings)} == set(FIELD_NAMES)
    defaults = Settings()
    assert all(sample_of(name) != getattr(defaults, name) for name in FIELD_NAMES)
