"""Each setting is an option; a command gets what was given, and nothing that was not."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated, Any, get_args

import pytest
import typer
from typer.testing import CliRunner, Result

from clipmod_cli.cli.options import Flags, with_settings
from clipmod_cli.settings.definition import Group, Settings, flag_of, option_of
from tests.setting_values import FIELD_NAMES, sample_of, written

OPTIONS = [name for name in FIELD_NAMES if option_of(name).group != "secret"]
BOOLEANS = [name for name in OPTIONS if isinstance(getattr(Settings(), name), bool)]


def run_command(*words: str, groups: tuple[Group, ...] = get_args(Group)) -> tuple[Result, dict[str, Any]]:
    """Run a command that has the settings of these groups; return what it was given."""
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    seen: dict[str, Any] = {}

    @app.command()
    @with_settings(*groups, without=frozenset({"log_file"}) if len(groups) == 1 else frozenset())
    def command(names: Annotated[list[str] | None, typer.Argument()] = None, *, flags: Flags) -> None:
        seen.update(flags=flags, names=names)

    return CliRunner().invoke(app, words), seen


def given_as_flag(name: str, value: Any) -> list[str]:
    """Return the words that give a setting this value."""
    if isinstance(value, bool):
        return [flag_of(name) if value else flag_of(name).replace("--", "--no-", 1)]
    values = value if isinstance(value, tuple) else (value,)
    return [word for one in values for word in (flag_of(name), written(one))]


def test_a_secret_is_no_option() -> None:
    result, _ = run_command("--api-keys", "abc")
    assert result.exit_code == 2


@pytest.mark.parametrize("name", OPTIONS)
def test_every_other_setting_is_an_option(name: str) -> None:
    value = sample_of(name)
    result, seen = run_command(*given_as_flag(name, value))
    assert result.exit_code == 0, result.output
    as_text = (
        list(value) if isinstance(value, tuple) else value if isinstance(value, bool) else written(value)
    )
    assert seen["flags"] == {name: as_text}


def test_only_what_was_given_arrives() -> None:
    result, seen = run_command("a.jpg", "b.jpg")
    assert result.exit_code == 0
    assert seen == {"flags": {}, "names": ["a.jpg", "b.jpg"]}


@pytest.mark.parametrize(
    ("words", "flags"),
    [
        (["--threshold", "0"], {"threshold": "0"}),
        (["--limit", "0"], {"limit": "0"}),
        (["--output", ""], {"output": ""}),
        (["--include", ""], {"include": [""]}),
        (["-o", "out.jsonl", "-q", "-0", "-n"],
         {"output": "out.jsonl", "quiet": True, "null": True, "dry_run": True}),
    ],
)  # fmt: skip
def test_a_value_that_counts_as_false_arrives_too(words: list[str], flags: dict[str, Any]) -> None:
    assert run_command(*words)[1]["flags"] == flags


@pytest.mark.parametrize("name", BOOLEANS)
def test_a_boolean_can_be_denied(name: str) -> None:
    denial = "--no-" + name.replace("_", "-")
    result, seen = run_command(denial)
    if name.startswith("no_"):
        assert result.exit_code == 2, "nobody denies a denial"
    else:
        assert seen["flags"] == {name: False}
        assert run_command(flag_of(name))[1]["flags"] == {name: True}


def test_a_command_has_the_groups_that_it_names_and_no_other() -> None:
    result, _ = run_command("--help", groups=("talk",))
    offered = {name for name in FIELD_NAMES if f"{flag_of(name)} " in result.output.replace("/", " ")}
    assert offered == {name for name in FIELD_NAMES if option_of(name).group == "talk"} - {"log_file"}


def test_help_has_each_settings_sentence_and_default() -> None:
    text = " ".join(run_command("--help-all")[0].output.split())
    for name in OPTIONS:
        assert " ".join(option_of(name).help.split())[:40] in text, name
    assert "[64]" in text
    assert "[on]" in text
    assert "[auto]" in text
    assert "[nsfw]" in text
    assert "None" not in text


def test_options_bring_nothing_heavy() -> None:
    heavy = {"pydantic", "duckdb", "numpy", "torch", "PIL", "rich", "platformdirs"}
    code = f"import sys, clipmod_cli.cli.options; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
