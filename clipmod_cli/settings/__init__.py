"""Every setting: what there is (`definition`), and what holds in this run (`reading`)."""

from clipmod_cli.settings.definition import (
    ENV_PREFIX,
    Group,
    Option,
    Origin,
    Settings,
    Wanted,
    flag_of,
    option_of,
)
from clipmod_cli.settings.reading import Resolved, count_of, default_config_path, resolve

__all__ = [
    "ENV_PREFIX",
    "Group",
    "Option",
    "Origin",
    "Resolved",
    "Settings",
    "Wanted",
    "count_of",
    "default_config_path",
    "flag_of",
    "option_of",
    "resolve",
]
