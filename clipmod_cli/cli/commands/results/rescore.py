"""`clipmod rescore`: judge stored evidence by another policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clipmod_cli.cli.options import Flags, with_settings
from clipmod_cli.errors import UsageError

EXAMPLES = """
\b
Examples:
  clipmod scan ./photos -o out.jsonl --evidence EV        store what they saw
  clipmod rescore EV --policy mine.toml -o new.jsonl      by another policy
  clipmod rescore EV --threshold 0.3 --against out.jsonl  what would change
"""

_RELEVANT = frozenset(
    {"policy", "sensitivity", "threshold", "allow_partial", "bank", "offline", "output", "overwrite", "only"}
    | {"fail_on", "frames_detail", "json", "quiet", "verbose", "log_file", "config"}
)


@with_settings("judging", "output", "machine", "talk", only=_RELEVANT)
def rescore(
    folder: Annotated[Path, typer.Argument(metavar="EV", help="the folder of `scan --evidence EV`")],
    *,
    against: Annotated[
        Path | None,
        typer.Option(metavar="RECORDS", help="compare with these records", rich_help_panel="Output"),
    ] = None,
    show: Annotated[
        int, typer.Option(metavar="N", help="changed inputs to list", rich_help_panel="Output", min=0)
    ] = 50,
    flags: Flags,
) -> None:
    """Judge stored evidence by another policy or threshold, without reading a picture."""
    from clipmod_cli.cli.commands.results.rescoring import rescore_folder
    from clipmod_cli.cli.terminal.logs import resolve_settings
    from clipmod_cli.output.reading.files import refuse_parts

    if against is not None:
        refuse_parts(str(against))
        if not against.is_file():
            raise UsageError(f"--against: there is no file {against}")
    inputs = [str(path) for path in (folder, against) if path is not None]
    raise typer.Exit(rescore_folder(resolve_settings(flags, inputs), folder, against, show))
