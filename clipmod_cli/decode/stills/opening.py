"""Opens bytes with the one Pillow plugin for their format, and turns its errors into ItemErrors.

Pillow's own registry is not asked: the format was sniffed, so no second plugin (EPS, PSD, MPO ...)
can be talked into opening the bytes, and Pillow's process-wide size limit does not come into it.
Leaves pixels to `still` and `animation`.
"""

from __future__ import annotations

import importlib
import io
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import cast

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from clipmod_cli.decode.formats import class_of, sniff
from clipmod_cli.decode.job import DecodeJob
from clipmod_cli.decode.limits import DecodeOptions, check_size
from clipmod_cli.errors import ItemError

_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}

_HEIC_REFUSED = (
    "HEIC pictures are read only where they are allowed and the heic extra is installed:"
    " pip install 'clipmod[heic]'"
)

_WEIGHTS = {"JPEG": 1, "WEBP": 4, "AVIF": 3, "HEIF": 3}
_WEIGHT = 2
"""Pixels of the budget for one of the picture, by what decoders hold: a JPEG goes straight into its
array of 3 bytes a pixel. Measured at 50 megapixels, PNG and TIFF take 7 bytes a pixel, AVIF 9 and WebP
15; so whatever the formats, a budget of 200 megapixels is less than 800 MB."""

_DECODERS = r"(PIL|pillow_heif)(\.|$)"
"""The modules whose warnings about odd files are nobody's business: the record tells what counts."""

_filter_lock = threading.Lock()

_MOST_JPEG_SCALING = 8
"""The most that a JPEG's sides are divided by while decoding."""

_MAX_REASON = 200
"""Characters of a decoder's own words in a message; some quote the file's bytes."""

logging.getLogger("PIL").addHandler(logging.NullHandler())


def ungated(_pixels: int) -> AbstractContextManager[None]:
    """Return a gate that is always open."""
    return nullcontext()


def held_pixels(name: str, width: int, height: int) -> int:
    """Return how many pixels of the budget decoding a picture takes, by the memory that its decoder needs."""
    return width * height * _WEIGHTS.get(name, _WEIGHT)


def hush_decoders() -> None:
    """Make sure that a decoder's warning neither prints nor raises, in any thread.

    A filter stands before all others from the first call on. `warnings.catch_warnings` around each
    decode would swap the process-wide filters under the other threads' feet. Called for every item:
    somebody may have put another filter (`error`) in front since.
    """
    if _is_hushed():
        return
    with _filter_lock:
        if not _is_hushed():
            warnings.filterwarnings("ignore", module=_DECODERS)


def _is_hushed() -> bool:
    if not warnings.filters:
        return False
    pattern = warnings.filters[0][3]
    return getattr(pattern, "pattern", pattern) == _DECODERS


@contextmanager
def decoder_errors(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises inside into an ItemError that names the format."""
    try:
        yield
    except ItemError:
        raise
    except MemoryError as error:
        raise ItemError("out_of_memory", f"there is not enough memory to decode this {name}") from error
    except Image.DecompressionBombError as error:
        raise ItemError("too_many_pixels", _shorten(str(error))) from error
    except Exception as error:
        reason = _shorten(str(error)) or type(error).__name__
        raise ItemError("decode_error", f"cannot be decoded as {name}: {reason}") from error


def identify(data: bytes, options: DecodeOptions) -> str:
    """Return the name of the picture format; raises ItemError(`unsupported_format`) for all else."""
    name = sniff(data)
    if name is None:
        raise ItemError("unsupported_format", "this is no picture of a known format")
    match class_of(name):
        case "video":  # its first bytes were looked at before, and were something else
            raise ItemError("read_error", "the file changed while it was read")
        case "archive":
            raise ItemError(
                "unsupported_format",
                f"this is an archive ({name}); this version judges pictures and animations only:"
                " extract it and scan the folder",
            )
        case "picture":
            if name == "HEIF" and not (options.heic and _heif_plugin()):
                raise ItemError("unsupported_format", _HEIC_REFUSED)
            return name


def open_picture(job: DecodeJob) -> ImageFile.ImageFile:
    """Return the opened, not yet decoded picture, its declared size noted and within the limits.

    Raises ItemError. The caller checks the pixels of a JPEG again, once its scaling is known.
    """
    limits = job.options.limits
    if job.name == "WEBP":  # opening it already allocates the canvas
        check_size(*_webp_canvas(job.data), limits)
    plugin = _heif_plugin() if job.name == "HEIF" else _PLUGINS[job.name]
    if plugin is None:
        raise ItemError("unsupported_format", _HEIC_REFUSED)
    with decoder_errors(job.name):
        picture = plugin(io.BytesIO(job.data))
    job.notes.learn(width=picture.width, height=picture.height)
    check_size(*picture.size, limits, scale=_MOST_JPEG_SCALING if job.name == "JPEG" else 1)
    return picture


@cache
def _heif_plugin() -> type[ImageFile.ImageFile] | None:
    try:
        heif = importlib.import_module("pillow_heif")
    except ImportError:
        return None
    return cast("type[ImageFile.ImageFile]", heif.HeifImageFile)


def _webp_canvas(data: bytes) -> tuple[int, int]:
    """Return (width, height) from a WebP's first chunk; (0, 0) where it is not understood.

    The three layouts are those of the WebP container specification and of RFC 6386 and RFC 9649.
    """
    match data[12:16]:
        case b"VP8X":
            return (
                int.from_bytes(data[24:27], "little") + 1,
                int.from_bytes(data[27:30], "little") + 1,
            )
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            return (
                int.from_bytes(data[26:28], "little") & 0x3FFF,
                int.from_bytes(data[28:30], "little") & 0x3FFF,
            )
        case _:
            return 0, 0


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_REASON else text[:_MAX_REASON] + "..."
