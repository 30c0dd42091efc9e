"""From what is the same or alike to clusters: rows to export, counts, and the copies that could go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from clipmod_cli.output.columns import columns_of
from clipmod_cli.output.export import TableColumn, TableRows
from clipmod_cli.records import Record
from clipmod_cli.review.dedupe.items import DedupeItems, FoundItem
from clipmod_cli.review.dedupe.leaders import Floats, Indices

_FROM_RECORD: Final = (
    "source", "source_b64", "member", "member_b64", "kind", "sha256", "width", "height", "bytes",
)  # fmt: skip

_CLUSTERS: Final = """
    CREATE TABLE clusters AS
    SELECT dense_rank() OVER (ORDER BY first_line) AS cluster, * FROM (
        SELECT items.*, items.line = leader.item AS representative, links.measure,
        leader_item.member IS NULL AND NOT contains(leader_item.source, '://') AS is_of_file,
        min(items.line) OVER (PARTITION BY links.leader) AS first_line,
        count(*) OVER (PARTITION BY links.leader) AS size
        FROM items JOIN contents AS own ON items.sha256 = own.sha256
        JOIN links ON links.content = own.content
        JOIN contents AS leader ON leader.content = links.leader
        JOIN items AS leader_item ON leader_item.line = leader.item
    ) WHERE size >= ? ORDER BY cluster, representative DESC, line
"""
_COUNTS: Final = """
    SELECT count(*) FILTER (representative AND size > 1) AS clusters,
    count(*) FILTER (size > 1) AS inputs,
    coalesce(sum(bytes) FILTER (NOT representative), 0)::BIGINT AS bytes FROM clusters
"""
_HASHES: Final = """
    SELECT list(sha256 ORDER BY first DESC, line) AS hashes FROM (
        SELECT cluster, sha256, bool_or(representative) AS first, min(line) AS line
        FROM clusters GROUP BY cluster, sha256
    ) GROUP BY cluster HAVING count(*) > 1 ORDER BY cluster
"""
_COPIES: Final = "SELECT line FROM clusters WHERE NOT representative AND is_of_file"


@dataclass(frozen=True, slots=True)
class ClusterCounts:
    """What was found: clusters of at least two, the inputs in them, and the bytes of all but the largest."""

    clusters: int
    inputs: int
    bytes: int

    @property
    def copies(self) -> int:
        """How many inputs are not the representative of their cluster."""
        return self.inputs - self.clusters


SHA256: Final = TableColumn(
    name="distance", value="measure::BIGINT", type="BIGINT", description="0: the same bytes"
)
PDQ: Final = TableColumn(
    name="distance",
    value="measure::BIGINT",
    type="BIGINT",
    description="Bits of 256 in which its PDQ hash differs from that of the representative",
)
EMBEDDING: Final = TableColumn(
    name="similarity", value="measure", type="DOUBLE", description="Mean cosine to the representative"
)


@dataclass(frozen=True, slots=True)
class Clusters:
    """The clusters of some inputs, in the table `clusters`.

    Attributes:
        measure: what a member's number in the column of this name is, to its representative.
    """

    items: DedupeItems
    measure: TableColumn

    @classmethod
    def build(
        cls, items: DedupeItems, leaders: Indices, measures: Floats, measure: TableColumn, *, singles: bool
    ) -> Clusters:
        """Make the table.

        Args:
            items: the inputs.
            leaders: of each content the one that represents it, `(n,)`.
            measures: of each content to its leader, `(n,)`.
            measure: the column of these.
            singles: have clusters of one input too.
        """
        links = {"content": np.arange(len(leaders)), "leader": leaders, "measure": measures}
        items.reader.connection.register("links", links)
        items.reader.execute(_CLUSTERS, [1 if singles else 2])
        items.reader.connection.unregister("links")
        return cls(items, measure)

    def count(self) -> ClusterCounts:
        """Return the counts."""
        (row,) = self.items.reader.rows(_COUNTS)
        return ClusterCounts(**row)

    def rows(self) -> TableRows:
        """Return the rows to export: clusters by their first inputs, in each the representative first."""
        (row,) = self.items.reader.rows("SELECT count(*) AS n FROM clusters")
        return TableRows(reader=self.items.reader, view="clusters", columns=self._columns(), count=row["n"])

    def contents(self) -> Iterator[list[str]]:
        """Yield the hashes of each cluster of several contents, the representative's first."""
        for row in self.items.reader.rows(_HASHES):
            yield row["hashes"]

    def copies(self) -> Iterator[FoundItem]:
        """Yield the files that are not the representative, where that is a file of this machine too."""
        for item, _ in self.items.find(f"line IN ({_COPIES})"):
            if item.is_file:
                yield item

    def _columns(self) -> list[TableColumn]:
        known = {column.name: column for column in columns_of(Record)}
        listed = [(name, known[name].type, known[name].description) for name in _FROM_RECORD]
        first = [
            ("cluster", "BIGINT", "Number of the cluster, from 1"),
            ("representative", "BOOLEAN", "The largest of its cluster"),
        ]
        plain = [
            TableColumn(name=name, value=f'"{name}"', type=kind, description=text)
            for name, kind, text in [*first, *listed]
        ]
        return [*plain, self.measure]
