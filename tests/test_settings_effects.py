"""Settings without effect: faults on the command line; elsewhere the stronger place wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clipmod_cli.errors import SettingsError
from clipmod_cli.settings.definition import ENV_PREFIX, Settings, flag_of
from clipmod_cli.settings.effects import EXCLUSIONS, NEEDS, Exclusion
from clipmod_cli.settings.reading import resolve
from tests.setting_values import FIELD_NAMES, sample_of, written


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings file of an empty home; there is no variable of a setting."""
    for name in FIELD_NAMES:
        monkeypatch.delenv(ENV_PREFIX + name.upper(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("CLIPMOD_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").touch()
    return tmp_path / "config.toml"


def values_of(pair: Exclusion) -> dict[str, Any]:
    """Return values of both settings that exclude each other."""
    one = pair.values[0] if pair.values else sample_of(pair.one)
    return {pair.one: one, pair.other: sample_of(pair.other)}


def needed(*names: str) -> dict[str, Any]:
    """Return what these settings need besides."""
    wanted = {"unsafe": ("classes", "cat, dog")}
    wanted |= dict.fromkeys(("overwrite", "resume", "prune", "retry"), ("output", "o"))
    return dict(wanted[name] for name in names if name in wanted)


@pytest.mark.parametrize("pair", EXCLUSIONS, ids=str)
def test_flags_that_exclude_each_other_are_a_fault(pair: Exclusion) -> None:
    with pytest.raises(SettingsError) as told:
        resolve({**values_of(pair), **needed(pair.one, pair.other)})
    assert str(told.value).startswith(f"{flag_of(pair.one)} has no effect beside {flag_of(pair.other)}: ")


@pytest.mark.parametrize("pair", EXCLUSIONS, ids=str)
@pytest.mark.parametrize("stronger", ["one", "other"])
def test_a_flag_beats_the_variable_that_it_excludes(
    pair: Exclusion, stronger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag, variable = (pair.one, pair.other) if stronger == "one" else (pair.other, pair.one)
    values = values_of(pair)
    monkeypatch.setenv(ENV_PREFIX + variable.upper(), written(values[variable]))
    resolved = resolve({flag: values[flag], **needed(flag)})
    assert resolved.origins[flag] == "flag"
    assert getattr(resolved.settings, flag)
    assert getattr(resolved.settings, variable) == getattr(Settings(), variable)
    assert resolved.origins[variable] == "default"


def test_a_variable_beats_the_file_and_a_file_may_not_contradict_itself(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("threshold = 0.3\n")
    monkeypatch.setenv("CLIPMOD_SENSITIVITY", "high")
    settings = resolve({}).settings
    assert (settings.sensitivity, settings.threshold) == ("high", None)
    monkeypatch.delenv("CLIPMOD_SENSITIVITY")
    file.write_text("threshold = 0.3\nsensitivity = 'high'\n")
    with pytest.raises(
        SettingsError, match=r"config.toml:2: sensitivity has no effect beside .*:1: threshold"
    ):
        resolve({})


@pytest.mark.parametrize(
    ("name", "others"),
    [("unsafe", {}), ("overwrite", {}), ("resume", {}), ("overwrite", {"output": "-"}),
     ("retention", {"no_db": True, "no_cache": True})],
)  # fmt: skip
def test_a_flag_without_what_it_needs_is_a_fault(
    name: str, others: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert name in {need.name for need in NEEDS}
    with pytest.raises(SettingsError, match=f"^{flag_of(name)} has no effect without "):
        resolve({name: sample_of(name), **others})
    monkeypatch.setenv(ENV_PREFIX + name.upper(), written(sample_of(name)))
    resolve(others)  # of another command, perhaps


def test_a_flag_beside_what_it_needs_is_none() -> None:
    assert resolve({"unsafe": "cat", "classes": "cat, dog"}).settings.unsafe == "cat"
    assert resolve({"overwrite": True, "output": "o.jsonl"}).settings.overwrite
    assert resolve({"overwrite": True, "resume": "no", "output": "o.jsonl"}).settings.overwrite
    assert resolve({"progress": "none", "quiet": True}).settings.quiet
    assert resolve({"retention": 3, "no_db": True}).settings.retention == 3


def test_denied_options_exclude_nothing() -> None:
    settings = resolve({"quiet": False, "verbose": True, "db": "x.db"}).settings
    assert (settings.quiet, settings.verbose, settings.db) == (False, True, "x.db")


def test_a_misspelt_variable_is_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPMOD_TRESHOLD", "0.9")
    monkeypatch.setenv("CLIPMOD_SERVICE_HOST", "10.0.0.1")  # of Kubernetes
    monkeypatch.setenv("CLIPMOD_PORT_8000_TCP", "tcp://10.0.0.1:8000")
    assert resolve({}).warnings == (
        'the variable CLIPMOD_TRESHOLD is no setting and has no effect (did you mean "CLIPMOD_THRESHOLD"?)',
    )


@pytest.mark.parametrize("pair", EXCLUSIONS, ids=str)
def test_the_documentation_lists_what_excludes_each_other(pair: Exclusion) -> None:
    page = (Path(__file__).parent.parent / "docs" / "settings.md").read_text(encoding="utf-8")
    assert any(
        line.startswith(f"| `{flag_of(pair.one)}`") and f"`{flag_of(pair.other)}`: {pair.why} |" in line
        for line in page.splitlines()
    )
