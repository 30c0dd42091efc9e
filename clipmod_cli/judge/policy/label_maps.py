"""Which labels of a policy's label maps are listed twice and may not be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from clipmod_cli.toml_lines import TomlPath


def repeated_labels(
    labels: Iterable[tuple[TomlPath, str, tuple[str, str]]], unsafe: Collection[TomlPath]
) -> Iterator[tuple[TomlPath, str, TomlPath]]:
    """Return each repeated label's path, its name in the message, and the path where it stands already.

    A classifier's label may be listed under several UNSAFE categories that the model does not tell apart.
    A detector's may not: it says what it sees.

    Args:
        labels: the path of each, its name in messages, and (spec, label).
        unsafe: the paths of the UNSAFE categories.
    """
    listed: dict[tuple[str, str], list[TomlPath]] = {}
    for path, name, key in labels:
        earlier = listed.setdefault(key, [])
        clash = next((o for o in earlier if key[0] == "nudenet" or not _may_share(o, path, unsafe)), None)
        if clash is not None:
            yield path, name, clash
        earlier.append(path)


def _may_share(one: TomlPath, other: TomlPath, unsafe: Collection[TomlPath]) -> bool:
    return one[:2] != other[:2] and one[:2] in unsafe and other[:2] in unsafe
