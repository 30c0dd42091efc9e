"""The PDQ hash of a still while it is decoded: of the picture as displayed, in its first reading."""

from __future__ import annotations

from clipmod_cli.decode.job import DecodeJob, PixelTest
from clipmod_cli.decode.stills.pdq import LEAST_QUALITY, pdq_of
from clipmod_cli.decode.transforms import Picture, Pictures, Pixels, turn
from clipmod_cli.types import Media


def note_pdq(media: Media, picture: Picture) -> None:
    """Note the hash of a picture of full size; none if its quality is too low for a match."""
    made = pdq_of(turn(picture.pixels, picture.orientation))
    if made.quality >= LEAST_QUALITY:
        media.pdq = made.bits.hex()


def noting_pdq(job: DecodeJob, still: Pictures) -> PixelTest:
    """Return a job's test of pixels, which also notes the hash of the first ones if they are of full size."""
    waiting = [still.scale == 1]

    def test(pixels: Pixels) -> bool:
        if waiting and waiting.pop():
            note_pdq(job.media, Picture(pixels=pixels, size=still.size, orientation=still.orientation))
        return job.is_wanted(pixels)

    return test
