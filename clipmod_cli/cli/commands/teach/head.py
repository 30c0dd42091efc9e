"""`clipmod tune head`: a category of one's own, learnt from labels on stored evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from clipmod_cli.cli.commands.evaluate.label_arguments import (
    AllowUnmatched,
    LabelColumn,
    LabelMap,
    Labels,
    Root,
)
from clipmod_cli.cli.usage.completion import complete_policy
from clipmod_cli.errors import UsageError

EXAMPLES: Final = """
\b
Examples:
  clipmod scan ./labelled --models ensemble -o out.jsonl --evidence EV
  clipmod tune head --labels ./labelled --evidence EV --category cat \\
    -o heads/cat.safetensors
  clipmod tune head --labels l.csv --evidence EV --category cat \\
    --policy ./mine.toml -o heads/cat.safetensors   compare with its prompts
"""

SUFFIX: Final = ".safetensors"


def _option(text: str, metavar: str | None, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, metavar=metavar, rich_help_panel="Head", **more)


def head(
    *,
    labels: Labels,
    evidence: Annotated[str, _option("The folder of `scan --evidence EV`.", "EV")],
    category: Annotated[str, _option("What is to be learnt: a category, and the label of it.", "NAME")],
    output: Annotated[str, _option("Write the head (.safetensors).", "FILE", "-o", "--output")],
    policy: Annotated[
        str | None,
        _option(
            "Whose categories the labels are, and whose prompts to compare with.",
            "POLICY",
            autocompletion=complete_policy,
        ),
    ] = None,
    label_map: LabelMap = None,
    label_column: LabelColumn = "label",
    root: Root = None,
    allow_unmatched: AllowUnmatched = False,
    overwrite: Annotated[bool, _option("Replace a head of this name.", None, "--overwrite")] = False,
) -> None:
    """Learn a category of your own from labels: a head, which a policy has in place of prompts.

    It needs 30 labelled inputs that are of the category, and 20 that are not. Without --policy each other
    label counts as another class. It is for the text-image models whose evidence EV is, and for no others.
    """
    from clipmod_cli.cli.output_paths import check_result_path
    from clipmod_cli.evaluate.joining import LabelOptions
    from clipmod_cli.install import require_extra

    require_extra("eval", "learning")
    path = Path(output).expanduser()
    if path.suffix != SUFFIX:
        raise UsageError(f"-o {output}: a head's name must end in {SUFFIX}")
    check_result_path(path, labels, overwrite=overwrite)
    # late: it knows the models
    from clipmod_cli.cli.commands.teach.teaching import HeadCall

    HeadCall(
        evidence=Path(evidence).expanduser(),
        category=category,
        output=path,
        policy=policy,
        labels=LabelOptions(
            names=labels,
            label_map=label_map,
            column=label_column,
            root=root,
            allow_unmatched=allow_unmatched,
        ),
    ).run()
