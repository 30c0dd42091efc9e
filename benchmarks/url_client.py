"""The library's way with a list of URLs, without a model worth the name: what the client itself costs.

    python -m benchmarks.url_client downloads|null LIST

`downloads` takes what comes and drops it; `null` decodes it as for the ensemble's towers, in worker
processes, and asks a model that looks at nothing. Prints how many results there were.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.judge.policy.values import Category, Policy
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.models.seam import ImmediateModel
from clipmod_cli.pipeline import Options, run
from clipmod_cli.sources.web.addresses import AddressRules, FetchRules
from clipmod_cli.sources.web.downloads import Downloads
from clipmod_cli.types import Failure, Frame, Geometry, Item, LabelScores, Seen

GEOMETRY = Geometry(fit="shortest", size=(224, 224), crop=(224, 224))
SPEC = "hf:null"
POLICY = Policy(
    name="null",
    categories=(
        Category(name="fine", safety="SAFE", labels={SPEC: ("fine",)}),
        Category(name="bad", safety="UNSAFE", labels={SPEC: ("bad",)}),
    ),
)


class NullModel(ImmediateModel):
    """Says of everything that it is fine."""

    name = "null"
    spec = SPEC
    revision = "1"
    geometry = GEOMETRY
    kind: Literal["classifier"] = "classifier"
    labels = ("fine", "bad")

    def infer(self, frames: Sequence[Frame]) -> Sequence[Seen]:
        """Return the same for each frame."""
        return [LabelScores(scores={"fine": 1.0, "bad": 0.0}) for _ in frames]


def main() -> None:
    kind, listed = sys.argv[1:]
    urls = Path(listed).read_text(encoding="utf-8").splitlines()
    downloads = Downloads(
        (Item(source=url, index=index) for index, url in enumerate(urls)),
        FetchRules(access=AddressRules(private=True)),
    )
    if kind == "downloads":
        seen = Counter(isinstance(one, Item) for one in downloads)
    else:
        ensemble = Ensemble((Member(NullModel(), 1.0),), batch_size=32)
        criteria = prepare(ensemble, POLICY, threshold=0.5)
        results = run(downloads, ensemble, criteria, Options(isolate=True))
        seen = Counter(not isinstance(one, Failure) for one in results)
    if seen != {True: len(urls)}:
        raise SystemExit(f"{dict(seen)} results, {len(urls)} URLs")


if __name__ == "__main__":
    main()
