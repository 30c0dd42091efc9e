"""Opens bytes with the one Pillow plugin of their format, and translates its errors to ItemErrors.

Pillow's own registry and its process-wide size limit are not used, so no other plugin (EPS, PSD, MPO ...)
can open the bytes.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import cast

from PIL import Image, ImageFile

from clipmod_cli.decode.formats import Format, load, picture_formats
from clipmod_cli.decode.job import DecodeJob
from clipmod_cli.decode.limits import DecodeOptions, check_size
from clipmod_cli.errors import ItemError
from clipmod_cli.install import extra_of, install_command

_DECODERS = r"(PIL|pillow_heif)(\.|$)"
"""Modules whose warnings are silenced: the record has what matters."""

_MOST_JPEG_SCALING = 8
"""The most that a JPEG's sides are divided by while decoding."""

_MAX_REASON = 200
"""Characters of a decoder's message in ours; some quote the file's bytes."""

logging.getLogger("PIL").addHandler(logging.NullHandler())


def ungated(_pixels: int) -> AbstractContextManager[None]:
    """Return a gate that is always open."""
    return nullcontext()


def silence_decoders() -> None:
    """Make sure that a decoder's warning neither prints nor raises, in any thread.

    Puts a filter before all others. `warnings.catch_warnings` around each decode would change the filters of
    other threads. Called for every item, since another filter (`error`) may have been put in front.
    """
    pattern = warnings.filters[0][3] if warnings.filters else None
    if getattr(pattern, "pattern", pattern) != _DECODERS:
        warnings.filterwarnings("ignore", module=_DECODERS)


@contextmanager
def decoder_errors(name: str) -> Iterator[None]:
    """Translate any error of a decoder to an ItemError that names the format."""
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


def check_format(known: Format | None, options: DecodeOptions) -> Format:
    """Return the format if it is a video's, or a picture's that can be decoded.

    Raises:
        ItemError: `unsupported_format` for everything else.
    """
    if known is None:
        formats = ", ".join(one.extension for one in picture_formats())
        raise ItemError("unsupported_format", f"not a supported image format ({formats})")
    if known.kind == "archive":
        raise ItemError(
            "unsupported_format",
            f"this is an archive ({known.name}), not an image: extract it and scan the folder",
        )
    if known.package is not None and not options.heic:
        raise ItemError("unsupported_format", f"{known.name} pictures are not accepted here")
    if known.package is not None and _plugin(known) is None:
        raise _lacks_extra(known)
    return known


def _lacks_extra(known: Format) -> ItemError:
    extra = extra_of(known.package or "")
    return ItemError(
        "unsupported_format", f"{known.name} pictures need the extra {extra}: {install_command(extra)}"
    )


def open_picture(job: DecodeJob) -> ImageFile.ImageFile:
    """Return the opened, not yet decoded picture; its declared size is in `job.media` and within the limits.

    Raises ItemError. The caller checks a JPEG's pixels again once its scaling is known.
    """
    limits, name = job.options.limits, job.format.name
    if name == "WEBP":  # opening it already allocates the canvas
        check_size(*_webp_canvas(job.data), limits)
    plugin = _plugin(job.format)
    if plugin is None:
        raise _lacks_extra(job.format)
    with decoder_errors(name):
        picture = plugin(io.BytesIO(job.data))
    job.media.width, job.media.height = picture.size
    check_size(*picture.size, limits, scale=_MOST_JPEG_SCALING if name == "JPEG" else 1)
    return picture


def _plugin(known: Format) -> type[ImageFile.ImageFile] | None:
    """Return the format's Pillow plugin, None if its package is not installed."""
    try:
        return cast("type[ImageFile.ImageFile]", load(known.open))
    except ImportError:
        if known.package is None:
            raise
        return None


# A worker imports this module before its memory is limited: decoders must be loaded by then.
for _known in picture_formats():
    if _known.package is None:
        _plugin(_known)


def _webp_canvas(data: bytes) -> tuple[int, int]:
    """Return (width, height) from a WebP's first chunk; (0, 0) if it cannot be parsed.

    The three layouts are those of the WebP container specification and of RFC 6386 and RFC 9649.
    """
    match data[12:16]:
        case b"VP8X":
            return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            sides = int.from_bytes(data[26:28], "little"), int.from_bytes(data[28:30], "little")
            return sides[0] & 0x3FFF, sides[1] & 0x3FFF
        case _:
            return 0, 0


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_REASON else text[:_MAX_REASON] + "..."
