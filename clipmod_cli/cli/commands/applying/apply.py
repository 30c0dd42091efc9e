"""`clipmod apply`: move, copy or delete what was found, with a way back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from clipmod_cli.cli.usage.help import RecordsGroup
from clipmod_cli.errors import UsageError

if TYPE_CHECKING:
    from clipmod_cli.output.moves import MoveAction

EXAMPLES: Final = """
\b
Examples:
  clipmod apply out.jsonl --nsfw --move quarantine         what would be moved
  clipmod apply out.jsonl --nsfw --move quarantine --yes   move it
  clipmod apply decisions.jsonl out.jsonl --label unsafe --delete --yes
  clipmod apply undo quarantine/manifest.jsonl             give all back
"""

FILES: Final = "Which files"
WHAT: Final = "What to do"

app = typer.Typer(
    cls=RecordsGroup,
    invoke_without_command=True,
    subcommand_metavar="RECORDS... | undo MANIFEST",
    help="Move, copy or delete the files of RECORDS: outputs of `scan`, or decisions of `clipmod review`.\n\n"
    "Without --yes it is a dry run. A file that has changed since it was judged is left, none is ever "
    "replaced, and `clipmod apply undo` gives all back.",
    epilog=EXAMPLES,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for each file.")]


@app.callback()
def apply(
    *,
    context: typer.Context,
    nsfw: Annotated[
        bool, typer.Option("--nsfw", help="What was judged NSFW.", rich_help_panel=FILES)
    ] = False,
    review: Annotated[
        bool, typer.Option("--review", help="What needs review.", rich_help_panel=FILES)
    ] = False,
    safe: Annotated[
        bool, typer.Option("--safe", help="What was judged Safe.", rich_help_panel=FILES)
    ] = False,
    error: Annotated[
        bool, typer.Option("--error", help="What could not be judged.", rich_help_panel=FILES)
    ] = False,
    new: Annotated[
        bool,
        typer.Option(
            "--new", help="Only what the last run found and was not known before.", rich_help_panel=FILES
        ),
    ] = False,
    label: Annotated[
        Literal["unsafe", "safe", "unsure"] | None,
        typer.Option(
            "--label",
            help="What people decided to be so, in the decisions among RECORDS.",
            rich_help_panel=FILES,
        ),
    ] = None,
    move: Annotated[
        Path | None,
        typer.Option(
            "--move", metavar="DIR", help="Move into DIR.", rich_help_panel=WHAT, show_default=False
        ),
    ] = None,
    copy: Annotated[
        Path | None,
        typer.Option(
            "--copy", metavar="DIR", help="Copy into DIR.", rich_help_panel=WHAT, show_default=False
        ),
    ] = None,
    delete: Annotated[
        bool,
        typer.Option(
            "--delete",
            help="Move into .RECORDS.deleted beside RECORDS, and purge what was deleted 30 days ago.",
            rich_help_panel=WHAT,
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else only say what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Move, copy or delete the files of records."""
    if context.invoked_subcommand is not None:
        return
    from clipmod_cli.cli.commands.applying.inputs import ApplyRequest
    from clipmod_cli.cli.commands.applying.running import run_apply

    kinds = {"nsfw": nsfw, "review": review, "safe": safe, "error": error}
    folders: dict[MoveAction, Path | None] = {
        "move": move,
        "copy": copy,
        "delete": Path() if delete else None,
    }
    actions = [(action, folder) for action, folder in folders.items() if folder is not None]
    if not context.args:
        raise UsageError("name outputs of `clipmod scan`, or decisions of `clipmod review`, to act on")
    if len(actions) != 1:
        raise UsageError("give one of --move DIR, --copy DIR and --delete")
    ((action, folder),) = actions
    request = ApplyRequest(
        names=context.args,
        kinds=frozenset(kind for kind, wanted in kinds.items() if wanted),
        label=label,
        new=new,
        action=action,
        folder=None if delete else folder,
        yes=yes,
        as_json=as_json,
    )
    raise typer.Exit(run_apply(request))


@app.command()
def undo(
    *,
    manifest: Annotated[
        Path, typer.Argument(metavar="MANIFEST", help="DIR/manifest.jsonl of an `apply`.", show_default=False)
    ],
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH",
            help="Only these files and folders, by where they were or where they are now.",
            show_default=False,
        ),
    ] = None,
    last: Annotated[bool, typer.Option("--last", help="Only what the last `apply` did.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give back what was moved or deleted, and remove what was copied. Nothing is replaced.

    It also works after an `apply` that was killed. What cannot be given back is named with the reason.
    """
    from clipmod_cli.cli.commands.applying.undoing import run_undo

    raise typer.Exit(run_undo(manifest, paths or [], last=last, as_json=as_json))
