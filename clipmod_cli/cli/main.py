"""The `clipmod` command: registers the subcommands and turns errors into messages and exit codes.

Heavy modules are imported by the command that needs them, so `clipmod --help` stays fast.
"""

from __future__ import annotations

import copy
import errno
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.models import CommandInfo

from clipmod_cli import __version__
from clipmod_cli.cli.commands import (
    allow,
    bench,
    config,
    doctor,
    models,
    policies,
    scan,
    schema,
    serve,
    stats,
    urls,
)
from clipmod_cli.cli.commands.applying import apply
from clipmod_cli.cli.commands.evaluate import evaluate, tune
from clipmod_cli.cli.commands.parts import merge, parts
from clipmod_cli.cli.commands.results import dedupe, export, report, rescore
from clipmod_cli.cli.commands.results import list as list_command
from clipmod_cli.cli.commands.review import review
from clipmod_cli.cli.commands.teach import head
from clipmod_cli.cli.terminal.interrupt import raise_on_interrupt
from clipmod_cli.cli.terminal.progress import silence_libraries
from clipmod_cli.cli.terminal.stdout import drop_stdout, safe_streams, say
from clipmod_cli.cli.usage.faults import print_error, print_parser_error
from clipmod_cli.cli.usage.help import PlainGroup, RecordsGroup, use_plain_help
from clipmod_cli.errors import ClipmodError, ExitCode, OutputError

log = logging.getLogger(__name__)

ISSUES = "https://github.com/clipmod/clipmod/issues"
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

ORDER = (
    "scan", "urls", "parts", "merge", "serve",
    "list", "report", "review", "apply", "dedupe", "export", "stats",
    "allow", "deny", "policies", "eval", "tune", "rescore",
    "models", "doctor", "bench", "config", "schema",
)  # fmt: skip
"""Of the commands in help: judge, act on the results, correct and measure, look after the machine."""

WITH_OWN_SIGNALS = frozenset({"scan", "urls", "bench"})
"""Commands that import for a second, and then handle signals themselves; others end by an exception."""

EPILOG = """
\b
Examples:
  clipmod scan ./uploads                judge pictures and videos
  clipmod scan ./uploads -o out.jsonl   the same, records into a file
  clipmod models list                   the models, and which are here
  clipmod doctor                        what is missing, and what brings it
"""


class _Commands(PlainGroup):
    """Handles a closed stdout and a full disk, for which Typer would exit with 1, and hints at commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, in the order of help."""
        return sorted(super().list_commands(ctx), key=ORDER.index)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the subcommand; where an input is named instead, tell the command that judges it."""
        try:
            return super().resolve_command(ctx, args)
        except typer.TyperException as e:
            if "://" in args[0]:
                e.message += f" To judge a URL: echo {shlex.quote(args[0])} | clipmod urls -"
            elif os.path.lexists(args[0]):
                e.message += f" To judge it: clipmod scan {shlex.quote(args[0])}"
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as e:
            say("clipmod: stopped")
            raise typer.Exit(ExitCode.SIGINT) from e
        except BrokenPipeError as e:
            drop_stdout()
            raise typer.Exit(ExitCode.CLOSED_PIPE) from e
        except OSError as e:
            if e.errno not in NO_SPACE:
                raise
            drop_stdout()
            raise OutputError(f"cannot write: {e.strerror}") from e


app = typer.Typer(
    name="clipmod",
    cls=_Commands,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # rich would cost a third of the start-up time of --help
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.command(short_help="Judge pictures, videos, archives and folders.", epilog=scan.EXAMPLES)(scan.scan)
app.command(short_help="Download and judge the URLs of lists.", epilog=urls.EXAMPLES)(urls.urls)
app.command(short_help="Show which parts of a run are done.", epilog=parts.EXAMPLES)(parts.parts)
app.command(short_help="Write the records of all parts to one file.", epilog=merge.EXAMPLES)(merge.merge)
app.command(short_help="Judge over HTTP.", epilog=serve.EXAMPLES)(serve.serve)
app.command("list", short_help="Print the paths of what was found.", epilog=list_command.EXAMPLES)(
    list_command.list_records
)
app.command(short_help="Show what was found as one HTML page.", epilog=report.EXAMPLES)(report.report)
app.add_typer(
    apply.app,
    name="apply",
    short_help="Move, copy or delete what was found; undo it.",
    cls=RecordsGroup,
)
app.add_typer(review.app, name="review", short_help="Decide on what was found, in a page.", cls=RecordsGroup)
app.command(short_help="Write records as CSV, Parquet or JSON Lines.", epilog=export.EXAMPLES)(export.export)
app.command(short_help="Find copies and near copies.", epilog=dedupe.EXAMPLES)(dedupe.dedupe)
app.command(short_help="Make content Safe, by its hash.", epilog=allow.ALLOW_EXAMPLES)(allow.allow)
app.command(short_help="Make content NSFW, by its hash.", epilog=allow.DENY_EXAMPLES)(allow.deny)
app.command(short_help="Judge stored evidence by another policy.", epilog=rescore.EXAMPLES)(rescore.rescore)
app.add_typer(
    stats.app,
    name="stats",
    short_help="Show the statistics of all runs, or of outputs.",
    cls=RecordsGroup,
)
app.add_typer(models.app, name="models")
app.add_typer(policies.app, name="policies")
app.command(short_help="Measure the speed of this machine.", epilog=bench.EXAMPLES)(bench.bench)
app.command("eval", short_help="Measure decisions on labelled inputs.", epilog=evaluate.EXAMPLES)(
    evaluate.evaluate
)
tune.app.command(short_help="Learn a category of your own from labels.", epilog=head.EXAMPLES)(head.head)
app.add_typer(
    tune.app,
    name="tune",
    short_help="Find a threshold that keeps a promise, or learn a category.",
    cls=RecordsGroup,
)
app.command(short_help="Show what is installed, and the commands for what is missing.")(doctor.doctor)
app.command()(schema.schema)
app.add_typer(config.app, name="config")
use_plain_help(app)


def _print_version(value: bool) -> None:  # noqa: FBT001 — Typer's signature
    if value:
        typer.echo(f"clipmod {__version__}")
        raise typer.Exit


@app.callback()
def main(
    ctx: typer.Context,
    *,
    version: Annotated[  # noqa: ARG001 — its callback does the work
        bool,
        typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Judge pictures and videos with an ensemble of models, and write one JSON line for each."""
    if ctx.invoked_subcommand not in WITH_OWN_SIGNALS:
        raise_on_interrupt()


def run() -> None:
    """Run the command line and exit; the entry point of `clipmod`."""
    sys.argv = [sys.argv[0], *normalise(sys.argv[1:])]
    silence_libraries()
    with safe_streams():
        _run()


def _run() -> None:
    try:
        # not standalone: the parser would print its errors in a style of its own
        sys.exit(_named(sys.argv[1:])(prog_name="clipmod", standalone_mode=False) or ExitCode.OK)
    except typer.TyperException as e:
        print_parser_error(e)
        sys.exit(ExitCode.USAGE)
    except ClipmodError as e:
        print_error(str(e))
        log.debug("the command failed", exc_info=True)
        sys.exit(e.exit_code)
    except (KeyboardInterrupt, typer.Abort):  # Ctrl-C, also at a question
        sys.exit(ExitCode.SIGINT)
    except Exception as e:
        log.debug("unexpected exception", exc_info=True)
        say(
            f"clipmod: this is a bug: {type(e).__name__}: {e}\nPlease report it at {ISSUES} "
            "with the traceback that -v or --log-file shows"
        )
        sys.exit(ExitCode.BUG)


def _named(arguments: Sequence[str]) -> typer.Typer:
    """Return the application with the command that is named alone: to build all takes a tenth of a second."""
    first = next(iter(arguments), "")
    chosen = copy.copy(app)
    chosen.registered_commands = [one for one in app.registered_commands if _name_of(one) == first]
    chosen.registered_groups = [one for one in app.registered_groups if one.name == first]
    return chosen if chosen.registered_commands or chosen.registered_groups else app


def _name_of(command: CommandInfo) -> str:
    return command.name or str(getattr(command.callback, "__name__", ""))


def normalise(arguments: list[str]) -> list[str]:
    """Return the arguments with `--resume`, `--no-resume` and `--prune` as options with a value.

    The parser has no options with an optional value.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    values = {"--resume": "--resume=yes", "--no-resume": "--resume=no", "--prune": "--prune=yes"}
    return [values.get(argument, argument) for argument in arguments[:end]] + arguments[end:]
