"""`clipmod schema`: what a record looks like, for programs that read records."""

from __future__ import annotations

import json

import typer


def schema() -> None:
    """Print the JSON Schema of a record.

    Every line of an output is one such record, and so is what the HTTP interface answers.
    """
    from clipmod_cli.records import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))
