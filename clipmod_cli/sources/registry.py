"""The table of sources by scheme, and the expansion of names into Items."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from clipmod_cli.errors import MissingPackageError
from clipmod_cli.install import install_command
from clipmod_cli.sources.base import Rules, Skipped, Source, SourceInput
from clipmod_cli.sources.lists import read_list
from clipmod_cli.sources.local import LocalFiles
from clipmod_cli.sources.stores.hub import HfStore, split_repository
from clipmod_cli.sources.stores.objects import GsStore, S3Store
from clipmod_cli.sources.stores.source import ObjectStoreSource
from clipmod_cli.types import Failure, Item


@dataclass(frozen=True, slots=True)
class SourceKind:
    """How to open the source of one scheme for a run, and the package of the extra `stores` that it needs."""

    open: Callable[[], Source]
    package: str | None = None


SOURCES: dict[str, SourceKind] = {
    "": SourceKind(LocalFiles),
    "s3": SourceKind(partial(ObjectStoreSource, S3Store), package="s3fs"),
    "gs": SourceKind(partial(ObjectStoreSource, GsStore), package="gcsfs"),
    "hf": SourceKind(partial(ObjectStoreSource, HfStore, split=split_repository)),
}
"""By what a name has before `://`. Names without one of these schemes are local paths."""


class Sources:
    """The sources of one run, each opened when the first name of its scheme comes."""

    def __init__(self) -> None:
        self._opened: dict[str, Source] = {}

    def find(self, name: str) -> Source:
        """Return the source of a name.

        Raises:
            MissingPackageError: if the package for this scheme is not installed.
        """
        scheme = scheme_of(name)
        if scheme not in self._opened:
            check_packages([name])
            self._opened[scheme] = SOURCES[scheme].open()
        return self._opened[scheme]


def scheme_of(name: str) -> str:
    """Return the scheme of a name, "" for a local path; `./s3:/x` is a path."""
    scheme, separator, _ = name.partition("://")
    return scheme if separator and scheme in SOURCES else ""


def check_packages(names: Iterable[str]) -> None:
    """Raise MissingPackageError if a package that one of these names needs is not installed."""
    for scheme in map(scheme_of, names):
        package = SOURCES[scheme].package
        if package is not None and importlib.util.find_spec(package) is None:
            raise MissingPackageError(f"{scheme}:// needs the package {package}: {install_command('stores')}")


def list_inputs(names: Iterable[str], rules: Rules, skipped: Skipped) -> Iterator[SourceInput]:
    """Yield the inputs that names stand for, in the order of `expand`, archives as one.

    Raises:
        MissingPackageError: if the package for an object store is not installed.
    """
    sources = Sources()
    for given in names:
        for name in read_list("-", null=rules.null) if given == "-" else (given,):
            yield from sources.find(name).list(name, rules, skipped)


def expand(names: Iterable[str], rules: Rules, skipped: Skipped | None = None) -> Iterator[Item | Failure]:
    """Yield one Item for each input, in order; folders sorted by the bytes of their names.

    `-` reads a list of names from stdin. A path that does not exist is an Item too: decoding it fails with
    `not_found`. Objects in a store come as `StoredItem`s, which `stores.fetch` turns into Items with bytes.

    Raises:
        MissingPackageError: if the package for an object store is not installed.
    """
    counts = skipped if skipped is not None else Skipped()
    sources = Sources()
    found = (
        item
        for given in names
        for name in (read_list("-", null=rules.null) if given == "-" else (given,))
        for item in sources.find(name).expand(name, rules, counts)
    )
    for index, one in enumerate(found):
        if isinstance(one, Failure):
            yield replace(one, item=replace(one.item, index=index))
        else:
            yield replace(one, index=index)
