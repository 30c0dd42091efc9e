"""One still picture: bytes → RGB pixels; strictly first, then as much as a truncated file holds."""

from __future__ import annotations

import math
from dataclasses import replace

from PIL import ExifTags, Image, ImageFile, JpegImagePlugin

from clipmod_cli.decode.coverage import geometry_for, plan_views
from clipmod_cli.decode.geometry import EXIF_ORIENTATIONS, UPRIGHT, Orientation, jpeg_scale
from clipmod_cli.decode.job import DecodeJob
from clipmod_cli.decode.limits import check_size
from clipmod_cli.decode.stills.colour_spaces import ColourSpaces, read_colour_spaces
from clipmod_cli.decode.stills.losses import jpeg_loses_pixels, load_simplejpeg, png_loses_rows
from clipmod_cli.decode.stills.mending import load_decoded_rows, mend
from clipmod_cli.decode.stills.opening import decoder_errors, open_picture
from clipmod_cli.decode.stills.planes import keep_premultiplied
from clipmod_cli.decode.stills.readings import Readings, needs_every_pixel, read_picture, read_pixels
from clipmod_cli.decode.transforms import Pictures, Pixels
from clipmod_cli.errors import ItemError

MAX_JPEG_SCANS = 200
"""Progressive JPEGs have about ten scans. Each costs a pass over the whole picture but only a dozen
bytes, so a file of 50 MB could keep a decoder busy for days."""

_EVEN_SAMPLINGS = frozenset({0, 2})
"""Pillow's numbers for 4:4:4 and 4:2:0."""

_BLOCK = 16
"""The side of a JPEG's largest block, in pixels."""

_START_OF_SCAN = b"\xff\xda"
_JPEG_END = b"\xff\xd9"


def decode_still(job: DecodeJob) -> Pictures:
    """Return the readings of the picture in a job's bytes; raises ItemError.

    If strict decoding fails, it is retried tolerantly; a picture from that is marked as truncated.
    """
    pictures = _try_to_decode(job)
    if isinstance(pictures, Pictures):
        return pictures
    reason = pictures
    pictures = _try_to_decode(job, mended=mend(job.data, job.format, job.options.limits))
    if isinstance(pictures, str) or all(_is_blank(picture.pixels) for picture in pictures):
        raise ItemError("decode_error", reason)
    job.media.truncated = True
    return pictures


def _try_to_decode(job: DecodeJob, *, mended: bytes | None = None) -> Pictures | str:
    """Return the readings, or why it cannot be decoded: an error would refer to its half-decoded picture.

    Args:
        job: what to decode.
        mended: bytes to decode tolerantly instead of the job's, which still say what the colours are.
    """
    try:
        return _decode(job, mended)
    except ItemError as error:
        if error.code != "decode_error":
            raise
        return error.message


def read_orientation(picture: Image.Image) -> Orientation:
    """Return how a loaded picture is turned for display; upright if its EXIF cannot be read."""
    try:
        return EXIF_ORIENTATIONS.get(picture.getexif().get(ExifTags.Base.Orientation, 1), UPRIGHT)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 — as viewers do with broken EXIF
        return UPRIGHT


def _decode(job: DecodeJob, mended: bytes | None) -> Pictures:
    opened = open_picture(job if mended is None else replace(job, data=mended))
    with decoder_errors(job.format.name):
        spaces = read_colour_spaces(opened, job.data, job.format.name)
    width, height = opened.size
    tolerant = mended is not None
    if job.format.name == "JPEG":
        readings, scale = _decode_jpeg(job, opened, spaces, tolerant=tolerant)
        stored_size = (height, width)
    else:
        with job.gate(width * height * job.format.memory_weight):
            readings, scale = _load(opened, job.format.name, spaces, tolerant=tolerant), 1
        if job.format.name == "PNG" and not tolerant:
            job.media.truncated = job.media.truncated or png_loses_rows(job.data, opened)
        stored_size = readings.size
    orientation = read_orientation(opened)
    size = orientation.store_size(stored_size)
    job.media.height, job.media.width = size
    return Pictures(readings=readings, size=size, orientation=orientation, scale=scale)


def _decode_jpeg(
    job: DecodeJob, opened: ImageFile.ImageFile, spaces: ColourSpaces, *, tolerant: bool
) -> tuple[Readings, int]:
    """Return (readings, by what their sides were divided)."""
    width, height = opened.size
    scans = _count_scans(job.data, opened)
    if scans > MAX_JPEG_SCANS:
        raise ItemError(
            "decode_error", f"this JPEG has {scans} scans, more than the limit of {MAX_JPEG_SCANS}"
        )
    scale = 1
    if not job.options.exact and not needs_every_pixel(spaces, opened.mode):
        scale = min(_scale_for(job, height, width, factor=_chroma_factor(opened)), job.most_scale)
    check_size(width, height, job.options.limits, scale=scale)
    with job.gate(width * height if scans > 1 else math.ceil(width / scale) * math.ceil(height / scale)):
        pixels = None if job.options.exact or tolerant else _decode_fast(job.data, opened, scale)
        if pixels is not None:
            with decoder_errors("JPEG"):
                return read_pixels(pixels, spaces, grey=opened.mode == "L"), scale
        if scale > 1:
            opened.draft(None, (width // scale, height // scale))
        readings = _load(opened, "JPEG", spaces, tolerant=tolerant)
        if not tolerant:
            job.media.truncated = job.media.truncated or jpeg_loses_pixels(job.data)
        return readings, scale


def _scale_for(job: DecodeJob, height: int, width: int, *, factor: int) -> int:
    """Return by what a JPEG's sides may be divided: the least that any view of it needs."""
    coverage = job.options.coverage
    used = [geometry_for(geometry, coverage) for geometry in job.geometries]
    boxes = plan_views((height, width), job.geometries, coverage).boxes
    return min(jpeg_scale(used, box.height, box.width, factor=factor) for box in boxes)


def _chroma_factor(opened: ImageFile.ImageFile) -> int:
    """Return by what the pixels that a scaled JPEG must keep are multiplied for its chroma subsampling.

    Scaling shifts colour edges in 4:2:2 and rarer ones, whose colour has half the pixels along one side only.
    """
    with decoder_errors("JPEG"):
        even = opened.mode == "L" or JpegImagePlugin.get_sampling(opened) in _EVEN_SAMPLINGS
    return 1 if even else 2


def _load(opened: ImageFile.ImageFile, name: str, spaces: ColourSpaces, *, tolerant: bool) -> Readings:
    with decoder_errors(name):
        keep_premultiplied(opened)
        if tolerant:
            return read_picture(load_decoded_rows(opened), spaces)
        opened.load()
        return read_picture(opened, spaces)


def _decode_fast(data: bytes, opened: ImageFile.ImageFile, scale: int) -> Pixels | None:
    """Return the pixels by simplejpeg, decoded into their array; None where Pillow should decode.

    Both use libjpeg-turbo and give the same pixels. Pillow decodes CMYK and all that simplejpeg refuses.
    """
    simplejpeg = load_simplejpeg()
    if simplejpeg is None or opened.mode not in {"RGB", "L"}:
        return None
    height, width = math.ceil(opened.height / scale), math.ceil(opened.width / scale)
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=height, min_width=width, strict=True)
    except ValueError:
        return None
    return pixels if pixels.shape == (height, width, 3) else None


def _count_scans(data: bytes, opened: ImageFile.ImageFile) -> int:
    """Return how many scans an opened JPEG has; with more than one it is held in memory unscaled.

    If the first scan holds all layers, libjpeg reads no other. Else they are counted between the header
    (which may hold a thumbnail) and the end marker (behind which phones put films).
    """
    if opened.fp is None:
        return 1
    first = opened.fp.tell()
    if "progressive" not in opened.info and _has_all(data, first, getattr(opened, "layers", 0)):
        return 1
    end = data.find(_JPEG_END, first)
    return 1 + data.count(_START_OF_SCAN, first, len(data) if end < 0 else end)


def _has_all(data: bytes, end: int, layers: int) -> bool:
    """Return whether the scan whose header ends at `end` has all layers (ITU-T T.81, B.2.3).

    The header is a length of two bytes, the number of components, two bytes for each, and three more.
    """
    length = 2 * layers + 6
    return data[end - length : end - length + 3] == length.to_bytes(2, "big") + bytes((layers,))


def _is_blank(pixels: Pixels) -> bool:
    """Return whether the pixels are a decoder's filler only.

    The first block does not count: libjpeg invents one where there are no data at all.
    """
    filler = pixels[-1, -1]
    below, beside = pixels[_BLOCK:], pixels[:_BLOCK, _BLOCK:]
    return bool((below == filler).all() and (beside == filler).all())
