"""Settings that have no effect: which exclude each other, and which need another one.

On the command line both are faults. Of two that exclude each other from different places, the flag beats the
environment, and that the settings file. What a variable or the file sets for other commands has no effect in
this one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from clipmod_cli.settings.definition import Origin, Settings

STDOUT_NAMES: Final = frozenset({"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"})
"""Names of stdout. Opened as files, the last three would be stderr."""

_RANK: Final[Mapping[Origin, int]] = {"flag": 0, "environment": 1, "file": 2, "default": 3}


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Two settings of which one alone can have an effect.

    Attributes:
        values: those of the first that exclude the second; all but false ones if empty.
    """

    one: str
    other: str
    why: str
    values: tuple[str, ...] = ()


EXCLUSIONS: Final = (
    Exclusion("policy", "classes", "classes take the place of a policy"),
    Exclusion("sensitivity", "threshold", "a threshold takes the place of a sensitivity"),
    Exclusion("db", "no_db", "no statistics are kept"),
    Exclusion("cache_mb", "no_cache", "no evidence is cached"),
    Exclusion("quiet", "verbose", "one prints less and the other more"),
    Exclusion("progress", "quiet", "no progress is shown", ("plain", "json")),
    Exclusion("resume", "overwrite", "what the output contains is discarded", ("yes", "verify")),
    Exclusion("prune", "overwrite", "what the output contains is discarded", ("yes", "all")),
    Exclusion("retry", "overwrite", "what the output contains is discarded"),
    Exclusion("evidence", "early_exit", "the evidence would be incomplete"),
    Exclusion("early_exit", "stop_on_hit", "pictures have to be judged to their end", ("calibrated",)),
    Exclusion("evidence", "stop_on_hit", "the evidence would be incomplete"),
    Exclusion("allow_ports", "allow_private", "any port is allowed"),
    Exclusion("api_keys_file", "no_auth", "no key is asked for"),
    Exclusion("image_expiry_hours", "no_hosting", "no pictures are kept"),
    Exclusion("hosting_mb", "no_hosting", "no pictures are kept"),
    Exclusion("hosting_files", "no_hosting", "no pictures are kept"),
    Exclusion("keep_metadata", "no_hosting", "no pictures are kept"),
    Exclusion("predictions_mb", "no_predictions", "no prediction files are written"),
    Exclusion("predictions_files", "no_predictions", "no prediction files are written"),
)


@dataclass(frozen=True, slots=True)
class Need:
    """A setting that has an effect only beside another one.

    Attributes:
        met: whether the settings have what it needs.
        without: what is missing, for a message.
    """

    name: str
    met: Callable[[Settings], bool]
    without: str


def has_file(settings: Settings) -> bool:
    """Whether the records go into a file that stays."""
    return settings.output is not None and settings.output not in STDOUT_NAMES


def names_parts(settings: Settings) -> bool:
    """Whether the records go into parts: `-o` ends in a slash, is a folder or in an object store."""
    name = settings.output
    if name is None or name in STDOUT_NAMES:
        return False
    return name.endswith(("/", os.sep)) or "://" in name or os.path.isdir(os.path.expanduser(name))  # noqa: PTH111, PTH112


def _is_calibrated(settings: Settings) -> bool:
    return settings.early_exit == "calibrated"


def _is_on_ray(settings: Settings) -> bool:
    return settings.engine == "ray"


NEEDS: Final = (
    *(
        Need(name, _is_on_ray, "--engine ray")
        for name in ("address", "actors", "cpus_per_actor", "gpus_per_actor")
    ),
    Need("unsafe", lambda s: s.classes is not None, "--classes"),
    Need("overwrite", lambda s: has_file(s) or s.evidence is not None, "-o FILE"),
    Need("prune", has_file, "-o FILE"),
    Need("retry", has_file, "-o FILE"),
    Need("resume", has_file, "-o FILE"),
    *(
        Need(name, names_parts, "-o FOLDER/")
        for name in ("shard", "plan_only", "extend", "part_size", "format")
    ),
    Need("engine", lambda s: names_parts(s) or s.engine == "none", "-o FOLDER/"),
    Need("risk", _is_calibrated, "--early-exit calibrated"),
    Need("screen", lambda s: _is_calibrated(s) or s.screen == "none", "--early-exit calibrated"),
    Need("retention", lambda s: not (s.no_db and s.no_cache), "statistics or a cache"),
)


def losers(values: Mapping[str, Any], origins: Mapping[str, Origin]) -> Iterator[tuple[str, str, str]]:
    """Yield (setting, the one that excludes it, why) for each setting that loses.

    The first two are equally strong, so a fault, if they come from the same place.
    """
    for pair in EXCLUSIONS:
        if not (_is_active(pair.one, values, pair.values) and _is_active(pair.other, values)):
            continue
        if _RANK[origins[pair.one]] < _RANK[origins[pair.other]]:
            yield pair.other, pair.one, pair.why
        else:
            yield pair.one, pair.other, pair.why


def _is_active(name: str, values: Mapping[str, Any], only: tuple[str, ...] = ()) -> bool:
    value = values.get(name)
    if only:
        return value in only
    return value is not None and str(value).lower() not in {"", "0", "false", "no", "off", "n", "f"}
