"""The columns of a record in DuckDB, Parquet and CSV, derived from the class that defines it.

Types are DuckDB's. Nothing here reads or writes a file.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from datetime import datetime
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

SCALARS = {str: "VARCHAR", bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE", datetime: "TIMESTAMP"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its DuckDB type, and what its values mean."""

    name: str
    type: str
    description: str


def columns_of(model: type[BaseModel]) -> tuple[Column, ...]:
    """Return the columns of a model's fields, in their order.

    Raises:
        TypeError: a field has a type that no column type is defined for.
    """
    return tuple(
        Column(
            name=field.alias or name,
            type=_column_type(field.annotation),
            description=field.description or "",
        )
        for name, field in model.model_fields.items()
    )


def column_types(row: type) -> dict[str, str]:
    """Return the type of each column of a model or dataclass by its name; a dataclass within has several."""
    if issubclass(row, BaseModel):
        return {column.name: column.type for column in columns_of(row)}
    found: dict[str, str] = {}
    for name, hint in get_type_hints(row).items():
        found |= (
            column_types(hint)
            if isinstance(hint, type) and is_dataclass(hint)
            else {name: _column_type(hint)}
        )
    return found


def _column_type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (types.UnionType, Union):  # `X | None`
        (inner,) = (one for one in arguments if one is not types.NoneType)
        return _column_type(inner)
    if origin is Literal:
        return _column_type(type(arguments[0]))
    if origin in (list, tuple):
        return f"{_column_type(arguments[0])}[]"
    if origin in (dict, Mapping):
        return f"MAP({_column_type(arguments[0])}, {_column_type(arguments[1])})"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = ", ".join(f'"{name}" {kind}' for name, kind in column_types(annotation).items())
        return f"STRUCT({fields})"
    if annotation in SCALARS:
        return SCALARS[annotation]
    raise TypeError(f"no column type is defined for {annotation}")
