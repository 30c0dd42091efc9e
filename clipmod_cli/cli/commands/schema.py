"""`clipmod schema`: what a record looks like, for programs that read records."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer


def schema(
    *,
    record: Annotated[
        Literal["full", "compact"],
        typer.Option("--record", help="of the records of this form, as --record of scan"),
    ] = "full",
) -> None:
    """Print the JSON Schema of a record.

    Every line of an output is one such record, and so is what the HTTP interface answers.
    """
    from clipmod_cli.output.compact import compact_json_schema
    from clipmod_cli.records import json_schema

    typer.echo(json.dumps(json_schema() if record == "full" else compact_json_schema(), indent=2))
