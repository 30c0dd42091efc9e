"""A film whose picture stands still for a while costs the models no more than its different pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from clipmod_cli.decode.limits import Coverage, DecodeOptions, parse_frames
from clipmod_cli.ensemble.cache import DUPLICATE_CACHE_BYTES
from clipmod_cli.ensemble.ensemble import Ensemble, Member
from clipmod_cli.judge.prepare import prepare
from clipmod_cli.pipeline import Options, run
from clipmod_cli.types import Frame, Item, Seen, Verdict
from tests.colour_models import POLICY, RedEmbedder
from tests.video.films import picture, write_film


@dataclass
class Counting(RedEmbedder):
    """Counts the frames that it is shown."""

    shown: list[int] = field(default_factory=list)

    def infer(self, frames: Sequence[Frame]) -> Sequence[Seen]:
        self.shown.append(len(frames))
        return RedEmbedder.infer(self, frames)


def _shown(film: Path, frames: str, *, remember: bool) -> tuple[int, list[float]]:
    """Return how many frames the model was shown, and the score of each frame in the record."""
    model = Counting()
    ensemble = Ensemble([Member(model, 1.0)], batch_size=4)
    decode = DecodeOptions(frames=parse_frames(frames), coverage=Coverage(full=False))
    options = Options(decode=decode, duplicate_cache_bytes=DUPLICATE_CACHE_BYTES if remember else 0)
    (result,) = run(
        [Item(source=str(film), index=0)], ensemble, prepare(ensemble, POLICY, threshold=0.5), options
    )
    assert isinstance(result, Verdict)
    return sum(model.shown), [frame.unsafe_score for frame in result.frames]


@pytest.mark.parametrize("frames", ["auto", "key", "fps=2", "dense"])
def test_equal_frames_of_a_film_are_shown_once(tmp_path: Path, frames: str) -> None:
    # each frame is coded alone, so that those of one picture are equal; four still shots of each
    pictures = [picture(name) for _ in range(4) for name in ("blue square", "red circle") for _ in range(6)]
    film = write_film(tmp_path / "film.avi", pictures, rate=2, gop=1, codec="mjpeg", pix_fmt="yuvj420p")
    shown, scores = _shown(film, frames, remember=True)
    every, same = _shown(film, frames, remember=False)
    assert (shown, every) == (2, len(scores))
    assert len(scores) >= 8, "at least a frame of each shot is in the record"
    assert scores == same
