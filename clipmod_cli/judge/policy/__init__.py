"""Policies: frozen values, their reading from TOML, and the checks of a file. Judges nothing."""

from clipmod_cli.judge.policy.reading import (
    DEFAULT_POLICY,
    builtin_names,
    builtin_text,
    load_policy,
    parse_policy,
    policy_from_classes,
    read_policy,
)
from clipmod_cli.judge.policy.values import (
    Category,
    Policy,
    Safety,
    Sensitivity,
    model_notes,
    seen_categories,
    unseen_categories,
)

__all__ = [
    "DEFAULT_POLICY",
    "Category",
    "Policy",
    "Safety",
    "Sensitivity",
    "builtin_names",
    "builtin_text",
    "load_policy",
    "model_notes",
    "parse_policy",
    "policy_from_classes",
    "read_policy",
    "seen_categories",
    "unseen_categories",
]
